package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/bulkhead-containers/bulkhead"

type pkg struct {
	ImportPath string
	Name       string
	Dir        string
	Imports    []string
	Deps       []string
	GoFiles    []string
}

func (p pkg) rel() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,Imports,Deps,GoFiles", module+"/...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		var e *exec.ExitError
		if errors.As(err, &e) {
			t.Fatalf("go list: %v: %s", err, e.Stderr)
		}
		t.Fatal(err)
	}
	var ps []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	if len(ps) < 10 {
		t.Fatalf("go list knows %d packages: want the whole module", len(ps))
	}
	return ps
}

func root(t *testing.T) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(wd, "../..")
}

// level orders the house: a package may import only what is below its own level, or, within pkg, its neighbours.
func level(rel string) int {
	switch {
	case strings.HasPrefix(rel, "tests/"), rel == "internal/testenv", rel == "internal/house":
		return 4
	case strings.HasPrefix(rel, "hooks/"), strings.HasPrefix(rel, "cni/"), strings.HasPrefix(rel, "cmd/"):
		return 3
	case strings.HasPrefix(rel, "pkg/"), rel == "install/selinux": // the module's text, embedded
		return 2
	case strings.HasPrefix(rel, "internal/"):
		return 1
	}
	return -1
}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		from := level(p.rel())
		if from < 0 {
			t.Errorf("%s: no such room in the house", p.ImportPath)
		}
		for _, i := range p.Imports {
			if !strings.HasPrefix(i, module+"/") {
				continue
			}
			to := strings.TrimPrefix(i, module+"/")
			if l := level(to); l > from {
				t.Errorf("%s imports %s: imports run from mains to packages to internal/kernel", p.rel(), to)
			} else if l == 3 {
				t.Errorf("%s imports the main %s", p.rel(), to)
			}
		}
	}
}

// banned says what may not be linked where, and why.
var banned = []struct {
	where  []string // path prefixes
	what   string   // import path prefix
	except []string // packages that may, or import paths below what that may be linked
	why    string
}{
	{[]string{"hooks/", "cni/"}, "github.com/cilium/ebpf", nil, "its package initialisation costs each start 0.5 ms; pins are opened by internal/kernel/bpf"},
	{[]string{"cni/"}, "github.com/containernetworking", nil, "CNI's skel costs a plugin 0.2 to 0.3 ms a call; pkg/plugin does what it does"},
	{[]string{"hooks/", "cni/"}, "github.com/spf13/cobra", nil, "a hook has one flag"},
	{[]string{"hooks/", "cni/"}, "github.com/prometheus", nil, "metrics are the admin's CLI's"},
	{[]string{"hooks/", "cni/"}, "net/http", nil, "nothing in a hook talks HTTP; its initialisation costs 0.3 ms"},
	{[]string{"hooks/", "cni/"}, "net", []string{"net/netip"}, "its package initialisation costs each start 0.1 ms, a tenth of an empty Go program; a socket takes three system calls"},
	{[]string{"hooks/", "cni/"}, "log/slog", nil, "it and encoding/json cost each start 0.05 ms; internal/journal says what hooks say"},
	{[]string{"hooks/prestart-label", "pkg/hook", "pkg/tenant", "pkg/policy", "pkg/confine", "pkg/claim", "pkg/namespace", "pkg/device"}, "hash/crc32", nil, "its tables take 0.05 ms"},
	{[]string{"hooks/prestart-label", "hooks/createruntime-", "hooks/poststop-"}, "github.com/go-json-experiment/json", []string{"github.com/go-json-experiment/json/"},
		"what it learns of a struct by reflection takes as long as the rest of a hook: internal/wire"},
	{[]string{"hooks/", "cni/"}, module + "/internal/bpf", nil, "programs are loaded by bulkhead setup"},
	{[]string{"pkg/mcs", "pkg/harden"}, "os/exec", nil, "pure"},
	{[]string{"pkg/mcs"}, "os", nil, "pure"},
	{[]string{"hooks/", "cni/", "pkg/", "cmd/", "internal/"}, "testing", []string{"internal/testenv"}, "tests only"},
}

func TestBans(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, b := range banned {
			if !slices.ContainsFunc(b.where, func(w string) bool { return strings.HasPrefix(p.rel(), w) }) || slices.Contains(b.except, p.rel()) {
				continue
			}
			list := p.Deps // mains are judged by all that they link
			if p.Name != "main" || b.why == "pure" || b.why == "tests only" {
				list = p.Imports
			}
			for _, i := range list {
				below := strings.HasPrefix(i, b.what+"/") && !slices.ContainsFunc(b.except, func(e string) bool { return strings.HasPrefix(i, e) })
				if i == b.what || below && b.what != "os" {
					t.Errorf("%s links %s: %s", p.rel(), i, b.why)
				}
			}
		}
	}
}

func TestMainsAreShort(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.Name != "main" || level(p.rel()) != 3 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(p.Dir, "main.go"))
		if err != nil {
			t.Errorf("%s: %v", p.rel(), err)
			continue
		}
		if n := bytes.Count(b, []byte("\n")); n > 80 {
			t.Errorf("%s/main.go has %d lines: a main parses, calls and exits", p.rel(), n)
		}
	}
}

// Only mains end the process, and only they write to its stdout. Nothing shells out where netlink or a library should do it:
// podman runs hooks without a PATH.
func TestNothingTouchesWhatItMayNot(t *testing.T) {
	t.Parallel()
	for _, rule := range []struct {
		above  int // folders that are higher up may
		banned string
	}{
		{2, `\bos\.(Exit|Stdout)\b|\bflag\.(Parse|String|Bool|Int)\(|\blog\.Fatal`},
		{3, `exec\.Command(Context)?\([^)]*"(/\S*/)?(tc|nft|ip|iptables|ip6tables|chcon|restorecon|semanage|podman|bpftool)"`},
	} {
		re := regexp.MustCompile(rule.banned)
		for _, p := range packages(t) {
			if level(p.rel()) > rule.above {
				continue
			}
			for _, f := range p.GoFiles {
				b, err := os.ReadFile(filepath.Join(p.Dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if m := re.Find(b); m != nil {
					t.Errorf("%s/%s: %s: not here", p.rel(), f, m)
				}
			}
		}
	}
}

// Files stay of a size that one reads at a sitting.
func TestFilesAreReadable(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			fi, err := os.Stat(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if fi.Size() > 40<<10 {
				t.Errorf("%s/%s: %d bytes: want at most 40 KiB", p.rel(), f, fi.Size())
			}
		}
	}
}
