package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
)

func checkText(s string) error {
	if len(s) > 4096 {
		return fmt.Errorf("has %d bytes; at most 4096 are allowed", len(s))
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return fmt.Errorf("is %.80q, with a control character or broken UTF-8", s)
		}
	}
	return nil
}

func checkDir(s string) error {
	if !path.IsAbs(s) || path.Clean(s) != s || s == "/" {
		return fmt.Errorf("is %.200q; want an absolute path without \".\", \"..\" or a slash at its end", s)
	}
	return nil
}

// System trees are never relabelled: the host would not survive it.
func checkRelabel(s string) error {
	bare := strings.ReplaceAll(s, "{tenant}", "x")
	if strings.ContainsAny(bare, "{}*") {
		return fmt.Errorf("has %.200q; of what stands in braces only {tenant} is known, and there are no patterns", s)
	}
	if err := checkDir(bare); err != nil {
		return fmt.Errorf("has %.200q; want an absolute, clean path", s)
	}
	first, below, _ := strings.Cut(bare[1:], "/")
	switch first {
	case "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "root", "run", "sbin", "sys", "usr":
		return fmt.Errorf("has %.200q; nothing in /%s is ever relabelled", s, first)
	}
	if below == "" || bare == "/var/lib" || bare == "/var/log" || bare == "/var/cache" || bare == "/var/tmp" || bare == "/var/spool" {
		return fmt.Errorf("has %.200q; a whole system tree is never relabelled", s)
	}
	return nil
}

func checkDevice(s string) error {
	if strings.HasPrefix(s, "/") {
		if path.Clean(s) != s || !strings.HasPrefix(s, "/dev/") {
			return fmt.Errorf("has %.80q; want a device's clean path below /dev", s)
		}
		return nil
	}
	bad := fmt.Errorf("has %.80q; want a rule like \"c 10:200 rwm\", \"b *:* rwm\" or a path like \"/dev/fuse\"", s)
	w := strings.Split(s, " ")
	if len(w) == 1 && s == "a" {
		return nil
	}
	if len(w) != 3 || w[0] != "a" && w[0] != "b" && w[0] != "c" {
		return bad
	}
	major, minor, ok := strings.Cut(w[1], ":")
	if !ok || !deviceNumber(major) || !deviceNumber(minor) {
		return bad
	}
	if w[2] == "" || strings.Trim(w[2], "rwm") != "" || strings.Count(w[2], "r") > 1 || strings.Count(w[2], "w") > 1 || strings.Count(w[2], "m") > 1 {
		return bad
	}
	return nil
}

func deviceNumber(s string) bool {
	if s == "*" {
		return true
	}
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil && isDigits(s)
}

func checkIOMax(v any) error {
	for dev := range v.(map[string]IORate) {
		major, minor, ok := strings.Cut(dev, ":")
		if ok && major != "*" && minor != "*" && deviceNumber(major) && deviceNumber(minor) {
			continue
		}
		if !strings.HasPrefix(dev, "/dev/") || path.Clean(dev) != dev {
			return fmt.Errorf("has the device %.80q; want a path like \"/dev/vda\" or numbers like \"254:0\"", dev)
		}
	}
	return nil
}

func checkHugetlb(v any) error {
	for size := range v.(map[string]Bytes) {
		switch size {
		case "64KB", "512KB", "1MB", "2MB", "8MB", "16MB", "32MB", "256MB", "512MB", "1GB", "2GB", "16GB":
		default:
			return fmt.Errorf("has the page size %.40q; want the kernel's name of one, like \"2MB\" or \"1GB\"", size)
		}
	}
	return nil
}

func checkTraffic(s string) error {
	_, err := ParseTraffic(s)
	return err
}

// checkName wants a DNS name, and after a space perhaps a protocol and ports.
func checkName(s string) error {
	name, ports, has := strings.Cut(s, " ")
	if has {
		t, err := ParseTraffic(ports)
		if err != nil {
			return err
		}
		if t.Prefix.IsValid() {
			return fmt.Errorf("has %.80q; after a name stands a protocol", s)
		}
	}
	bad := fmt.Errorf("has %.80q; want a DNS name like \"example.org\" or \"example.org tcp:443\", without patterns", s)
	if len(name) > 253 || !strings.ContainsAny(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		return bad
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return bad
			}
		}
	}
	return nil
}

func checkIfname(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t") {
		return fmt.Errorf("has %.40q; want the name of an interface", s)
	}
	return nil
}

func checkLog(s string) error {
	if s == "off" {
		return nil
	}
	n, ok := strings.CutSuffix(s, "/s")
	v, err := strconv.ParseUint(n, 10, 32)
	if !ok || err != nil || !isDigits(n) || v == 0 || v > 100000 {
		return fmt.Errorf("is %.40q; want \"off\" or lines per second like \"10/s\"", s)
	}
	return nil
}

func checkCategories(s string) error {
	set, err := mcs.ParseCategories(s)
	if err == nil && mcs.Count(set) == 0 {
		err = fmt.Errorf("categories %q: one alone makes no pair", s)
	}
	return err
}

// Kinds of what `exempt` lists.
var exemptKinds = []string{"namespace", "network", "cgroup_parent", "name"}

func checkExempt(s string) error {
	kind, pattern, ok := strings.Cut(s, ":")
	if !ok || !slices.Contains(exemptKinds, kind) || pattern == "" {
		return fmt.Errorf("has %.80q; want KIND:PATTERN with a kind of %q", s, exemptKinds)
	}
	if strings.Trim(pattern, "*") == "" {
		return fmt.Errorf("has %.80q, which would exempt everything of that kind", s)
	}
	return nil
}

// checkClaims wants patterns and the tenants that they stand for.
func checkClaims(v any) error {
	for pattern, tenant := range v.(map[string]string) {
		if pattern == "" || strings.Trim(pattern, "*") == "" {
			return fmt.Errorf("has the pattern %q, which matches everything", pattern)
		}
		if err := checkText(pattern); err != nil {
			return err
		}
		if err := ValidTenant(tenant); err != nil {
			return err
		}
	}
	return nil
}

func checkCapability(s string) error {
	name, ok := strings.CutPrefix(s, "CAP_")
	if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
		return fmt.Errorf("has %.80q; want a capability's name like \"CAP_NET_RAW\"", s)
	}
	return nil
}

func checkSyscall(s string) error {
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("has %.80q; want a system call's name like \"userfaultfd\"", s)
	}
	return nil
}

func checkDirs(s string) error {
	if err := checkDir(s); err != nil {
		return fmt.Errorf("has %.200q; want an absolute path without \".\", \"..\" or a slash at its end", s)
	}
	return nil
}

// checkAnnotation wants a key, or a prefix of keys of at least one character.
func checkAnnotation(s string) error {
	if key := strings.TrimSuffix(s, "*"); key == "" || strings.ContainsAny(key, "* \t=") {
		return fmt.Errorf("has %.80q; want an annotation's key, or the beginning of keys and \"*\"", s)
	}
	return nil
}

func checkRlimits(v any) error {
	known := []string{"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
	for name := range v.(map[string]uint64) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("has the limit %.40q; want one of %q", name, known)
		}
	}
	return nil
}

func checkProfile(s string) error {
	if s == "" || len(s) > 255 || strings.ContainsAny(s, " \t\"'") {
		return fmt.Errorf("is %.80q; want the name of an AppArmor profile", s)
	}
	return nil
}
