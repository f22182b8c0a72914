package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// env is what the verbs have of the process.
type env struct {
	Stdout, Stderr io.Writer
	Config         string // --config: the policy file, "" for the host's layers
}

// Policy loads the policy that --config names.
func (e *env) Policy() (*policy.Policy, error) { return policy.Load(e.Config) }

// verbs are bulkhead's subcommands, each in a file of its own.
var verbs = []func(*env) *cobra.Command{
	setupCommand,
	doctorCommand,
	limitCommand,
	usageCommand,
	topCommand,
	gcCommand,
	tenantsCommand,
	levelCommand,
	argsCommand,
	uninstallCommand,
	healCommand,
	refreshCommand,
	reloadCommand,
	explainCommand,
	diffCommand,
	roguesCommand,
	verifyCommand,
	apparmorCommand,
	manCommand,
}

// exitCode is an error that is said already and only carries a status.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

func run(args []string, stdout, stderr io.Writer) int {
	e := &env{Stdout: stdout, Stderr: stderr}
	root := &cobra.Command{
		Use:           "bulkhead",
		Short:         "Watertight compartments for the containers of many tenants",
		Version:       hook.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&e.Config, "config", "", "policy `file` in place of the host's (/usr/share/bulkhead, /etc/bulkhead)")
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	for _, v := range verbs {
		root.AddCommand(v(e))
	}
	e.complete(root)
	err := root.Execute()
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(stderr, "bulkhead: %v\n", err)
	if h := policy.HintOf(err); h != "" {
		fmt.Fprintf(stderr, "hint: %s\n", h)
	}
	return 1
}
