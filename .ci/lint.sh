#!/bin/sh
# gofmt, go vet, staticcheck over all Go; shellcheck over all shell. Prints what is wrong and nothing else.
set -u
: "${GO:=go}" "${STATICCHECK:=honnef.co/go/tools/cmd/staticcheck@latest}"
top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 1
rc=0

sources() { git ls-files --cached --others --exclude-standard "$@" | while read -r f; do [ ! -f "$f" ] || echo "$f"; done; }

files=$(sources '*.go')
# shellcheck disable=SC2086 # a list of words
unformatted=$("$("$GO" env GOROOT)/bin/gofmt" -l $files)
if [ -n "$unformatted" ]; then
	echo "gofmt: not formatted:"
	echo "$unformatted"
	rc=1
fi
"$GO" vet ./... || rc=1

# Built once into build/; outside the module, so that go.mod does not name it.
tool=$top/build/staticcheck-${STATICCHECK##*@}
if [ ! -x "$tool" ]; then
	mkdir -p "$top/build"
	GOBIN=$top/build GOFLAGS=-buildvcs=false "$GO" install "$STATICCHECK" && mv "$top/build/staticcheck" "$tool" || exit 1
fi
"$tool" ./... || rc=1

# Shell by suffix or by first line; bats files are bash with another first line.
sources | while read -r f; do
	case $f in
	*.sh | *.bash | *.bats) echo "$f" ;;
	*.*) ;;
	*) head -c 64 "$f" | head -n 1 | grep -qaE '^#!.*[/ ](ba)?sh' && echo "$f" ;;
	esac
done | xargs -r shellcheck -x -S warning || rc=1
exit $rc
