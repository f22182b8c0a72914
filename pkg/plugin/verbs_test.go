package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
)

// run is a plugin whose every verb succeeds, and says that it ran.
func run(env map[string]string, stdin string) (exit int, stdout, stderr string, ran string, args *Args) {
	verb := func(name string) func(*Args) error {
		return func(a *Args) error {
			ran, args = name, a
			if a.ContainerID == "fails" {
				return &Error{102, "message", "details"}
			}
			if a.ContainerID == "breaks" {
				return errors.New("cause")
			}
			return nil
		}
	}
	v := Verbs{Add: verb("ADD"), Check: verb("CHECK"), Del: verb("DEL"), GC: verb("GC"), Status: verb("STATUS")}
	var o, e bytes.Buffer
	exit = v.Run(func(k string) string { return env[k] }, strings.NewReader(stdin), &o, &e, "about")
	return exit, o.String(), e.String(), ran, args
}

func TestRun(t *testing.T) {
	t.Parallel()
	const conf = `{"cniVersion":"1.1.0","name":"net","config":"/etc/p","x":{"name":"inner"}}`
	whole := map[string]string{"CNI_CONTAINERID": "abc", "CNI_NETNS": "/nosuch", "CNI_IFNAME": "eth0", "CNI_PATH": "/x", "CNI_ARGS": "A=b"}
	for _, tt := range []struct {
		name  string
		verb  string
		env   map[string]string // over whole; "-" takes one away
		stdin string
		code  uint // 0: the verb runs
		says  string
	}{
		{name: "add", verb: "ADD"},
		{name: "check", verb: "CHECK"},
		{name: "del", verb: "DEL"},
		{name: "gc", verb: "GC"},
		{name: "status", verb: "STATUS"},
		{name: "del without a namespace", verb: "DEL", env: map[string]string{"CNI_NETNS": "-"}},
		{name: "gc without a container", verb: "GC", env: map[string]string{"CNI_CONTAINERID": "-", "CNI_IFNAME": "-", "CNI_NETNS": "-"}},
		{name: "add in 0.3.0", verb: "ADD", stdin: `{"cniVersion":"0.3.0","name":"net"}`},
		{name: "add without a namespace", verb: "ADD", env: map[string]string{"CNI_NETNS": "-", "CNI_IFNAME": "-"}, code: types.ErrInvalidEnvironmentVariables, says: "[CNI_NETNS,CNI_IFNAME]"},
		{name: "unknown verb", verb: "MOVE", code: types.ErrInvalidEnvironmentVariables, says: "MOVE"},
		{name: "bad container", verb: "ADD", env: map[string]string{"CNI_CONTAINERID": "../x"}, code: types.ErrInvalidEnvironmentVariables, says: "../x"},
		{name: "bad interface", verb: "ADD", env: map[string]string{"CNI_IFNAME": "a/b"}, code: types.ErrInvalidEnvironmentVariables, says: "a/b"},
		{name: "long interface", verb: "ADD", env: map[string]string{"CNI_IFNAME": "eth0123456789abc"}, code: types.ErrInvalidEnvironmentVariables, says: "eth0123456789abc"},
		{name: "check in 0.3.1", verb: "CHECK", stdin: `{"cniVersion":"0.3.1","name":"net"}`, code: types.ErrIncompatibleCNIVersion, says: "0.3.1"},
		{name: "gc in 1.0.0", verb: "GC", stdin: `{"cniVersion":"1.0.0","name":"net"}`, code: types.ErrIncompatibleCNIVersion, says: "1.0.0"},
		{name: "status in 1.0.0", verb: "STATUS", stdin: `{"cniVersion":"1.0.0","name":"net"}`, code: types.ErrIncompatibleCNIVersion, says: "1.0.0"},
		{name: "later version", verb: "ADD", stdin: `{"cniVersion":"2.0.0","name":"net"}`, code: types.ErrIncompatibleCNIVersion, says: "2.0.0"},
		{name: "no version", verb: "ADD", stdin: `{"name":"net"}`, code: types.ErrIncompatibleCNIVersion, says: `""`},
		{name: "no name", verb: "ADD", stdin: `{"cniVersion":"1.0.0"}`, code: types.ErrInvalidNetworkConfig, says: `""`},
		{name: "bad name", verb: "DEL", stdin: `{"cniVersion":"1.0.0","name":"a/b"}`, code: types.ErrInvalidNetworkConfig, says: "a/b"},
		{name: "number for a name", verb: "DEL", stdin: `{"cniVersion":"1.0.0","name":7}`, code: types.ErrDecodingFailure, says: "7"},
		{name: "name twice", verb: "DEL", stdin: `{"cniVersion":"1.0.0","name":"a","name":"b"}`, code: types.ErrDecodingFailure, says: "name"},
		{name: "nothing", verb: "DEL", stdin: ` `, code: types.ErrDecodingFailure, says: "EOF"},
		{name: "list", verb: "DEL", stdin: `[]`, code: types.ErrDecodingFailure, says: "object"},
		{name: "torn", verb: "DEL", stdin: `{"cniVersion":"1.0.0","name":"a"`, code: types.ErrDecodingFailure, says: "EOF"},
		{name: "two", verb: "DEL", stdin: `{"cniVersion":"1.0.0","name":"a"}{}`, code: types.ErrDecodingFailure, says: "nothing behind"},
		{name: "huge", verb: "DEL", stdin: conf + strings.Repeat(" ", maxConfig), code: types.ErrDecodingFailure, says: "at most"},
		{name: "own namespace", verb: "ADD", env: map[string]string{"CNI_NETNS": "/proc/self/ns/net"}, code: types.ErrInvalidNetNS, says: "/proc/self/ns/net"},
		{name: "own namespace, meant", verb: "ADD", env: map[string]string{"CNI_NETNS": "/proc/self/ns/net", "CNI_NETNS_OVERRIDE": "TRUE"}},
		{name: "the verb fails", verb: "ADD", env: map[string]string{"CNI_CONTAINERID": "fails"}, code: 102, says: "message"},
		{name: "the verb breaks", verb: "ADD", env: map[string]string{"CNI_CONTAINERID": "breaks"}, code: types.ErrInternal, says: "cause"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"CNI_COMMAND": tt.verb}
			for _, m := range []map[string]string{whole, tt.env} {
				for k, v := range m {
					env[k] = strings.TrimPrefix(v, "-")
				}
			}
			stdin := tt.stdin
			if stdin == "" {
				stdin = conf
			}
			exit, out, errs, ran, args := run(env, stdin)
			if tt.code == 0 {
				if exit != 0 || out != "" || ran != tt.verb {
					t.Fatalf("exit %d, stdout %q, stderr %q, ran %q: want %s to run", exit, out, errs, ran, tt.verb)
				}
				if args.Netns != env["CNI_NETNS"] || args.Args != "A=b" || string(args.StdinData) != stdin || args.Head.Name != "net" {
					t.Errorf("arguments: %+v", args)
				}
				if l := args.Lenient(); tt.stdin == "" && (l.Name != "net" || l.PolicyFile != "/etc/p") {
					t.Errorf("what DEL needs: %+v", args.Lenient())
				}
				return
			}
			var e struct {
				CNIVersion string
				Code       uint
				Msg        string
				Details    string
			}
			if err := json.Unmarshal([]byte(out), &e); err != nil || exit != 1 {
				t.Fatalf("exit %d, stdout %q (%v): want a CNI error", exit, out, err)
			}
			if e.Code != tt.code || !strings.Contains(e.Msg, tt.says) {
				t.Errorf("have code %d, %q; want %d, with %q", e.Code, e.Msg, tt.code, tt.says)
			}
			if e.Code == 102 && (e.Details != "details" || e.CNIVersion != "1.1.0") {
				t.Errorf("have %+v, want details and version", e)
			}
			if ran != "" && tt.code < 100 && tt.code != types.ErrInternal {
				t.Errorf("%s ran", ran)
			}
		})
	}
}

func TestRunWithoutStdin(t *testing.T) {
	t.Parallel()
	exit, out, _, _, _ := run(map[string]string{"CNI_COMMAND": "VERSION"}, "")
	var v struct {
		CNIVersion        string
		SupportedVersions []string
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || exit != 0 || v.CNIVersion != "1.1.0" || len(v.SupportedVersions) != 5 {
		t.Errorf("VERSION: exit %d, %q (%v)", exit, out, err)
	}
	if exit, out, errs, _, _ := run(nil, ""); exit != 0 || out != "" || !strings.Contains(errs, "about") || !strings.Contains(errs, "0.3.0") {
		t.Errorf("no command: exit %d, stdout %q, stderr %q", exit, out, errs)
	}
}

// The head is what a whole decode has there.
func FuzzHead(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"net","config":"/p","list":[1,{"name":"x"}]}`))
	f.Add([]byte(`{"name":"n\u0061me"} `))
	f.Add([]byte(`{"name":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHead(b)
		if err != nil {
			return
		}
		var c Config
		if err := c.Decode(b, func(d *wire.Decoder, _ string) (bool, error) { return true, wire.Value(d, nil) }); err != nil {
			return // the rest of it is the verb's to refuse
		}
		if h != (Head{c.CNIVersion, c.Name, c.PolicyFile}) {
			t.Errorf("%q: have %+v, want %+v", b, h, c)
		}
	})
}
