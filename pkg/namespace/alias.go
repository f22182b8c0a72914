package namespace

import (
	"path/filepath"
	"strings"
)

// aliases are the other names of what a path leads to, by the mounts of proc_pid_mountinfo(5): where the same directory, one that
// it lies in, or one that lies in it is mounted a second time (mount --bind).
func aliases(mountinfo, path string) (names []string) {
	type mount struct{ dev, root, point string }
	var all []mount
	var at mount
	for line := range strings.Lines(mountinfo) {
		f := strings.Fields(line) // ID PARENT MAJOR:MINOR ROOT POINT …
		if len(f) < 5 {
			continue
		}
		m := mount{f[2], octal.Replace(f[3]), octal.Replace(f[4])}
		all = append(all, m)
		if below(path, m.point) && len(m.point) >= len(at.point) { // of two on one point the later is on top
			at = m
		}
	}
	inside := moved(path, at.point, at.root)
	for _, m := range all {
		name := m.point // what is mounted there lies in path
		switch {
		case m.dev != at.dev:
			continue
		case below(inside, m.root):
			name = moved(inside, m.root, m.point)
		case !below(m.root, inside):
			continue
		}
		if name != path && (m != at || !below(name, path)) {
			names = append(names, name)
		}
	}
	return names
}

// octal undoes what the kernel writes for blanks and the like.
var octal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// moved is a path below one directory as it is below another.
func moved(path, from, to string) string {
	return filepath.Join(to, strings.TrimPrefix(path, from))
}
