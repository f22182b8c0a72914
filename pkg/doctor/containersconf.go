package doctor

import (
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// containersConf is what matters here of containers.conf(5), as podman merges its files.
type containersConf struct {
	Containers struct {
		Annotations []string `toml:"annotations"`
	} `toml:"containers"`
	Engine struct {
		HooksDir []string `toml:"hooks_dir"`
	} `toml:"engine"`
}

// readContainersConf merges the host's files as podman does for root: the vendor's, the admin's, then the drop-ins in name
// order; a list in a later file replaces the earlier one (appending arrays, a newer syntax, are tables and not read).
func readContainersConf(h *Host) (containersConf, []Finding) {
	files := []string{"/usr/share/containers/containers.conf"}
	files = append(files, h.glob("/usr/share/containers/containers.conf.d/*.conf")...)
	files = append(files, "/etc/containers/containers.conf")
	files = append(files, h.glob("/etc/containers/containers.conf.d/*.conf")...)
	var c containersConf
	var fs []Finding
	for _, p := range files {
		b, err := h.file(p)
		if err == nil && b != nil {
			err = toml.Unmarshal(b, &c)
		}
		if err != nil {
			fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("%s: %v", p, err), Hint: "mend " + p})
		}
	}
	return c, fs
}

func checkHooksDir(h *Host) []Finding {
	c, fs := readContainersConf(h)
	dirs := c.Engine.HooksDir
	const hint = `hooks_dir = ["` + sharedHooks + `", "` + ownHooks + `"] under [engine] in the last containers.conf drop-in`
	if len(dirs) == 0 {
		if len(h.glob(ownHooks+"/*.json")) > 0 {
			fs = append(fs, Finding{Status: Warn, Text: "podman is not pointed at " + ownHooks + ": precreate-harden and createruntime-net do not run", Hint: hint})
		}
		return fs
	}
	for _, d := range []string{sharedHooks, ownHooks} {
		if len(h.glob(d+"/*.json")) > 0 && !slices.Contains(dirs, d) {
			fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("hooks_dir is %q and leaves out %s: podman starts containers without the hooks there", dirs, d), Hint: hint})
		}
	}
	if len(fs) == 0 {
		fs = append(fs, Finding{Text: fmt.Sprintf("podman reads %q", dirs)})
	}
	return fs
}
