// Package harden makes a container's config.json tighter before a runtime reads it, which is the only moment at
// which capabilities, seccomp, AppArmor, rlimits, masked paths and annotations can still be set from outside
// (runtime-spec config.md, config-linux.md).
//
// The law of the package: it only ever tightens. No capability appears, no system call becomes allowed, no path is
// unmasked, no limit rises, noNewPrivileges never clears, and doing it twice is doing it once. What it does not
// know it passes through byte for byte, so a config of a newer runtime-spec keeps its meaning.
//
// Everything here is pure; hooks and commands do the reading and writing.
package harden
