# shellcheck shell=bash
# What guest-*.bats share. These tests use the guest's own engine, store and /etc: it is thrown away.

# guest_only: for setup_file; nothing here may run on a machine that somebody needs.
if [ -z "${BULKHEAD_GUEST:-}" ]; then
  echo "guest-*.bats change the machine they run on: run them by \`make test-vm\`" >&2
  exit 1
fi
