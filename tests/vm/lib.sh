# shellcheck shell=bash
# Shared by the scripts of tests/vm: sourced, never run.

VM_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO_DIR=$(cd "$VM_DIR/../.." && pwd)
export VM_DIR REPO_DIR

say() { printf 'vm: %s\n' "$*" >&2; }
die() { printf 'vm: %s\n' "$*" >&2; exit 1; }

# cache_dir: where images live between runs, outside the clone.
cache_dir() {
  if [ -n "${BULKHEAD_VM_CACHE:-}" ]; then echo "$BULKHEAD_VM_CACHE"
  elif [ -n "${XDG_CACHE_HOME:-}" ]; then echo "$XDG_CACHE_HOME/bulkhead-vm"
  elif [ "$(id -u)" = 0 ]; then echo /var/cache/bulkhead-vm
  else echo "$HOME/.cache/bulkhead-vm"; fi
}

valid_suite() {
  case $1 in bookworm | trixie) ;; *) die "choose suite \"$1\": want bookworm or trixie" ;; esac
}

valid_lsm() {
  case $1 in selinux | apparmor) ;; *) die "choose security module \"$1\": want selinux or apparmor" ;; esac
}

# image_key SUITE: a hash of everything that an image is made from.
image_key() {
  (
    cd "$VM_DIR" || exit 1
    printf 'suite %s mirror %s extra %s\n' "$1" "${BULKHEAD_VM_MIRROR:-}" "${BULKHEAD_VM_PACKAGES:-}"
    find mkimage.sh image packages/all "packages/$1" "policy/$1.cil" rootfs -type f -printf '%m %p\n' | LC_ALL=C sort |
      while read -r mode path; do
        # whether it is executable counts, not the umask of whoever cloned
        case $mode in *[1357]*) mode=755 ;; *) mode=644 ;; esac
        printf '%s %s %s\n' "$mode" "$path" "$(sha256sum <"$path")"
      done
  ) | sha256sum | cut -c1-16
}

# image SUITE: the image's directory, built first where it is not there. One that is there waits for nobody's build.
image() {
  local dir
  dir=$(cache_dir)/$1-$(image_key "$1")
  if [ -e "$dir/info" ]; then
    touch "$dir"
    echo "$dir"
  else
    "$VM_DIR/mkimage.sh" "$1"
  fi
}

# seconds_since T: T as from $EPOCHREALTIME, the answer with one decimal.
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# load_percent: how many times more processes want a processor than there are processors, in percent; 100 to 2000.
load_percent() { awk -v n="$(nproc)" '{ p = int($1 * 100 / n); if (p < 100) p = 100; if (p > 2000) p = 2000; print p }' /proc/loadavg; }
