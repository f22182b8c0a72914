package cgroup

import (
	"fmt"
	"path"
	"strings"
)

// A container's parent is a cgroup of its own above the one that its runtime makes, changes and removes: it outlives
// that, and `update` does not reach it. precreate-harden and bulkhead-runtime put it into linux.cgroupsPath, in both forms:
//
//	/PARENT/LEAF       -> /PARENT/bulkhead_account-ID/LEAF
//	STEM.slice:PREFIX:NAME -> STEM-bulkhead_account_ID.slice:PREFIX:NAME, which systemd nests in STEM.slice and starts with the scope
const (
	parentDir   = "bulkhead_account-"
	parentSlice = "bulkhead_account_"
	sliceExt    = ".slice"
	maxUnitName = 255 // UNIT_NAME_MAX
)

// WithParent is a cgroupsPath below the container's own parent. It is as it was where it is so already, where there is no
// room for a parent (no path, systemd's default slice, a name too long), and for a form that is neither of the two.
func WithParent(cgroupsPath, id string) string {
	if id == "" || WithoutParent(cgroupsPath) != cgroupsPath {
		return cgroupsPath
	}
	if strings.HasPrefix(cgroupsPath, "/") {
		dir, leaf := path.Split(path.Clean(cgroupsPath))
		if leaf == "" {
			return cgroupsPath
		}
		return path.Join(dir, parentDir+id, leaf)
	}
	slice, rest, ok := strings.Cut(cgroupsPath, ":")
	stem, isSlice := strings.CutSuffix(slice, sliceExt)
	if !ok || !isSlice || stem == "" {
		return cgroupsPath
	}
	if stem == "-" { // the root
		stem = ""
	} else {
		stem += "-"
	}
	unit := stem + parentSlice + escape(id) + sliceExt
	if len(unit) > maxUnitName {
		return cgroupsPath
	}
	return unit + ":" + rest
}

// WithoutParent is a cgroupsPath as the engine wrote it.
func WithoutParent(cgroupsPath string) string {
	if strings.HasPrefix(cgroupsPath, "/") {
		dir, leaf := path.Split(path.Clean(cgroupsPath))
		if dir = path.Clean(dir); strings.HasPrefix(path.Base(dir), parentDir) {
			return path.Join(path.Dir(dir), leaf)
		}
		return cgroupsPath
	}
	slice, rest, ok := strings.Cut(cgroupsPath, ":")
	stem, isSlice := strings.CutSuffix(slice, sliceExt)
	i := strings.LastIndexByte(stem, '-') // none in what escape makes
	if !ok || !isSlice || !strings.HasPrefix(stem[i+1:], parentSlice) {
		return cgroupsPath
	}
	if i < 0 {
		stem, i = "-", 1
	}
	return stem[:i] + sliceExt + ":" + rest
}

// IsParent says whether a cgroup's name is that of the parent of a container; of any where id is "".
func IsParent(name, id string) bool {
	if rest, ok := strings.CutPrefix(name, parentDir); ok {
		return rest != "" && (id == "" || rest == id)
	}
	stem, ok := strings.CutSuffix(name, sliceExt)
	own, has := strings.CutPrefix(stem[strings.LastIndexByte(stem, '-')+1:], parentSlice)
	return ok && has && own != "" && (id == "" || own == escape(id))
}

// escape makes of an id a part of a unit's name that holds no dash, at which systemd nests.
func escape(id string) string {
	var b strings.Builder
	for _, c := range []byte(id) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '.' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
