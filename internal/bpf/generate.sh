#!/bin/sh
# Makes NAME.bpf.o from every NAME.c here, with Debian's clang. `generate.sh --check` makes them in a
# temporary directory and fails if a committed object differs: a change of C without `make generate`, or the
# other way round.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
CLANG=${CLANG:-clang} STRIP=${LLVM_STRIP:-llvm-strip}
arch=$(uname -m | sed 's/x86_64/x86/; s/aarch64/arm64/')
out=$here
[ "${1:-}" != --check ] || { out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; }
rc=0
for c in *.c; do
	o=${c%.c}.bpf.o
	"$CLANG" -O2 -g -Wall -Werror -target bpf -mcpu=v3 "-D__TARGET_ARCH_$arch" "-I/usr/include/$(uname -m)-linux-gnu" \
		-fdebug-prefix-map="$here"=. -ffile-prefix-map="$here"=. -c "$c" -o "$out/$o"
	"$STRIP" -g "$out/$o"
	[ "$out" = "$here" ] || cmp -s "$out/$o" "$here/$o" || {
		echo "internal/bpf/$o: is not what $c makes: run 'make generate' and commit it" >&2
		rc=1
	}
done
exit $rc
