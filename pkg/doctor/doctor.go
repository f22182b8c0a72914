// Package doctor finds out why bulkhead would not do on this host what its files promise. Engines fail open in quiet
// ways: a hooks.d file whose binary is missing is skipped without a word, one that does not parse stops every
// container, a containers.conf of the admin's replaces a list that ours was in. One file per check.
package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Status is what a finding means for the host.
type Status uint8

// In order of gravity.
const (
	OK   Status = iota // as it should be
	Note               // works, with less; the text says what follows
	Warn               // something is likely to surprise
	Fail               // a promise is not kept
)

func (s Status) String() string { return [...]string{"ok", "note", "warn", "fail"}[s] }

// Finding is one thing that a check has to say.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"-"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

// Host is what the checks look at.
type Host struct {
	Root   string // prefix of every path, "" or "/" for this host; tests and chroots set it
	Config string // policy file, "" for the host's layers
	Policy *policy.Policy
}

// check is one subject of doctor's.
type check struct {
	name string
	run  func(*Host) []Finding
}

var checks = []check{
	{"policy", checkPolicy},
	{"hooks.d", checkHooks},
	{"hooks_dir", checkHooksDir},
	{"marker", checkMarker},
	{"cni", checkCNI},
	{"netavark", checkNetavark},
	{"kernel", checkKernel},
	{"pins", checkPins},
	{"disk", checkDisk},
}

// Examine runs every check. Its findings stand in the order of the checks, graver ones first within each.
func Examine(h *Host) []Finding {
	var all []Finding
	for _, c := range checks {
		fs := c.run(h)
		sort.SliceStable(fs, func(i, j int) bool { return fs[i].Status > fs[j].Status })
		for i := range fs {
			fs[i].Check = c.name
		}
		all = append(all, fs...)
	}
	return all
}

// Worst is the gravest status among findings.
func Worst(fs []Finding) Status {
	w := OK
	for _, f := range fs {
		w = max(w, f.Status)
	}
	return w
}

func (h *Host) path(p string) string { return filepath.Join("/", h.Root, p) }

// file reads a host's file; an absent one is nil without an error.
func (h *Host) file(p string) ([]byte, error) {
	b, err := os.ReadFile(h.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// decode reads a JSON file into v, or finds that it cannot be.
func (h *Host) decode(p string, v any) []Finding {
	b, err := h.file(p)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return []Finding{{Status: Fail, Text: fmt.Sprintf("%s: %v", p, err), Hint: "mend or remove " + p}}
	}
	return nil
}

// glob lists what matches in name order, as paths on the host.
func (h *Host) glob(pattern string) []string {
	ms, _ := filepath.Glob(h.path(pattern)) // the only error is a bad pattern
	for i, m := range ms {
		rel, err := filepath.Rel(filepath.Join("/", h.Root), m)
		if err == nil {
			ms[i] = "/" + rel
		}
	}
	return ms
}

// executable says whether p is a file that an engine could run.
func (h *Host) executable(p string) bool {
	fi, err := os.Stat(h.path(p))
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}
