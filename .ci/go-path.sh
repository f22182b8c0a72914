#!/bin/sh
# Print the go command to use: one that can build this module (1.21 was the first that fetches the toolchain a module
# asks for), else the toolchain that deps.sh fetched, else plain "go".
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
new_enough() {
	v=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	minor=${v#go1.}
	minor=${minor%%[!0-9]*}
	[ "${minor:-0}" -ge 21 ]
}
for go in go /usr/local/go/bin/go "$top/build/_go/bin/go"; do
	if path=$(command -v "$go") && new_enough "$path"; then
		echo "$path"
		exit 0
	fi
done
echo go
