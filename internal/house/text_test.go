package house

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// files lists what git tracks, without what is generated.
func files(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	fs := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	if len(fs) < 50 {
		t.Fatalf("git tracks %d files: want the whole tree", len(fs))
	}
	return fs
}

// The words are put together here, so that this file does not hold them.
var unwanted = []struct {
	re  *regexp.Regexp
	why string
}{
	{regexp.MustCompile(`(^|[^A-Za-z0-9_.-])/(wo` + `rk|fa` + `rm)/`), "a path of one machine"},
	{regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`), "what is not done is refused with an error, not marked in the text"},
	{regexp.MustCompile(`proxy\.` + `golang\.org|deb\.` + `debian\.org|registry\.` + `npmjs`), "the host of a registry"},
	{regexp.MustCompile(`\b[Tt]his (ses` + `sion|iss` + `ue)\b`), "how the text came about is not its reader's business"},
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, f := range files(t) {
		if strings.HasSuffix(f, ".o") || strings.HasSuffix(f, "go.sum") || strings.HasSuffix(f, ".svg") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root(t), f))
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b, 0) >= 0 {
			t.Errorf("%s: a binary file", f)
			continue
		}
		for _, u := range unwanted {
			if loc := u.re.FindIndex(b); loc != nil {
				line := 1 + bytes.Count(b[:loc[0]], []byte("\n"))
				t.Errorf("%s:%d: %q: %s", f, line, b[loc[0]:loc[1]], u.why)
			}
		}
	}
}

// Every page that a page points to is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	re := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, f := range files(t) {
		if !strings.HasSuffix(f, ".md") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(root(t), f))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range re.FindAllSubmatch(b, -1) {
			if _, err := os.Stat(filepath.Join(root(t), filepath.Dir(f), string(m[1]))); err != nil {
				t.Errorf("%s: links to %s, which is not there", f, m[1])
			}
		}
	}
}
