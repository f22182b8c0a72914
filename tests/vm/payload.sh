#!/bin/bash
# payload.sh SUITE LSM TAR TESTS...: what the guest is handed, as a tar: the repository with the built programs, compiled
# Go tests where asked for, and the job (which tests, what is promised).
set -euo pipefail
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"
suite=$1 lsm=$2 out=$3
shift 3
cd "$REPO_DIR"

# a set names its tests in tests/vm/sets, one set a line: name, then files, gotest:PACKAGE[:PATTERN] or other sets
tests=()
expand() {
  local t words
  for t in "$@"; do
    case $t in
      gotest:*) tests+=("$t") ;;
      *.bats)
        [ -e "$t" ] || die "find tests \"$t\": no such file in $REPO_DIR"
        tests+=("$t")
        ;;
      *)
        # a set may differ by guest: NAME@LSM, NAME@SUITE and NAME@SUITE-LSM are added to NAME
        words=$(awk -v t="$t" -v l="$t@$lsm" -v s="$t@$suite" -v b="$t@$suite-$lsm" \
          '$1 == t || $1 == l || $1 == s || $1 == b { sub(/^[^[:space:]]+[[:space:]]+/, ""); print }' "$VM_DIR/sets")
        [ -n "$words" ] || die "find tests \"$t\": no such set in tests/vm/sets"
        # shellcheck disable=SC2086 # words and globs of a set
        expand $words
        ;;
    esac
  done
}
expand "$@"

work=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-payload.XXXXXX")
trap 'rm -rf "$work"' EXIT

go=$(sh .ci/go-path.sh)
for t in "${tests[@]}"; do
  case $t in gotest:*) ;; *) continue ;; esac
  pkg=${t#gotest:} pkg=${pkg%%:*}
  [ ! -e "$work/$pkg/guest.test" ] || continue
  mkdir -p "$work/$pkg"
  CGO_ENABLED=0 "$go" test -buildvcs=false -ldflags '-s -w' -c -o "$work/$pkg/guest.test" "./$pkg" >&2
  # a package that runs programs of its own has them built here, where there is a compiler
  [ ! -x "$pkg/build.sh" ] || "$pkg/build.sh" "$work/$pkg/bin" >&2
done

# A bats file may want what is made here, where there is a network and a compiler: "# bats: payload COMMAND DIR" has COMMAND put it into DIR
for t in "${tests[@]}"; do
  case $t in *.bats) ;; *) continue ;; esac
  while read -r command dir; do "./$command" "$work/$dir" "$suite" >&2; done < <(sed -n 's/^# bats: payload //p' "$t")
done

promised() { awk -v s="$suite" -v l="$lsm" -v what="$1" '$1 ~ /^#/ { next } ($1 == "all" || $1 == s || $1 == l) && $2 == what { for (i = 3; i <= NF; i++) printf "%s ", $i }' "$VM_DIR/promises"; }
mkdir -p "$work/tests/vm/guest"
{
  printf 'SUITE=%q\nLSM=%q\nHAS=%q\nHAS_NOT=%q\nTEST_LIMIT=%q\nFILTER=%q\nNOW=%q\n' "$suite" "$lsm" "$(promised has)" "$(promised has-not)" "$((${BULKHEAD_VM_TEST_LIMIT:-150} * $(load_percent) / 100))" "${BULKHEAD_VM_FILTER:-}" "$(date +%s)"
  printf 'TESTS=('
  printf '%q ' "${tests[@]}"
  printf ')\n'
} >"$work/tests/vm/guest/env"

# with the sources: Go tests read files beside them, and installing wants the lists that hooks/, cni/ and cmd/ are
tar --owner=0 --group=0 --exclude=./.git --exclude=./build --exclude=./tests/vm/rootfs -cf "$out" -C "$REPO_DIR" . -C "$work" .
