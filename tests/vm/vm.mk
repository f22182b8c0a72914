# The guest: SELinux or AppArmor, cgroup v2, systemd, podman 4 and 5, in QEMU. docs/TESTING.md, "The guest".
SUITE ?= trixie
LSM   ?= selinux
TESTS ?=

.PHONY: test-vm test-vm-runner vm-image vm-shell clean-vm

test-vm: build test-tools ## the tests in four guests (root to build them; TESTS="boot" or files for some)
	@tests/vm/all $(TESTS)

test-vm-runner: build test-tools ## break a guest in every way that must be noticed
	@tests/vm/selftest

vm-image: ## build the guest image of SUITE, if it is not in the cache
	@tests/vm/mkimage.sh $(SUITE)

vm-shell: build test-tools ## a console in a guest: SUITE=bookworm or trixie, LSM=selinux or apparmor
	@BULKHEAD_VM_SHELL=1 tests/vm/run $(SUITE) $(LSM)

clean-vm: ## remove the cached guest images
	@sh -c 'cache="$$(bash -c ". tests/vm/lib.sh && cache_dir")" && rm -rf --one-file-system "$$cache"'
