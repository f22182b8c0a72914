#!/bin/bash
# What the books cost; `make bench-accounting`. Root, and 10 GB of disk below TMPDIR for the ten million receipts.
#   RECEIPTS=1000000 tests/bench/accounting.sh       fewer of them
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top"
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/bench-accounting-XXXXXX")
trap 'rm -rf "$dir"' EXIT
CGO_ENABLED=0 "$(sh .ci/go-path.sh)" build -buildvcs=false -o "$dir/bench" ./tests/bench/accounting
"${BULKHEAD_BIN:-$top/bin}/test/private" "$dir/bench" -dir "$dir/books" counting
"$dir/bench" -dir "$dir/books" appends
"$dir/bench" -dir "$dir/books" -receipts "${RECEIPTS:-10000000}" fill report
