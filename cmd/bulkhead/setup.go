package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/install/selinux"
	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// object is one eBPF object and what it is there for.
type object struct {
	name, what string
	setup      func(bpf.SetupContext) error
}

// objects are loaded in this order.
var objects = []object{
	{"device", "device rules above all containers", bpf.SetupDevice},
	{"account", "what each container uses", bpf.SetupAccount},
	{"port", "the program at containers' interfaces, for this network namespace", bpf.SetupPort},
	{"shape", "the classifier of shaped traffic, for this network namespace", bpf.SetupShape},
}

func setupCommand(e *env) *cobra.Command {
	var only []string
	var quiet, module bool
	var marker string
	c := &cobra.Command{
		Use:   "setup",
		Short: "Load and pin the eBPF programs, once per boot",
		Long: `Load and pin the eBPF programs and make the state directories. A oneshot unit runs it at boot; hooks and
plugins run it when they find nothing pinned. Run again it does nothing, or, after an upgrade, replaces
programs and keeps their maps, so that no count is lost.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			if module {
				if err := selinux.Install(); err != nil {
					return err
				}
			}
			if err := e.setup(p, only, quiet); err != nil || marker == "" {
				return err
			}
			return e.mark(p, marker)
		},
	}
	c.Flags().StringSliceVar(&only, "only", nil, "set up these `objects` only: device, account, port, shape")
	c.Flags().StringVar(&marker, "marker", "", "also make this host's marker, without which no annotation proves a tenant, and write it with the masks into containers.conf drop-in `file`")
	c.Flags().Lookup("marker").NoOptDefVal = markerConf
	c.Flags().BoolVar(&module, "selinux", false, "also load the SELinux module that gives the hooks a domain of their own where systemd starts the engine")
	c.Flags().BoolVar(&quiet, "quiet", false, "say nothing but errors")
	return c
}

func (e *env) setup(p *policy.Policy, only []string, quiet bool) error {
	for _, o := range only {
		if !slices.ContainsFunc(objects, func(x object) bool { return x.name == o }) {
			return fmt.Errorf("set up %q: there is no such eBPF object", o)
		}
	}
	for _, d := range []string{p.State.Run, p.State.Lib} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	lock := flock.New(filepath.Join(p.State.Run, "setup.lock"))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	defer lock.Unlock()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return fmt.Errorf("find out the network namespace: %w", err)
	}
	ctx := bpf.SetupContext{Bpffs: p.State.Bpffs, Run: p.State.Run, Netns: st.Ino, Cgroup2: p.State.Cgroup2,
		Log: journal.New(journal.Sink{Name: "bulkhead-setup", File: p.Log.File}, e.Stderr)}
	var failed []string
	for _, o := range objects {
		if len(only) > 0 && !slices.Contains(only, o.name) {
			continue
		}
		if err := o.setup(ctx); err != nil {
			fmt.Fprintf(e.Stderr, "%s: %v\n", o.name, err)
			failed = append(failed, o.name)
		} else if !quiet {
			fmt.Fprintf(e.Stdout, "%-8s %s\n", o.name, o.what)
		}
	}
	if len(failed) > 0 {
		return policy.Hint(fmt.Errorf("set up eBPF: %s failed", strings.Join(failed, ", ")), "bulkhead doctor")
	}
	return nil
}

// markerConf is where podman finds the marker; it comes after the packaged drop-in, whose annotations it repeats
// because a list in a later file replaces the earlier one.
const markerConf = "/etc/containers/containers.conf.d/51-bulkhead-marker.conf"

// mark writes the drop-in that puts the host's marker, and an empty tenant, on every container: an operator's own
// --annotation overrides the tenant, an image's annotations override neither.
func (e *env) mark(p *policy.Policy, file string) error {
	m, err := tenant.EnsureMarker(p.State.Lib)
	if err != nil {
		return err
	}
	text := fmt.Sprintf(`# Written by bulkhead setup --marker. The marker is secret: images must not know it.
[containers]
annotations = ["run.oci.hooks.stderr=/dev/null", "%s=", "%s=%s"]
`, tenant.AnnotationTenant, tenant.AnnotationMarker, m)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write marker drop-in: %w", err)
	}
	// 0644: a rootless user's podman reads the directory too, and fails on what it may not read
	if err := renameio.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write marker drop-in: %w", err)
	}
	return nil
}
