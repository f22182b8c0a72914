// Command cni does for tests what an engine does with a conflist (CNI spec 1.1.0, section 3), with nothing of an
// engine's own:
//
//	cni add|check|del CONFLIST NETNS ID [IFNAME] [KEY=VALUE]...    (CNI_ARGS)
//	cni gc CONFLIST [ID/IFNAME]...                                  (the attachments that are still valid)
//
// Plugins are found in CNI_PATH. CAP_ARGS holds capability arguments as JSON. Results are kept in CNI_CACHE for check
// and del; without one, del has no prevResult, as after a crash.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "cni: %v\n", err)
		os.Exit(1)
	}
}

type conflist struct {
	CNIVersion string           `json:"cniVersion"`
	Name       string           `json:"name"`
	Plugins    []map[string]any `json:"plugins"`
}

// call is one verb for one attachment.
type call struct {
	list                   conflist
	verb, netns, id, iface string
	args                   []string
	capArgs                map[string]any
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: cni add|check|del CONFLIST NETNS ID [IFNAME] [KEY=VALUE]... or cni gc CONFLIST [ID/IFNAME]..., as the comment on top says")
	}
	c := call{verb: strings.ToUpper(args[0]), iface: "eth0"}
	b, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &c.list); err != nil {
		return fmt.Errorf("parse conflist %q: %w", args[1], err)
	}
	if s := os.Getenv("CAP_ARGS"); s != "" {
		if err := json.Unmarshal([]byte(s), &c.capArgs); err != nil {
			return fmt.Errorf("parse CAP_ARGS %q: %w", s, err)
		}
	}
	if c.verb == "GC" {
		return c.gc(args[2:])
	}
	if len(args) < 4 {
		return fmt.Errorf("%s wants CONFLIST NETNS ID", args[0])
	}
	c.netns, c.id = args[2], args[3]
	for i, a := range args[4:] {
		switch {
		case strings.Contains(a, "="):
			c.args = append(c.args, a)
		case i == 0:
			c.iface = a
		default:
			return fmt.Errorf("argument %q: want KEY=VALUE", a)
		}
	}
	switch c.verb {
	case "ADD":
		return c.add()
	case "CHECK", "DEL":
		return c.checkOrDel()
	}
	return fmt.Errorf("unknown verb %q", args[0])
}

func (c call) cacheFile() string {
	return filepath.Join(cmp.Or(os.Getenv("CNI_CACHE"), "/var/lib/cni/cache"), c.list.Name+"-"+c.id+"-"+c.iface)
}

func (c call) add() error {
	var result json.RawMessage
	for _, p := range c.list.Plugins {
		out, err := c.plugin(p, result, nil)
		if err != nil {
			return err
		}
		result = out
	}
	if err := os.MkdirAll(filepath.Dir(c.cacheFile()), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(c.cacheFile(), result, 0o600); err != nil {
		return err
	}
	fmt.Println(string(bytes.TrimSpace(result)))
	return nil
}

func (c call) checkOrDel() error {
	result, err := os.ReadFile(c.cacheFile())
	if err != nil && (c.verb == "CHECK" || !errors.Is(err, os.ErrNotExist)) {
		return err
	}
	plugins := slices.Clone(c.list.Plugins)
	if c.verb == "DEL" {
		slices.Reverse(plugins)
	}
	for _, p := range plugins {
		if _, err := c.plugin(p, result, nil); err != nil {
			return err
		}
	}
	if c.verb == "DEL" && result != nil {
		return os.Remove(c.cacheFile())
	}
	return nil
}

func (c call) gc(valid []string) error {
	attachments := []map[string]string{}
	for _, v := range valid {
		id, ifname, _ := strings.Cut(v, "/")
		attachments = append(attachments, map[string]string{"containerID": id, "ifname": cmp.Or(ifname, "eth0")})
	}
	var errs []error
	for _, p := range c.list.Plugins {
		_, err := c.plugin(p, nil, map[string]any{"cni.dev/valid-attachments": attachments})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// plugin runs one plugin of the list and returns what it prints.
func (c call) plugin(conf map[string]any, prev json.RawMessage, extra map[string]any) (json.RawMessage, error) {
	in := map[string]any{"cniVersion": c.list.CNIVersion, "name": c.list.Name}
	for k, v := range conf {
		if k != "capabilities" {
			in[k] = v
		}
	}
	for k, v := range extra {
		in[k] = v
	}
	runtimeConfig := map[string]any{}
	if caps, ok := conf["capabilities"].(map[string]any); ok {
		for name, on := range caps {
			if v, ok := c.capArgs[name]; ok && on == true {
				runtimeConfig[name] = v
			}
		}
	}
	if len(runtimeConfig) > 0 {
		in["runtimeConfig"] = runtimeConfig
	}
	if len(prev) > 0 {
		in["prevResult"] = prev
	}
	stdin, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	kind, _ := conf["type"].(string)
	path, err := find(kind)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), os.Stderr
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.verb, "CNI_CONTAINERID="+c.id, "CNI_NETNS="+c.netns,
		"CNI_IFNAME="+c.iface, "CNI_ARGS="+strings.Join(c.args, ";"))
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s of plugin %s: %w: %s", c.verb, kind, err, bytes.TrimSpace(out))
	}
	return out, nil
}

func find(kind string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("CNI_PATH")) {
		path := filepath.Join(dir, kind)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find plugin %q: not in CNI_PATH %q", kind, os.Getenv("CNI_PATH"))
}
