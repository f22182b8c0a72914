package quota

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Layer is what an overlay writes to.
type Layer struct {
	Upper string // what the container has written
	Work  string // where the overlay prepares it: what is renamed from there must be of the same project
}

// LayerOf is the layer of the overlay that is mounted at rootfs; ok is false where there is none.
func LayerOf(rootfs string) (l Layer, ok bool) {
	var fs unix.Statfs_t
	if unix.Statfs(rootfs, &fs) != nil || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return l, false // and no look at mountinfo, which has a line for each container of the host
	}
	f, err := kfile.OpenFile("/proc/self/mountinfo", os.O_RDONLY)
	if err != nil {
		return l, false
	}
	defer f.Close()
	return layerAt(f, filepath.Clean(rootfs))
}

const maxLine = 1 << 20 // an overlay of many layers has long options

// layerAt finds the overlay that is mounted last at mountPoint (proc_pid_mountinfo(5)).
func layerAt(mountinfo io.Reader, mountPoint string) (l Layer, ok bool) {
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(kind) < 3 || unescape(fields[4]) != mountPoint {
			continue
		}
		l = Layer{}
		if kind[0] != "overlay" {
			continue
		}
		for option := range strings.SplitSeq(kind[2], ",") {
			if upper, found := strings.CutPrefix(option, "upperdir="); found {
				l.Upper = unescape(upper)
			}
			if work, found := strings.CutPrefix(option, "workdir="); found {
				l.Work = unescape(work)
			}
		}
	}
	return l, filepath.IsAbs(l.Upper)
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
