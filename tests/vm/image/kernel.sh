#!/bin/bash
# kernel.sh: unpack the kernel's package, keep the modules that containers need, make a small initrd.
# ROOT: the guest's tree; OUT: where vmlinuz, initrd and config go. Run by mkimage.sh.
set -euo pipefail

deb=$(echo "$ROOT"/.kernel/linux-image-*.deb)
tree=$(mktemp -d "$OUT/../kernel.XXXXXX")
dpkg-deb -x "$deb" "$tree"
rm -rf "$ROOT/.kernel"
version=$(basename "$tree"/boot/vmlinuz-*)
version=${version#vmlinuz-}
cp "$tree/boot/vmlinuz-$version" "$OUT/vmlinuz"
cp "$tree/boot/config-$version" "$OUT/config"
printf 'kernel-version %s\n' "$version" >>"$OUT/info.new"

modules=$ROOT/usr/lib/modules/$version
mkdir -p "${modules%/*}"
for d in "$tree/lib/modules/$version" "$tree/usr/lib/modules/$version"; do
  [ ! -d "$d" ] || cp -a "$d" "${modules%/*}/"
done
(
  cd "$modules/kernel"
  rm -rf sound drivers/{scsi,infiniband,media,gpu,usb,hid,input,md,mmc,iio,nvdimm,hv,xen,mtd,target,ata,staging,ptp} \
    drivers/net/{ethernet,wireless} \
    fs/{btrfs,nfs,nfsd,ceph,smb,cifs,ocfs2,gfs2,jfs,f2fs,dlm,afs,orangefs,nilfs2,ntfs3,udf,ufs,bcachefs}
)
chroot "$ROOT" depmod "$version"

# virtio_blk is a module; ext4 and the serial port are built in. An initrd of a static busybox loads it and the modules
# that it wants, deepest first, and mounts the disk by its serial number, never by a /dev name.
initrd=$tree/initrd
mkdir -p "$initrd"/{bin,dev,sys,root}
cp "$ROOT/bin/busybox" "$initrd/bin/"
: >"$initrd/order"
for module in virtio_pci virtio_blk; do
  line=$(grep -E "/$module\.ko[^:]*:" "$modules/modules.dep" || true)
  [ -n "$line" ] || continue
  awk -F'[: ]+' '{ for (i = NF; i >= 1; i--) if ($i != "") print $i }' <<<"$line" | while read -r file; do
    name=$(basename "$file")
    name=${name%%.ko*}.ko
    ! grep -qx "$name" "$initrd/order" || continue
    case $file in
      *.xz) xz -dc "$modules/$file" >"$initrd/$name" ;;
      *) cp "$modules/$file" "$initrd/$name" ;;
    esac
    echo "$name" >>"$initrd/order"
  done
done
cat >"$initrd/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t sysfs sys /sys
for m in $($b cat /order); do $b insmod /$m; done
root=
for try in 1 2 3 4 5 6 7 8 9 10; do
  for d in /sys/block/*; do
    [ "$($b cat $d/serial 2>/dev/null)" = root ] && root=/dev/${d##*/}
  done
  [ -z "$root" ] || break
  $b sleep 1
done
$b mount -t ext4 -o rw "$root" /root || { echo "initrd: no disk with serial \"root\""; $b sleep 1; $b poweroff -f; }
$b umount /sys
$b mount --move /dev /root/dev
exec $b switch_root /root /usr/lib/systemd/systemd
INIT
chmod 755 "$initrd/init"
(cd "$initrd" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -1) >"$OUT/initrd"
rm -rf "$tree"
