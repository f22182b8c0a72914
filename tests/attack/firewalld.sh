#!/bin/sh
# firewalld.sh DIR: Debian's firewalld and what it needs, unpacked into DIR: installed, it would start and filter this machine.
# DIR/firewalld runs it in the foreground, on a message bus of its own.
set -eu
mkdir -p "$1/debs"
dir=$(cd "$1" && pwd)
[ ! -x "$dir/firewalld" ] || exit 0
cd "$dir/debs"
apt-get -qq download firewalld python3-firewall python3-dbus python3-nftables python3-cap-ng python3-gi gir1.2-glib-2.0 \
	'libgirepository-1.0-1' libnftables1 libcap-ng0 libdbus-1-3 2>/dev/null
for d in *.deb; do dpkg -x "$d" "$dir/root"; done
cat >"$dir/bus.conf" <<END
<busconfig><type>system</type><listen>unix:path=$dir/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
END
cat >"$dir/firewalld.tmp" <<END
#!/bin/sh
set -eu
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$dir/bus PYTHONPATH=$dir/root/usr/lib/python3/dist-packages
export LD_LIBRARY_PATH=$dir/root/usr/lib/$(uname -m)-linux-gnu:$dir/root/lib/$(uname -m)-linux-gnu
export GI_TYPELIB_PATH=$dir/root/usr/lib/$(uname -m)-linux-gnu/girepository-1.0
rm -f $dir/bus
dbus-daemon --config-file=$dir/bus.conf --nofork --nopidfile 2>/dev/null &
bus=\$!
while [ ! -S $dir/bus ]; do sleep 0.05; done
/usr/bin/python3 $dir/root/usr/sbin/firewalld --nofork --nopid --default-config $dir/root/usr/lib/firewalld --system-config $dir/root/etc/firewalld --log-file $dir/log "\$@" 2>/dev/null &
trap "kill \$! \$bus" EXIT
trap exit TERM INT
wait
END
chmod +x "$dir/firewalld.tmp"
mv "$dir/firewalld.tmp" "$dir/firewalld"
