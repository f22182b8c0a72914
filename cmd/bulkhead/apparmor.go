package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func apparmorCommand(e *env) *cobra.Command {
	c := &cobra.Command{
		Use:   "apparmor",
		Short: "Load the AppArmor profiles that containers are confined with",
	}
	c.AddCommand(
		&cobra.Command{Use: "load", Short: "Load the profile, and one of its own for each tenant", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return e.apparmor("--replace") }},
		&cobra.Command{Use: "unload", Short: "Remove them from the kernel", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return e.apparmor("--remove") }},
		&cobra.Command{Use: "show [TENANT]", Short: "Print the profile", Args: cobra.MaximumNArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				who := strings.Join(args, "")
				if who != "" {
					if err := policy.ValidTenant(who); err != nil {
						return err
					}
				}
				_, err := fmt.Fprint(e.Stdout, harden.AppArmorText(who))
				return err
			}})
	return c
}

// apparmor has apparmor_parser load or remove the profiles. What the kernel takes is compiled for its own features and
// version; that program knows them, and only an admin's verb runs it, never a hook.
func (e *env) apparmor(verb string) error {
	if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || strings.TrimSpace(string(b)) != "Y" {
		return policy.Hint(errors.New("load AppArmor profiles: AppArmor is not active on this kernel"), "boot with security=apparmor, or use SELinux levels instead: bulkhead level")
	}
	parser, err := exec.LookPath("apparmor_parser")
	if err != nil {
		if _, err := os.Stat("/sbin/apparmor_parser"); err != nil {
			return policy.Hint(errors.New("load AppArmor profiles: no apparmor_parser"), "install the package apparmor")
		}
		parser = "/sbin/apparmor_parser"
	}
	p, err := e.Policy()
	if err != nil {
		return err
	}
	all, err := tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories).List()
	if err != nil {
		return err
	}
	names := []string{""}
	for _, t := range all {
		if t.Retired.IsZero() {
			names = append(names, t.Name)
		}
	}
	var text strings.Builder
	for _, n := range names {
		body := harden.AppArmorText(n)
		if n != "" { // the head may stand only once
			_, body, _ = strings.Cut(body, "#include <tunables/global>\n")
		}
		text.WriteString(body)
	}
	var said bytes.Buffer
	c := exec.Command(parser, "--skip-cache", "--quiet", verb)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(text.String()), &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", parser, verb, err, strings.TrimSpace(said.String()))
	}
	fmt.Fprintf(e.Stdout, "%d profiles: %s", len(names), harden.AppArmorProfile)
	for _, n := range names[1:] {
		fmt.Fprintf(e.Stdout, " %s", harden.AppArmorName(n))
	}
	fmt.Fprintln(e.Stdout)
	return nil
}
