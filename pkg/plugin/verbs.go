package plugin

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/sysmon"
	_ "github.com/bulkhead-containers/bulkhead/internal/stack"
	"github.com/bulkhead-containers/bulkhead/internal/wire"
)

// Versions are those of the CNI specification that these plugins speak.
var Versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// Args is one invocation as the engine makes it (CNI specification 1.1.0, "Parameters").
type Args struct {
	ContainerID, Netns, IfName, Args string
	StdinData                        []byte
	Head                             Head
}

// Head is what the configuration on stdin has of its own, whatever the plugin.
type Head struct{ CNIVersion, Name, PolicyFile string }

// Verbs are a plugin's functions.
type Verbs struct{ Add, Check, Del, GC, Status func(*Args) error }

// Run does what the environment asks for, and gives the exit status; an error goes to stdout as the specification has it.
//
// It does what CNI's skel does, and is here for what that costs a start: 0.2 to 0.3 ms of reflection, regular expressions
// and a thread (docs/netlimit.md). The namespace is looked at before the verb, not after.
func (v Verbs) Run(getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer, about string) int {
	sysmon.Ease()
	if getenv("CNI_COMMAND") == "" {
		fmt.Fprintf(stderr, "%s\nCNI protocol versions supported: %s\n", about, strings.Join(Versions, ", "))
		return 0
	}
	head, err := v.run(getenv, stdin, stdout)
	if err == nil {
		return 0
	}
	e := &Error{Code: CodeInternal, Msg: err.Error()}
	errors.As(err, &e)
	var w wire.Writer
	w.Object("", func() {
		w.Text("cniVersion", head.CNIVersion, false)
		w.Number("code", uint64(e.Code), true)
		w.Text("msg", e.Msg, true)
		w.Text("details", e.Details, false)
	})
	if _, err := stdout.Write(append(w.B, '\n')); err != nil {
		fmt.Fprintf(stderr, "%s: %v (%v)\n", about, e, err)
	}
	return 1
}

func (v Verbs) run(getenv func(string) string, stdin io.Reader, stdout io.Writer) (Head, error) {
	cmd := getenv("CNI_COMMAND")
	verb, ok := map[string]struct {
		call  func(*Args) error
		since string // of the specification
		needs []string
	}{
		"ADD":     {v.Add, "", []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"}},
		"CHECK":   {v.Check, "0.4.0", []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"}},
		"DEL":     {v.Del, "", []string{"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"}},
		"GC":      {v.GC, "1.1.0", []string{"CNI_PATH"}},
		"STATUS":  {v.Status, "1.1.0", []string{"CNI_PATH"}},
		"VERSION": {},
	}[cmd]
	if !ok {
		return Head{}, &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("CNI_COMMAND: want ADD, CHECK, DEL, GC, STATUS or VERSION, have %q", cmd)}
	}
	if verb.call == nil {
		_, err := fmt.Fprintf(stdout, "{\"cniVersion\":%q,\"supportedVersions\":[\"%s\"]}\n", Versions[len(Versions)-1], strings.Join(Versions, `","`))
		return Head{}, err
	}
	var missing []string
	for _, name := range verb.needs {
		if getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return Head{}, &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("required env variables [%s] missing", strings.Join(missing, ","))}
	}
	a := &Args{ContainerID: getenv("CNI_CONTAINERID"), Netns: getenv("CNI_NETNS"), IfName: getenv("CNI_IFNAME"), Args: getenv("CNI_ARGS")}
	if slices.Contains(verb.needs, "CNI_CONTAINERID") && !validName(a.ContainerID) {
		return Head{}, &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("CNI_CONTAINERID: want a letter or digit, then letters, digits and _.-, have %q", a.ContainerID)}
	}
	if slices.Contains(verb.needs, "CNI_IFNAME") && !validInterface(a.IfName) {
		return Head{}, &Error{Code: CodeEnvironment, Msg: fmt.Sprintf("CNI_IFNAME: want 1 to 15 characters without / : and blanks, have %q", a.IfName)}
	}
	var err error
	if a.StdinData, err = io.ReadAll(io.LimitReader(stdin, maxConfig+1)); err != nil {
		return Head{}, &Error{Code: CodeIO, Msg: fmt.Sprintf("read stdin: %v", err)}
	}
	if a.Head, err = readHead(a.StdinData); err != nil {
		return a.Head, &Error{Code: CodeDecode, Msg: err.Error()}
	}
	if !validName(a.Head.Name) {
		return a.Head, &Error{Code: CodeConfig, Msg: fmt.Sprintf("name of the network: want a letter or digit, then letters, digits and _.-, have %q", a.Head.Name)}
	}
	if at := slices.Index(Versions, a.Head.CNIVersion); at < 0 || at < slices.Index(Versions, verb.since) {
		want := Versions[max(slices.Index(Versions, verb.since), 0):]
		return a.Head, &Error{Code: CodeIncompatible, Msg: fmt.Sprintf("cniVersion for %s: want one of %s, have %q", cmd, strings.Join(want, ", "), a.Head.CNIVersion)}
	}
	if o := getenv("CNI_NETNS_OVERRIDE"); a.Netns != "" && o != "1" && !strings.EqualFold(o, "true") && ownNamespace(a.Netns) {
		return a.Head, &Error{Code: CodeNetns, Msg: fmt.Sprintf("CNI_NETNS: want the container's network namespace, have the plugin's own: %s", a.Netns)}
	}
	return a.Head, verb.call(a)
}

// readHead finds the keys of Head without decoding the rest; what is wrong with that is the verb's to say.
func readHead(stdin []byte) (h Head, err error) {
	if len(stdin) > maxConfig {
		return h, fmt.Errorf("%w: want at most %d bytes, have more", ErrDecode, maxConfig)
	}
	err = wire.Whole(stdin, func(d *wire.Decoder, key string) error {
		switch key {
		case "cniVersion":
			return wire.Value(d, &h.CNIVersion)
		case "name":
			return wire.Value(d, &h.Name)
		case "config":
			return wire.Value(d, &h.PolicyFile)
		}
		return wire.Value(d, nil)
	})
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrDecode, err)
	}
	return h, err
}

// validName is the specification's rule for names of networks and containers.
func validName(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return s != ""
}

// validInterface is the kernel's rule (dev_valid_name in net/core/dev.c).
func validInterface(s string) bool {
	return s != "" && len(s) < unix.IFNAMSIZ && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\n\v\f\r")
}

// ownNamespace says whether path is the namespace that the plugin itself runs in. One that is gone is not.
func ownNamespace(path string) bool {
	var own, theirs unix.Stat_t
	return unix.Stat(path, &theirs) == nil && unix.Stat("/proc/thread-self/ns/net", &own) == nil && own.Dev == theirs.Dev && own.Ino == theirs.Ino
}
