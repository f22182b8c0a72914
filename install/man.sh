#!/bin/sh
# Makes the manual pages and completions into $BIN/man and $BIN/completions: bulkhead(8) and the completions from the commands
# themselves, the others from docs/ by go-md2man ($MD2MAN). `make man` calls it; install.sh puts what it finds.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
: "${BIN:=$top/bin}" "${MD2MAN:?the program go-md2man}" "${VERSION:=}"
mkdir -p "$BIN/man" "$BIN/completions"
rm -f "$BIN"/man/* "$BIN"/completions/*
"$BIN/bulkhead" man >"$BIN/man/bulkhead.8"
"$BIN/bulkhead" completion bash >"$BIN/completions/bulkhead.bash"
"$BIN/bulkhead" completion zsh >"$BIN/completions/_bulkhead"
"$BIN/bulkhead" completion fish >"$BIN/completions/bulkhead.fish"

# page NAME SECTION DOC WORDS: the document's own title gives way to the page's name. Links to other documents become their names.
page() {
	{
		printf '%% %s %s "" "bulkhead %s" "bulkhead"\n\n# NAME\n\n%s - %s\n\n# DESCRIPTION\n' "$1" "$2" "$VERSION" "$1" "$4"
		sed -E '1{/^# /d}; s/\[([^]]*)\]\([^)]*\)/\1/g; s/^## (.*)/# \1/; s/^### (.*)/## \1/' "$top/docs/$3"
	} | "$MD2MAN" >"$BIN/man/$1.$2"
}

page bulkhead-policy 5 POLICY.md "the policy file"
page bulkhead-ledger 5 ledger.md "receipts and the ledger they are in"
page bulkhead-hardening 7 hardening.md "what is taken away from a container, why, and what it breaks"
page bulkhead-rogues 8 rogues.md "processes where they should not be, and whether the policy holds"
page bulkhead-usage 8 usage.md "who used what"
page bulkhead-runtime 8 bulkhead-runtime.md "an OCI runtime that tightens, and becomes the real one"
for link in bulkhead-runc bulkhead-crun; do echo '.so man8/bulkhead-runtime.8' >"$BIN/man/$link.8"; done
page precreate-harden 8 precreate-harden.md "OCI hook: tightens a container's config"
page prestart-label 8 prestart-label.md "OCI hook: holds a container to its tenant's SELinux level"
page createruntime-cgroup 8 createruntime-cgroup.md "OCI hook: devices, ceilings, joined namespaces and volumes"
page createruntime-net 8 createruntime-net.md "OCI hook: egressdeny and netlimit where no CNI runs"
page poststop-accounting 8 poststop-accounting.md "OCI hook: closes the account and writes the receipt"
page egressdeny 8 egressdeny.md "CNI plugin: keeps tenants apart at the container's interface"
page netlimit 8 netlimit.md "CNI plugin: rates per container and tenant, and exact counts"
