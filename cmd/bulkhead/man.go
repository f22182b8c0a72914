package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manCommand writes bulkhead(8) from the commands themselves, so that the page cannot say other than --help.
func manCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:    "man",
		Short:  "Write the manual page, as roff",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return writePage(e.Stdout, c.Root())
		},
	}
}

func writePage(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH BULKHEAD 8 \"\" %q \"System administration\"\n", "bulkhead "+root.Version)
	fmt.Fprintf(&b, ".SH NAME\nbulkhead \\- %s\n", roff(strings.ToLower(root.Short[:1])+root.Short[1:]))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B bulkhead\n[\\fB\\-\\-config\\fR \\fIfile\\fR] \\fIcommand\\fR [\\fIargument\\fR ...]\n.SH OPTIONS\n")
	flags(&b, root.PersistentFlags())
	b.WriteString(".SH COMMANDS\n")
	pages(&b, root)
	b.WriteString(`.SH "EXIT STATUS"
0 on success; 1 on an error, and where a command was asked whether something holds and it does not.
.SH FILES
.TP
.I /etc/bulkhead/policy.toml, /etc/bulkhead/policy.toml.d/*.toml
the policy, over that of /usr/share/bulkhead
.TP
.I /run/bulkhead
records of containers, locks, pinned eBPF: until the next boot
.TP
.I /var/lib/bulkhead
the registry of tenants, open accounts, the ledger
.SH "SEE ALSO"
.BR bulkhead-policy (5),
.BR bulkhead-ledger (5),
.BR bulkhead-hardening (7),
.BR bulkhead-runtime (8),
.BR egressdeny (8),
.BR netlimit (8)
`)
	_, err := io.WriteString(w, b.String())
	return err
}

// pages is a section for each command below c that does something.
func pages(b *strings.Builder, c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		if sub.Runnable() {
			text := sub.Long
			if text == "" {
				text = sub.Short + "."
			}
			fmt.Fprintf(b, ".SS %q\n.nf\n%s\n.fi\n", strings.TrimPrefix(sub.CommandPath(), "bulkhead "), roff(sub.UseLine()))
			for i, par := range strings.Split(text, "\n\n") {
				if i > 0 {
					b.WriteString(".PP\n")
				}
				fmt.Fprintf(b, "%s\n", roff(par))
			}
			flags(b, sub.LocalNonPersistentFlags())
		}
		pages(b, sub)
	}
}

func flags(b *strings.Builder, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		if f.Shorthand != "" {
			fmt.Fprintf(b, ".TP\n\\fB\\-%s\\fR, \\fB\\-\\-%s\\fR", f.Shorthand, roff(f.Name))
		} else {
			fmt.Fprintf(b, ".TP\n\\fB\\-\\-%s\\fR", roff(f.Name))
		}
		if value != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(value))
		}
		fmt.Fprintf(b, "\n%s", roff(usage))
		if !strings.Contains("false 0 0s []", f.DefValue) {
			fmt.Fprintf(b, " (%s)", roff(f.DefValue))
		}
		b.WriteString("\n")
	})
}

// roff escapes what groff would read as its own: backslashes, hyphens that are to be typed, control characters at a line's start.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(strings.TrimSpace(s))
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
