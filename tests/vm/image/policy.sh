#!/bin/bash
# policy.sh: SELinux: the policy with our module, dontaudit rules off, and every file labelled offline.
# ROOT: the guest's tree; SUITE. Needs no SELinux on this host. Must run after everything that writes files.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

sed -i 's/^SELINUX=.*/SELINUX=enforcing/' "$ROOT/etc/selinux/config"
# the kernels of both suites read version 33; the tools would write a newer one
grep -q '^policy-version' "$ROOT/etc/selinux/semanage.conf" || echo 'policy-version = 33' >>"$ROOT/etc/selinux/semanage.conf"
cp "$here/policy/$SUITE.cil" "$ROOT/tmp/bulkheadguest.cil"
# -D: with dontaudit rules in force half of the denials leave no record
chroot "$ROOT" semodule -n -D -s default -i /tmp/bulkheadguest.cil
rm -f "$ROOT/tmp/bulkheadguest.cil"
find "$ROOT/etc/selinux/default/policy" -name 'policy.*' ! -name policy.33 -delete

# bookworm's setfiles writes labels through /proc/self/fd
# shellcheck disable=SC2016 # expanded by the inner shell
unshare -m --propagation private bash -ec '
  mount --bind "$1" "$1"
  mount -t proc proc "$1/proc"
  chroot "$1" setfiles -F -m -q -e /proc /etc/selinux/default/contexts/files/file_contexts /' - "$ROOT"
