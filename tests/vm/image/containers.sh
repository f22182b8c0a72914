#!/bin/bash
# containers.sh: a container image of busybox-static, as a tree, a tar and in root's podman store, so that no registry
# is needed and no test pays for an import. ROOT: the guest's tree.
set -euo pipefail

tree=$ROOT/usr/local/share/busybox
mkdir -p "$tree"/{bin,etc,tmp,proc,sys,dev,root,run,usr/bin,var}
chmod 1777 "$tree/tmp"
cp "$ROOT/bin/busybox" "$tree/bin/busybox"
chroot "$ROOT" /bin/busybox --list | while read -r applet; do
  [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
echo 'root:x:0:' >"$tree/etc/group"
tar -C "$tree" --owner=0 --group=0 -cf "$tree.tar" .

# podman runs in the tree: proc, sys and dev are there for that long, in a mount namespace that ends with it
# shellcheck disable=SC2016 # expanded by the inner shell
unshare -m --propagation private bash -ec '
  mount --bind "$1" "$1"
  mount --rbind /dev "$1/dev"
  mount -t proc proc "$1/proc"
  mount --rbind /sys "$1/sys"
  mount -t tmpfs tmpfs "$1/run"
  PODMAN_IGNORE_CGROUPSV1_WARNING=1 chroot "$1" podman --cgroup-manager=cgroupfs --storage-driver overlay \
    import -q /usr/local/share/busybox.tar localhost/busybox:latest' - "$ROOT"
rm -rf "$ROOT"/tmp/*
