#!/usr/bin/env bats
# The default profile breaks no common image: Debian's own nginx, PostgreSQL, sshd, Redis, Python and sudo work under it
# as they do without it.
# bats: before tests/bats/debianfs

# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load helpers

setup_file() {
	has command:mmdebstrap || return 0
	sandbox_open
	policy </dev/null
	DEBIAN=$("$TOP/tests/bats/debianfs")
	export DEBIAN
}
teardown_file() { ! has command:mmdebstrap || sandbox_close; }
setup() { requires root podman command:mmdebstrap; }

# debian SCRIPT [OPTION]...: in a container on that root file system, changes thrown away
debian() {
	local script=$1
	shift
	podman run --rm --network none "$@" --rootfs "$DEBIAN:O" bash -c "set -e; $script" 2>&1
}

@test "smoke: it is the default profile that they run under" {
	run debian 'grep -E "CapBnd|^Seccomp:" /proc/self/status; unshare -U true || echo "no namespaces"'
	contains "$output" "Seccomp:	2" "no namespaces"
	bounding=$(awk '/CapBnd/ {print $2}' <<<"$output")
	[ $((0x$bounding >> 8 & 1)) = 0 ] && [ $((0x$bounding >> 29 & 1)) = 0 ] || fail "$output"
}

@test "smoke: nginx serves a page, its workers are nobody's" {
	run debian 'nginx; for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/80) 2>/dev/null && break; sleep 0.1; done; exec 3<>/dev/tcp/127.0.0.1/80; printf "GET / HTTP/1.0\r\n\r\n" >&3; grep -q "Welcome to nginx" <&3; ps -o user= -C nginx 2>/dev/null || true; nginx -s stop; echo fine'
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" fine
}

@test "smoke: PostgreSQL starts, creates, answers" {
	run debian 'rm -f /etc/hosts.deny; service postgresql start; for i in $(seq 50); do su postgres -c "psql -Atc \"select 6*7\"" >/tmp/out 2>/dev/null && break; sleep 0.2; done; cat /tmp/out; su postgres -c "createdb x && psql -d x -c \"create table t (a int)\""; service postgresql stop; echo fine'
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" 42 "CREATE TABLE" fine
}

@test "smoke: sshd lets a user in by key, with PAM" {
	run debian 'mkdir -p /run/sshd; useradd -m -s /bin/bash joe; su joe -c "ssh-keygen -q -N \"\" -f ~/.ssh/id_ed25519 && cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys"; /usr/sbin/sshd -p 2222; for i in $(seq 100); do (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null && break; sleep 0.1; done; su joe -c "ssh -o StrictHostKeyChecking=no -p 2222 127.0.0.1 id -un"; echo fine'
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" joe fine
}

@test "smoke: sudo makes a user root, su makes root a user" {
	run debian 'useradd -m joe; echo "joe ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/joe; su joe -c "sudo id -u" 2>/dev/null; su joe -c "id -un"; echo fine'
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" $'0\njoe' fine
}

@test "smoke: Python threads, subprocesses, memory maps; Redis; chown, tar and apt's own sandbox user" {
	run debian 'python3 -c "import threading, subprocess, mmap, os; ts=[threading.Thread(target=lambda: None) for _ in range(20)]; [t.start() for t in ts]; [t.join() for t in ts]; print(subprocess.check_output([\"echo\", \"sub\"])); mmap.mmap(-1, 4096); print(os.fork() or os._exit(0)) or print(\"python\")" | tail -1
		redis-server --daemonize yes >/dev/null; for i in $(seq 50); do redis-cli set a b >/dev/null 2>&1 && break; sleep 0.1; done; redis-cli get a
		mkdir /tmp/d; touch /tmp/d/f; chown nobody:nogroup /tmp/d/f; tar -C /tmp -cf /tmp/d.tar d; tar -C /root -xf /tmp/d.tar; stat -c %U /root/d/f
		dpkg --version >/dev/null; setpriv --reuid nobody --clear-groups id -un; echo fine'
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" b nobody fine
}

@test "smoke: a program killed on its own, a core limit, ping to itself" {
	run debian 'sleep 100 & kill -9 $!; wait $! || echo killed; ulimit -c 0; ping -c 1 -W 2 127.0.0.1 >/dev/null && echo pinged; echo fine' --sysctl net.ipv4.ping_group_range="0 2147483647"
	contains "$output" killed fine
}

@test "smoke: what docs/hardening.md says a profile breaks is broken by it, and works with what it says to do" {
	# baseline: namespaces (bubblewrap, a container in a container), keyrings
	run debian 'unshare -U true && echo unshared; perl -e "print syscall(250, 0, -3, 0, 0, 0) > 0 ? qq(keyring\n) : qq(none\n)"'
	lacks "$output" unshared keyring
	policy <<-END
		[harden]
		keep_syscalls = ["unshare", "keyctl"]
	END
	run debian 'unshare -U true && echo unshared; perl -e "print syscall(250, 0, -3, 0, 0, 0) > 0 ? qq(keyring\n) : qq(none\n)"' --security-opt seccomp=unconfined
	contains "$output" unshared keyring
	# baseline: ping as a user without the range that lets everybody; a capability that the image keeps
	run debian 'useradd joe; setpriv --reuid joe --clear-groups ping -c 1 -W 2 127.0.0.1 >/dev/null && echo pinged' --sysctl net.ipv4.ping_group_range="1 0" --cap-add NET_RAW
	lacks "$output" pinged
	policy <<-END
		[harden]
		keep_capabilities = ["CAP_NET_RAW"]
	END
	run debian 'ping -c 1 -W 2 127.0.0.1 >/dev/null && echo pinged' --sysctl net.ipv4.ping_group_range="1 0" --cap-add NET_RAW
	contains "$output" pinged
	# talk: sudo as a user; the kernel's memory settings
	policy <<-END
		[harden]
		profile = "talk"
	END
	as_joe='useradd -m joe; echo "joe ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/joe; setpriv --reuid joe --clear-groups sudo id -u && echo sudone; ls /sys/kernel | grep -q . && echo seen; echo end'
	run debian "$as_joe"
	contains "$output" end
	lacks "$output" sudone seen
	policy <<-END
		[harden]
		profile = "talk"
		keep_paths = ["/sys/kernel"]
	END
	run debian "$as_joe"
	contains "$output" seen
	# strict: images that start as root and change the user, debuggers, writing outside of volumes
	policy <<-END
		[harden]
		profile = "strict"
		user_namespace = "allow"
	END
	mkdir -p $SANDBOX/volume && chmod 1777 $SANDBOX/volume
	traced='perl -e "print syscall(101, 0, 0, 0, 0) == 0 ? qq(traced\n) : qq(refused\n)"' # keyctl and ptrace, by amd64's numbers
	run debian "nginx && echo started; touch /x && echo written; $traced; echo end" --tmpfs /run --tmpfs /var/log/nginx --tmpfs /var/lib/nginx
	contains "$output" refused
	lacks "$output" started written traced
	policy <<-END
		[harden]
		profile = "strict"
		user_namespace = "allow"
		keep_syscalls = ["ptrace"]
	END
	run debian "sed 's|^pid .*|pid /run/nginx/pid;|; /^user/d' /etc/nginx/nginx.conf >/run/nginx/conf; nginx -c /run/nginx/conf && echo started; touch /run/nginx/x && echo written; $traced; echo end" \
		--user www-data --sysctl net.ipv4.ip_unprivileged_port_start=0 --tmpfs /run/nginx:mode=1777 -v $SANDBOX/volume:/var/log/nginx -v $SANDBOX/volume:/var/lib/nginx
	contains "$output" started written traced
	policy </dev/null
}
