#!/bin/bash
# payload.sh SUITE LSM TAR TESTS...: what the guest is handed, as a tar: the built programs, install/, the tests, compiled
# Go tests where asked for, and the job (which tests, what is promised).
set -euo pipefail
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"
suite=$1 lsm=$2 out=$3
shift 3
cd "$REPO_DIR"

# a set names its tests in tests/vm/sets, one set a line: name, then files, gotest:PACKAGE or other sets
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
        words=$(awk -v t="$t" '$1 == t { sub(/^[^[:space:]]+[[:space:]]+/, ""); print }' "$VM_DIR/sets")
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
mkdir -p "$work/gotests"
for t in "${tests[@]}"; do
  case $t in gotest:*) ;; *) continue ;; esac
  pkg=${t#gotest:}
  mkdir -p "$work/gotests/$pkg"
  CGO_ENABLED=0 "$go" test -buildvcs=false -c -o "$work/gotests/$pkg/test" "./$pkg" >&2
  [ ! -d "$pkg/testdata" ] || cp -r "$pkg/testdata" "$work/gotests/$pkg/"
done

promised() { awk -v s="$suite" -v l="$lsm" -v what="$1" '$1 ~ /^#/ { next } ($1 == "all" || $1 == s || $1 == l) && $2 == what { for (i = 3; i <= NF; i++) printf "%s ", $i }' "$VM_DIR/promises"; }
mkdir -p "$work/tests/vm/guest"
{
  printf 'SUITE=%q\nLSM=%q\nHAS=%q\nHAS_NOT=%q\nTEST_LIMIT=%q\nFILTER=%q\nNOW=%q\n' "$suite" "$lsm" "$(promised has)" "$(promised has-not)" "${BULKHEAD_VM_TEST_LIMIT:-300}" "${BULKHEAD_VM_FILTER:-}" "$(date +%s)"
  printf 'TESTS=('
  printf '%q ' "${tests[@]}"
  printf ')\n'
} >"$work/tests/vm/guest/env"

# installing wants the list of programs that hooks/, cni/ and cmd/ are, not their sources
parts=()
for p in bin install tests hooks cni cmd docs; do [ ! -e "$p" ] || parts+=("$p"); done
tar --owner=0 --group=0 --exclude='*.go' --exclude=tests/vm/rootfs -cf "$out" "${parts[@]}" -C "$work" tests gotests
