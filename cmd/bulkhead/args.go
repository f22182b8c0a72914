package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

type argsFlags struct {
	manager string
	selinux string
	quadlet bool
}

func argsCommand(e *env) *cobra.Command {
	var f argsFlags
	c := &cobra.Command{
		Use:   "args TENANT",
		Short: "The engine's flags that make a container a tenant's",
		Long: `The engine's flags that make a container a tenant's: its cgroup parent, in the form of the cgroup manager, and
where SELinux is on and the policy wants it, its level. The tenant is registered if it is new.

With --quadlet, the lines of a .container file that do the same.`,
		Example: `  podman run $(bulkhead args blue) …
  bulkhead args blue --quadlet >> /etc/containers/systemd/web.container`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return e.args(args[0], f) },
	}
	c.Flags().StringVar(&f.manager, "cgroup-manager", "", "systemd or cgroupfs; podman's own by default")
	c.Flags().StringVar(&f.selinux, "selinux", "auto", "give the level: yes, no or auto (where this kernel has SELinux)")
	c.Flags().BoolVar(&f.quadlet, "quadlet", false, "lines of a Quadlet file in place of flags")
	return c
}

func (e *env) args(name string, f argsFlags) error {
	p, reg, err := e.registry()
	if err != nil {
		return err
	}
	if f.manager == "" {
		if f.manager, err = cgroupManager(os.Getenv("CONTAINERS_CONF")); err != nil {
			return err
		}
	}
	level := p.For(name).Level.Use == "tenant"
	switch f.selinux {
	case "yes":
	case "no":
		level = false
	case "auto":
		_, err := os.Stat("/sys/fs/selinux/enforce")
		level = level && err == nil
	default:
		return fmt.Errorf("--selinux %q: want yes, no or auto", f.selinux)
	}
	t, err := reg.Ensure(name)
	if err != nil {
		return err
	}
	lines, err := engineArgs(t, f.manager, level, f.quadlet)
	if err != nil {
		return err
	}
	for _, l := range lines {
		fmt.Fprintln(e.Stdout, l)
	}
	return nil
}

// engineArgs is podman's flags for a tenant's container, one a line, or the
// lines of a Quadlet file.
func engineArgs(t tenant.Tenant, manager string, level, quadlet bool) ([]string, error) {
	parent := ""
	switch manager {
	case "systemd":
		parent = tenant.Slice(t.Name)
	case "cgroupfs":
		parent = tenant.CgroupfsParent(t.Name)
	default:
		return nil, fmt.Errorf("cgroup manager %q: want systemd or cgroupfs", manager)
	}
	l := t.Pair.Level().String()
	if quadlet {
		if manager != "systemd" {
			return nil, policy.Hint(fmt.Errorf("quadlet files with the cgroup manager %q: systemd runs them, in a slice", manager), "bulkhead args "+t.Name+" --quadlet --cgroup-manager systemd")
		}
		var out []string
		if level {
			out = append(out, "[Container]", "SecurityLabelLevel="+l)
		}
		return append(out, "[Service]", "Slice="+parent), nil
	}
	out := []string{"--cgroup-parent=" + parent}
	if level {
		out = append(out, "--security-opt=label=level:"+l)
	}
	return out, nil
}

// cgroupManager is podman's: what containers.conf says last, else systemd
// where that is the init, else cgroupfs. conf is CONTAINERS_CONF.
func cgroupManager(conf string) (string, error) {
	manager := "cgroupfs"
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		manager = "systemd"
	}
	files := []string{conf}
	if conf == "" {
		files = []string{"/usr/share/containers/containers.conf", "/etc/containers/containers.conf"}
		drop, err := os.ReadDir("/etc/containers/containers.conf.d")
		if err == nil {
			for _, d := range drop {
				if strings.HasSuffix(d.Name(), ".conf") {
					files = append(files, "/etc/containers/containers.conf.d/"+d.Name())
				}
			}
		}
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // podman, too, reads what is there
		}
		var c struct {
			Engine struct {
				CgroupManager string `toml:"cgroup_manager"`
			} `toml:"engine"`
		}
		if err := toml.Unmarshal(data, &c); err != nil {
			return "", fmt.Errorf("read %s: %w", name, err)
		}
		if c.Engine.CgroupManager != "" {
			manager = c.Engine.CgroupManager
		}
	}
	return manager, nil
}
