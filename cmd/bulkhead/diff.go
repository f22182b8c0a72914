package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/kept"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/patch"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func diffCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "diff CONTAINER|config.json",
		Short: "What hardening changed in a container's config, and why",
		Long: `For a container: what was changed of the config that its engine made, by the policy as it is now.
For a file: what would be changed of it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return e.diff(args[0]) },
	}
}

func (e *env) diff(word string) error {
	p, err := e.Policy()
	if err != nil {
		return err
	}
	var before, now []byte
	var id string
	if fi, err := os.Stat(word); err == nil && fi.Mode().IsRegular() {
		if before, err = os.ReadFile(word); err != nil {
			return fmt.Errorf("read config: %w", err)
		}
	} else if id, before, now, err = configs(p, word); err != nil {
		return err
	}
	c, err := patch.Read(before, id)
	if err != nil {
		return err
	}
	eff, rules, err := patch.RulesFor(p, c)
	if err != nil {
		return err
	}
	res, err := harden.Config(before, rules, patch.Host(c.Podman))
	if err != nil {
		return err
	}
	who := eff.Tenant
	if who == "" {
		who = "nobody (alone)"
	}
	fmt.Fprintf(e.Stdout, "tenant %s, profile %s, mode %s\n", who, rules.Profile, eff.Mode("harden"))
	for _, ch := range res.Changes {
		printChange(e, ch)
	}
	for _, r := range res.Refusals {
		fmt.Fprintf(e.Stdout, "! %s: %s\n", r.Object, r.Reason)
	}
	for _, n := range res.Notes {
		fmt.Fprintf(e.Stdout, "# %s\n", n)
	}
	switch {
	case now == nil:
	case same(now, before) && len(res.Changes) > 0:
		fmt.Fprintln(e.Stdout, "# none of it is in force: the config is as the engine made it")
	default:
		if paths := unlike(now, res.JSON); len(paths) > 0 {
			fmt.Fprintf(e.Stdout, "# the config in force differs from this: the policy has changed since, or something else changed the config: %s\n", strings.Join(paths, " "))
		}
	}
	return nil
}

func printChange(e *env, c harden.Change) {
	sign := map[harden.Op]string{harden.Removed: "-", harden.Added: "+"}[c.Op]
	if c.Op == harden.Set {
		fmt.Fprintf(e.Stdout, "~ %s: %s  # %s\n", c.Path, strings.Join(c.Items, " -> "), c.Why)
		return
	}
	for _, item := range c.Items {
		fmt.Fprintf(e.Stdout, "%s %s: %s  # %s\n", sign, c.Path, item, c.Why)
	}
}

// configs is a container's config as its engine made it, and the one in force.
func configs(p *policy.Policy, word string) (id string, before, now []byte, err error) {
	rec, err := findContainer(p, word)
	if err != nil {
		return "", nil, nil, err
	}
	if rec.Bundle != "" {
		if now, err = os.ReadFile(filepath.Join(rec.Bundle, "config.json")); err != nil {
			return "", nil, nil, fmt.Errorf("read config of %s: %w", rec.ContainerID, err)
		}
		before, err = os.ReadFile(filepath.Join(rec.Bundle, "config.json"+kept.Suffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", nil, nil, fmt.Errorf("read config of %s: %w", rec.ContainerID, err)
		}
	}
	if before == nil {
		if before, err = kept.Read(p.State.Run, rec.ContainerID); err != nil {
			return "", nil, nil, err
		}
	}
	if before == nil {
		before = now
	}
	if before == nil {
		return "", nil, nil, policy.Hint(fmt.Errorf("find config of %s: nothing was kept and no bundle is recorded", rec.ContainerID), "give the config.json itself")
	}
	return rec.ContainerID, before, now, nil
}

// same compares configs by what they say: engines write them anew, without what is empty and in their own order.
func same(a, b []byte) bool { return len(unlike(a, b)) == 0 }

// unlike is the paths at which two configs say different things.
func unlike(a, b []byte) (paths []string) {
	x, err := meaning(a)
	y, err2 := meaning(b)
	if err = errors.Join(err, err2); err != nil {
		return []string{err.Error()}
	}
	compare("", x, y, &paths)
	return paths
}

// meaning is a config without what is empty: decoded into the specification's types and back.
func meaning(config []byte) (any, error) {
	var s specs.Spec
	if err := json.Unmarshal(config, &s); err != nil {
		return nil, err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var v any
	err = json.Unmarshal(b, &v)
	return v, err
}

func compare(path string, a, b any, paths *[]string) {
	x, ok := a.(map[string]any)
	y, ok2 := b.(map[string]any)
	if !ok || !ok2 {
		// podman 5 sorts paths and leaves the doubles out: where order and number mean nothing that is no difference
		if words, lists := only(a, b); !reflect.DeepEqual(a, b) && (words != "" || !lists || path == "/process/args") {
			*paths = append(*paths, path+words)
		}
		return
	}
	keys := maps.Clone(x)
	maps.Copy(keys, y)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		compare(path+"/"+k, x[k], y[k], paths)
	}
}

// only says which words one of two lists has and the other has not; ok is false where they are not lists of words.
func only(a, b any) (words string, ok bool) {
	x, ok := a.([]any)
	y, ok2 := b.([]any)
	if !ok || !ok2 {
		return "", false
	}
	var missing []string
	for _, pair := range [][2][]any{{x, y}, {y, x}} {
		for _, v := range pair[0] {
			if s, isWord := v.(string); !isWord {
				ok = false
			} else if !slices.Contains(pair[1], v) {
				missing = append(missing, s)
			}
		}
	}
	if len(missing) > 0 {
		words = " (" + strings.Join(missing, " ") + ")"
	}
	return words, ok
}
