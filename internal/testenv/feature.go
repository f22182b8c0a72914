package testenv

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A Feature is something that a test needs and a machine may lack.
type Feature struct {
	// Name is the word for people, BULKHEAD_REQUIRE and bats, e.g. "NetNS" or "Qdisc:fq_codel".
	Name  string
	probe func() error
}

var probed struct {
	sync.Mutex
	err map[string]error
}

// Probe says why the feature is missing, or nil if it is there. Each feature is looked at once per process.
func (f Feature) Probe() error {
	if f.probe == nil {
		return fmt.Errorf("probe feature %q: not known", f.Name)
	}
	probed.Lock()
	defer probed.Unlock()
	key := strings.ToLower(f.Name)
	if err, ok := probed.err[key]; ok {
		return err
	}
	if probed.err == nil {
		probed.err = make(map[string]error)
	}
	err := f.probe()
	probed.err[key] = err
	return err
}

// Promised reports whether BULKHEAD_REQUIRE names the feature: where it does, its absence is a failure. A promise of
// "qdisc" covers every qdisc, one of "qdisc:fq_codel" only that.
func (f Feature) Promised() bool {
	name := strings.ToLower(f.Name)
	kind, _, _ := strings.Cut(name, ":")
	return slices.ContainsFunc(strings.FieldsFunc(os.Getenv("BULKHEAD_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' }),
		func(p string) bool { p = strings.ToLower(p); return p == name || p == kind })
}

// ErrPromised marks a missing feature that BULKHEAD_REQUIRE promises.
var ErrPromised = errors.New("promised by BULKHEAD_REQUIRE")

// Check returns nil if all features are there, else an error naming the first that is not; it is ErrPromised where
// the environment promises the feature.
func Check(features ...Feature) error {
	for _, f := range features {
		err := f.Probe()
		switch {
		case err == nil:
		case f.Promised():
			return fmt.Errorf("need %s: %w: %w", f.Name, err, ErrPromised)
		default:
			return fmt.Errorf("need %s: %w", f.Name, err)
		}
	}
	return nil
}

// Need skips the test, with the reason, unless all features are there. A feature that BULKHEAD_REQUIRE promises fails
// the test instead.
func Need(t testing.TB, features ...Feature) {
	t.Helper()
	err := Check(features...)
	switch {
	case errors.Is(err, ErrPromised):
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
}

// ByName finds a feature by the word that bats and BULKHEAD_REQUIRE use: "netns", "qdisc:fq_codel", "command:tc",
// "kernel:6.4". Case does not matter.
func ByName(name string) (Feature, error) {
	kind, arg, has := strings.Cut(name, ":")
	kind = strings.ToLower(kind)
	if has {
		if with, ok := parameterized[kind]; ok && arg != "" {
			return with(arg), nil
		}
	}
	for _, f := range plain() {
		if strings.EqualFold(f.Name, name) {
			return f, nil
		}
	}
	return Feature{}, fmt.Errorf("find feature %q: not known; have %s", name, strings.Join(Names(), " "))
}

// Names lists the words that ByName knows, for people.
func Names() []string {
	var names []string
	for _, f := range plain() {
		names = append(names, strings.ToLower(f.Name))
	}
	for kind := range parameterized {
		names = append(names, kind+":ARG")
	}
	slices.Sort(names)
	return names
}
