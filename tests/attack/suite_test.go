package attack

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

var table = flag.String("table", "", "write the table of attacks into this markdown `file` of the repository, between its marks")

const twoTenants = `
mode = "enforce"
[identity]
name = { "blue-*" = "blue", "red-*" = "red" }
[egress]
deny = ["10.9.0.0/16", "tcp:25"]
`

const limits = `
[network]
ingress = "1Gbit"
egress = "1Gbit"
`

type column struct {
	name, policy string
	plugins      []map[string]any
	ours         bool
	needs        []testenv.Feature
	hooks        bool
}

func caps(typ string, c ...string) map[string]any {
	m := map[string]any{}
	for _, x := range c {
		m[x] = true
	}
	return map[string]any{"type": typ, "capabilities": m}
}

var (
	portmap = caps("portmap", "portMappings")
	deny    = caps("egressdeny", "portMappings")
	limit   = caps("netlimit", "bandwidth")
)

func columns() []column {
	fw := func(policy string) map[string]any {
		return map[string]any{"type": "firewall", "backend": "iptables", "ingressPolicy": policy}
	}
	return []column{
		{name: "bridge only", plugins: []map[string]any{portmap}},
		{name: "firewall same-bridge", plugins: []map[string]any{portmap, fw("same-bridge")}},
		{name: "firewall isolated", plugins: []map[string]any{portmap, fw("isolated")}},
		{name: "egressdeny", policy: twoTenants, plugins: []map[string]any{portmap, deny}, ours: true},
		{name: "egressdeny, netlimit", policy: twoTenants + limits, plugins: []map[string]any{portmap, deny, limit}, ours: true},
		{name: "netlimit, egressdeny", policy: twoTenants + limits, plugins: []map[string]any{portmap, limit, deny}, ours: true},
		{name: "bandwidth, egressdeny", policy: twoTenants, plugins: []map[string]any{portmap, {"type": "bandwidth", "ingressRate": 1000000000, "ingressBurst": 10000000, "egressRate": 1000000000, "egressBurst": 10000000}, deny}, ours: true,
			needs: []testenv.Feature{testenv.Kernel(6, 6)}}, // tcx, the only place beside bandwidth's qdisc
		{name: "createruntime-net", policy: twoTenants + limits, plugins: []map[string]any{portmap}, ours: true, hooks: true},
	}
}

// populate starts the containers that attacks name.
func (l *lab) populate() {
	published := func(host int) map[string]any {
		return map[string]any{"hostPort": host, "containerPort": 80, "protocol": "tcp"}
	}
	l.add("blue-1", "one")
	l.add("blue-2", "one", published(8081))
	l.add("red-1", "one", published(8080))
	l.add("lone-1", "one")
	l.add("lone-2", "one")
	l.add("blue-3", "two")
	l.add("red-2", "two")
	// the moment of a live container's second network before its guard: the bridge plugin has run, nobody else
	behind, hooks := l.plugins, l.hooks
	l.plugins, l.hooks = nil, false
	l.add("fresh", "one")
	l.plugins, l.hooks = behind, hooks
}

// The suite: every attack in every column, and the controls. Ours must block all and pass all controls; what the others
// do is written into the table, not judged. Some columns alone: -run 'TestAttacks/columns/(bridge-only|egressdeny)$'.
func TestAttacks(t *testing.T) {
	binaries(t)
	var mu sync.Mutex
	reached := map[string]map[string]bool{}
	cols := columns()
	t.Run("columns", func(t *testing.T) {
		for _, c := range cols {
			t.Run(strings.NewReplacer(", ", "+", " ", "-").Replace(c.name), func(t *testing.T) {
				testenv.Need(t, append(c.needs, testenv.Command("iptables"))...)
				t.Parallel()
				l := newLab(t, c.policy, c.plugins...)
				l.hooks = c.hooks
				l.populate()
				got := map[string]bool{}
				for _, k := range controls {
					// a control is about what may pass, not about the first try: a lost SYN is sent again after a second
					patience := 3 * time.Second
					if c.ours {
						patience = 15 * time.Second
					}
					for end := time.Now().Add(patience); !got[k.name] && time.Now().Before(end); {
						got[k.name] = k.run(l)
					}
					if c.ours && !got[k.name] {
						t.Errorf("control does not get through: %s", k.name)
					}
				}
				for _, k := range attacks {
					got[k.name] = k.run(l)
					for i := 0; i < 2 && !got[k.name] && !c.ours; i++ {
						got[k.name] = k.run(l) // a busy machine is no defence
					}
					if c.ours && got[k.name] {
						t.Errorf("attack gets through: %s", k.name)
					}
				}
				if t.Failed() {
					out, err := l.bulkhead("explain", "--drops")
					t.Log(out, err)
				}
				mu.Lock()
				reached[c.name] = got
				mu.Unlock()
				if c.ours {
					l.finish()
				}
			})
		}
	})
	// An attack that works nowhere shows nothing: the test itself may be broken.
	for _, k := range attacks {
		if plain := reached["bridge only"]; plain != nil && !plain[k.name] {
			if why, known := inert[k.name]; !known {
				t.Errorf("attack works on a plain bridge neither, so it shows nothing: %s", k.name)
			} else {
				t.Logf("on a plain bridge too: %s: %s", k.name, why)
			}
		}
	}
	cols = slices.DeleteFunc(cols, func(c column) bool { return reached[c.name] == nil })
	text := markdown(cols, reached)
	t.Log("\n" + text)
	if *table != "" && !t.Failed() && len(cols) == len(columns()) {
		writeTable(t, filepath.Join("../..", *table), text)
	}
}

// inert are attacks that the plain bridge or the kernel stops by itself; they stay for the bridges and kernels that do not.
var inert = map[string]string{
	"LLDP":                                   "a bridge forwards no link-local group",
	"source-routed IPv4 to the world":        "Linux forwards none unless told to (accept_source_route)",
	"a later fragment to what policy denies": "conntrack, in use by portmap's rules, waits for the first",
	"a later fragment to the world, its first not seen":               "conntrack, in use by portmap's rules, waits for the first",
	"a frame longer than the MTU, in one piece (a forged GSO header)": "Linux 6.1 lets nobody send it (UDP_L4)",
}

// finish removes every container and sees that nothing is left in the maps.
func (l *lab) finish() {
	for _, c := range l.ctrs {
		if c.name == "fresh" {
			continue
		}
		c.kill()
		if err := c.each("DEL", nil); err != nil {
			l.t.Error(err)
		}
		if l.hooks {
			if err := c.hook("poststop-accounting", "stopped", 0); err != nil {
				l.t.Error(err)
			}
		}
	}
	if out, err := l.bulkhead("explain", "--ports"); err != nil || out != "" {
		l.t.Errorf("left after DEL: %v\n%s", err, out)
	}
}

func markdown(cols []column, reached map[string]map[string]bool) string {
	var b strings.Builder
	b.WriteString("| attack |")
	for _, c := range cols {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(cols)) + "\n")
	row := func(name string, yes, no string) {
		b.WriteString("| " + name + " |")
		for _, c := range cols {
			mark := no
			if reached[c.name][name] {
				mark = yes
			}
			b.WriteString(" " + mark + " |")
		}
		b.WriteString("\n")
	}
	for _, k := range attacks {
		row(k.name, "**reached**", "-")
	}
	b.WriteString("| **controls: must get through** |" + strings.Repeat(" |", len(cols)) + "\n")
	for _, k := range controls {
		row(k.name, "works", "**broken**")
	}
	total := "| attacks that got through |"
	for _, c := range cols {
		n := 0
		for _, k := range attacks {
			if reached[c.name][k.name] {
				n++
			}
		}
		total += fmt.Sprintf(" %d of %d |", n, len(attacks))
	}
	return b.String() + total + "\n"
}

const begin, end = "<!-- attacks: made by the suite -->\n", "<!-- end of attacks -->\n"

func writeTable(t *testing.T, file, text string) {
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("write table: %s has no marks", file)
	}
	if err := os.WriteFile(file, []byte(head+begin+text+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}
