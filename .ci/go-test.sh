#!/bin/sh
# All Go tests (or those of the packages given), counted: the output of those that fail, why some were skipped, then
# `N passed, N failed, N skipped`. A package that does not build, or fails outside its tests, is a failure, and so is a go
# command that does not get as far as that. Subtests are part of their test.
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || set -- ./...
PATH=$PATH:$PWD/build/tools
out=$(mktemp)
trap 'rm -f "$out"' EXIT
go=$(sh .ci/go-path.sh)
# Some tests build the peers, and do so where there is no network any more.
"$go" list -deps -test ./... github.com/containernetworking/plugins/plugins/... >"$out" 2>&1 || {
	cat "$out"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}
"$go" test -buildvcs=false -json "$@" >"$out" 2>&1
status=$?
# Lines that are no JSON are the go command's own words (a module that cannot be had).
grep -av '^{' "$out"
grep -a '^{' "$out" | jq -rs --argjson status "$status" '
	def top: .Test // "" | split("/")[0];
	map(select(.Action == "build-output").Output) as $build
	| map(select(.Test != null and (.Test | contains("/") | not))) as $tests
	| ($tests | map(select(.Action == "fail") | {p: .Package, t: .Test})) as $bad
	| (map(select(.Action == "fail" and .Test == null).Package) | unique - ($bad | map(.p))) as $packages
	| (($bad + $packages) | length) as $failed
	| ($build | add // empty),
	  (map(select(.Action == "output")) | group_by([.Package, top])[]
		| {p: .[0].Package, t: (.[0] | top)} as $k
		| select(($bad | index($k)) or ($k.t == "" and ($packages | index($k.p)))) | map(.Output) | add),
	  ($packages[] | "FAIL: package " + .),
	  (map(select(.Action == "output" and .Test != null) | .Output | select(test(": need [A-Za-z0-9:_.]+: ")) | sub("^.*: need "; "need ") | rtrimstr("\n"))
		| group_by(.)[] | "skipped: \(length) x \(.[0])"),
	  "\($tests | map(select(.Action == "pass")) | length) passed, \(if $status != 0 and $failed == 0 then 1 else $failed end) failed, \($tests | map(select(.Action == "skip")) | length) skipped"'
exit $status
