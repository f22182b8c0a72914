package doctor

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sharedHooks is the directory that both podman and CRI-O read by default; ownHooks is ours, for podman alone: CRI-O
// does not know the precreate stage and does not start where it finds it.
const (
	sharedHooks = "/usr/share/containers/oci/hooks.d"
	adminHooks  = "/etc/containers/oci/hooks.d"
	ownHooks    = "/usr/share/bulkhead/hooks.d"
)

// hookFile is a hooks.d file (oci-hooks(5), version 1.0.0).
type hookFile struct {
	Version string `json:"version"`
	Hook    struct {
		Path    string   `json:"path"`
		Args    []string `json:"args"`
		Timeout *int     `json:"timeout"`
	} `json:"hook"`
	When struct {
		Always        *bool             `json:"always"`
		Annotations   map[string]string `json:"annotations"`
		Commands      []string          `json:"commands"`
		HasBindMounts *bool             `json:"hasBindMounts"`
	} `json:"when"`
	Stages []string `json:"stages"`
}

var stages = []string{"precreate", "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// ourHooks are the binaries that a complete installation has hooks.d files for in the shared directory.
var ourHooks = []string{"prestart-label", "createruntime-cgroup", "poststop-accounting"}

func checkHooks(h *Host) []Finding {
	var fs []Finding
	seen := map[string]bool{}
	for _, dir := range []string{sharedHooks, adminHooks, ownHooks} {
		for _, p := range h.glob(dir + "/*.json") {
			f, found := readHook(h, p)
			fs = append(fs, found...)
			if f == nil {
				continue
			}
			if dir != ownHooks && slices.Contains(f.Stages, "precreate") {
				fs = append(fs, Finding{Status: Fail, Text: p + ": a precreate hook in a directory that CRI-O reads: CRI-O does not know the stage and refuses to start",
					Hint: "mv " + p + " " + ownHooks + "/ and name that directory in containers.conf's hooks_dir"})
			}
			if dir == sharedHooks {
				seen[filepath.Base(f.Hook.Path)] = true
			}
		}
	}
	for _, b := range ourHooks {
		if !seen[b] {
			fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("no file in %s runs %s: the engines start containers without it", sharedHooks, b), Hint: "make install"})
		}
	}
	if len(fs) == 0 {
		fs = append(fs, Finding{Text: "every hook file parses and its binary is there"})
	}
	return fs
}

// readHook reads one file as an engine would, and says what the engine would do about its faults.
func readHook(h *Host, p string) (*hookFile, []Finding) {
	b, err := h.file(p)
	if err != nil {
		return nil, []Finding{{Status: Fail, Text: fmt.Sprintf("%s: %v: engines refuse to start any container", p, err)}}
	}
	f := &hookFile{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, []Finding{{Status: Fail, Text: fmt.Sprintf("%s: %v: engines refuse to start any container", p, err), Hint: "mend or remove " + p}}
	}
	var fs []Finding
	fail := func(format string, a ...any) {
		fs = append(fs, Finding{Status: Fail, Text: p + ": " + fmt.Sprintf(format, a...), Hint: "mend or remove " + p})
	}
	if f.Version != "1.0.0" {
		fail("want version 1.0.0, have %q: engines refuse to start any container", f.Version)
	}
	for _, s := range f.Stages {
		if !slices.Contains(stages, s) {
			fail("stage %q is none that engines know: they refuse to start any container", s)
		}
	}
	switch {
	case !filepath.IsAbs(f.Hook.Path):
		fail("hook path %q is relative: runtimes resolve it against each container's bundle", f.Hook.Path)
	case !h.executable(f.Hook.Path):
		fail("%s is not there or cannot be run: engines skip the hook without a word, and containers start unprotected", f.Hook.Path)
	}
	if f.Hook.Timeout != nil && *f.Hook.Timeout <= 0 {
		fail("timeout %d: the hook fails at once", *f.Hook.Timeout)
	}
	w := f.When
	if w.Always == nil && w.HasBindMounts == nil && len(w.Annotations) == 0 && len(w.Commands) == 0 {
		fail("an empty `when` never matches: the hook never runs")
	}
	if w.HasBindMounts != nil && !*w.HasBindMounts {
		fail("hasBindMounts: false never matches: the hook never runs")
	}
	for k, v := range w.Annotations {
		for _, re := range []string{k, v} {
			if _, err := regexp.Compile(re); err != nil {
				fail("annotation pattern %q: %v: engines refuse to start any container", re, err)
			}
		}
		if strings.Contains(f.Hook.Path, "bulkhead") {
			fs = append(fs, Finding{Status: Warn, Text: p + ": runs only where an annotation matches, and an image can set or leave out annotations", Hint: `use "when": {"always": true}`})
		}
	}
	return f, fs
}
