package label

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// The label is written as it would be under SELinux; without it the kernel keeps the attribute and enforces nothing, so
// the walk can be tried anywhere that root is.
const blueFiles = "system_u:object_r:container_file_t:s0:c5,c6"

func labelOf(t testing.TB, path string) string {
	t.Helper()
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	l, err := selinux.Label(fd)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// tree makes files named by their paths; a path that ends in a slash is a directory.
func tree(t testing.TB, paths ...string) string {
	t.Helper()
	testenv.Need(t, testenv.Root)
	top := filepath.Join(t.TempDir(), "top")
	for _, p := range append([]string{"/"}, paths...) {
		p = filepath.Join(top, p) + map[bool]string{true: "/"}[p[len(p)-1] == '/']
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if p[len(p)-1] != '/' {
			if err := os.WriteFile(p, []byte(p), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return top
}

func TestRelabel(t *testing.T) {
	top := tree(t, "a", "d/b", "d/e/c", "empty/")
	outside := filepath.Join(filepath.Dir(top), "outside")
	if err := os.WriteFile(outside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(outside, top+"/link"), os.Symlink("/etc", top+"/etc"), unix.Mkfifo(top+"/fifo", 0o600),
		unix.Mknod(top+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))); err != nil {
		t.Fatal(err)
	}
	etc, out, node := labelOf(t, "/etc"), labelOf(t, outside), labelOf(t, top+"/null")
	res, err := Relabel(top, blueFiles, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"", "/a", "/d", "/d/b", "/d/e", "/d/e/c", "/empty", "/link", "/etc", "/fifo"} {
		if got := labelOf(t, top+p); got != blueFiles {
			t.Errorf("label of %q: want %s, have %q", p, blueFiles, got)
		}
	}
	if got := labelOf(t, outside); got != out {
		t.Errorf("attack: a symlink carried the label out of the tree: %q", got)
	}
	if got := labelOf(t, "/etc"); got != etc {
		t.Errorf("attack: a symlink carried the label to /etc: %q", got)
	}
	if got := labelOf(t, top+"/null"); got != node {
		t.Errorf("a device node was labelled: %q", got)
	}
	if res.Changed != 10 {
		t.Errorf("changed: want 10, have %d", res.Changed)
	}
	again, err := Relabel(top, blueFiles, nil)
	if err != nil || !again.Done || again.Changed != 0 {
		t.Errorf("Relabel again = %+v, %v; want nothing to do", again, err)
	}
}

// The top gets its label last, so that a walk which was killed is taken up again and passes over what is done.
func TestInterruptedAndResumed(t *testing.T) {
	top := tree(t, "a/1", "a/2", "b/1", "c/1")
	mount := top + "/stop"
	stop := errors.New("stop")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	// owner stands for a kill after the first look; then a hard link outside stops it at the very end
	if _, err := Relabel(top, blueFiles, func(string) error { return stop }); !errors.Is(err, stop) || labelOf(t, top+"/a/1") == blueFiles {
		t.Errorf("owner's refusal: want nothing changed, have %v", err)
	}
	if err := os.Link(top+"/c/1", top+"/../elsewhere"); err != nil {
		t.Fatal(err)
	}
	if _, err := Relabel(top, blueFiles, nil); !errors.Is(err, ErrHardLink) {
		t.Fatalf("want ErrHardLink, have %v", err)
	}
	if labelOf(t, top) == blueFiles {
		t.Fatal("the top has its label though the walk was not done")
	}
	if err := os.Remove(top + "/../elsewhere"); err != nil {
		t.Fatal(err)
	}
	res, err := Relabel(top, blueFiles, nil)
	if err != nil || res.Done || res.Changed != 2 { // c/1 and the top
		t.Errorf("resumed: %+v, %v; want 2 changed", res, err)
	}
	if got := labelOf(t, top+"/c/1"); got != blueFiles {
		t.Errorf("label of c/1: %q", got)
	}
}

func TestHardLinks(t *testing.T) {
	top := tree(t, "a", "d/")
	if err := os.Link(top+"/a", top+"/d/a2"); err != nil {
		t.Fatal(err)
	}
	if _, err := Relabel(top, blueFiles, nil); err != nil || labelOf(t, top+"/a") != blueFiles {
		t.Errorf("both links inside: %v, %q", err, labelOf(t, top+"/a"))
	}

	top = tree(t, "d/")
	secret := filepath.Join(filepath.Dir(top), "secret")
	if err := errors.Join(os.WriteFile(secret, nil, 0o600), os.Link(secret, top+"/d/mine")); err != nil {
		t.Fatal(err)
	}
	if _, err := Relabel(top, blueFiles, nil); !errors.Is(err, ErrHardLink) {
		t.Errorf("attack: a link to a file outside: want ErrHardLink, have %v", err)
	}
	if got := labelOf(t, secret); got == blueFiles {
		t.Error("attack: the file outside was labelled")
	}
}

func TestNoMountNoSymlinkOnTheWay(t *testing.T) {
	top := tree(t, "a", "mnt/")
	testenv.Need(t, testenv.MountNS)
	if err := unix.Mount("tmpfs", top+"/mnt", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(top+"/mnt", unix.MNT_DETACH)
	if err := os.WriteFile(top+"/mnt/foreign", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before := labelOf(t, top+"/mnt/foreign")
	res, err := Relabel(top, blueFiles, nil)
	if err != nil || len(res.Mounts) != 1 || res.Mounts[0] != "mnt" {
		t.Errorf("Relabel = %+v, %v; want the mount passed over", res, err)
	}
	if got := labelOf(t, top+"/mnt/foreign"); got != before {
		t.Errorf("another file system was labelled: %q", got)
	}
	link := filepath.Join(filepath.Dir(top), "link")
	if err := os.Symlink(top, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Relabel(link, "u:r:other_t:s0", nil); !errors.Is(err, ErrTree) {
		t.Errorf("top is a symlink: want ErrTree, have %v", err)
	}
	if _, err := Relabel(link+"/mnt", "u:r:other_t:s0", nil); !errors.Is(err, ErrTree) {
		t.Errorf("symlink on the way: want ErrTree, have %v", err)
	}
}

func TestTooDeep(t *testing.T) {
	top := tree(t)
	testenv.Need(t, testenv.Root)
	fd, err := unix.Open(top, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range maxDepth + 2 {
		if err := unix.Mkdirat(fd, "dddddddddddddddddddddddd", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "dddddddddddddddddddddddd", unix.O_DIRECTORY|unix.O_RDONLY, 0)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	unix.Close(fd)
	if _, err := Relabel(top, blueFiles, nil); !errors.Is(err, ErrDeep) {
		t.Errorf("want ErrDeep, have %v", err)
	}
}

// A live container of the tenant swaps directories for symlinks to a victim, moves them and links files while the walk
// runs, again and again: the victim's label never changes, and the walk ends.
func TestRace(t *testing.T) {
	testenv.Need(t, testenv.Root)
	var paths []string
	for i := range 40 {
		paths = append(paths, fmt.Sprintf("d%d/f", i), fmt.Sprintf("d%d/e/f", i))
	}
	top := tree(t, paths...)
	victim := filepath.Join(filepath.Dir(top), "victim")
	if err := errors.Join(os.MkdirAll(victim+"/e", 0o755), os.WriteFile(victim+"/f", nil, 0o644), os.WriteFile(victim+"/e/f", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	guarded := []string{victim, victim + "/f", victim + "/e", victim + "/e/f"}
	before := map[string]string{}
	for _, g := range guarded {
		before[g] = labelOf(t, g)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var enemies sync.WaitGroup
	swaps := make([]int, 2)
	for n := range 2 {
		enemies.Add(1)
		go func() {
			defer enemies.Done()
			for i := n; ctx.Err() == nil; i += 2 {
				d := fmt.Sprintf("%s/d%d", top, i%40)
				aside := fmt.Sprintf("%s/aside%d", top, n)
				if os.Rename(d, aside) != nil {
					continue
				}
				// errors are an enemy's own trouble
				_ = os.Symlink(victim, d)
				_ = os.Symlink(victim+"/f", aside+"/s")
				_ = os.Rename(aside+"/e", aside+"/e2")
				_ = os.Symlink("../../victim/e", aside+"/e")
				_ = os.Remove(d)
				_ = os.Remove(aside + "/e")
				_ = os.Remove(aside + "/s")
				_ = os.Rename(aside+"/e2", aside+"/e")
				_ = os.Rename(aside, d)
				swaps[n]++
			}
		}()
	}
	deadline := time.Now().Add(1500 * time.Millisecond)
	rounds := 0
	for ; time.Now().Before(deadline); rounds++ {
		l := fmt.Sprintf("system_u:object_r:container_file_t:s0:c5,c%d", 6+rounds%2)
		if _, err := Relabel(top, l, nil); err != nil {
			t.Fatalf("round %d: %v", rounds, err)
		}
	}
	cancel()
	enemies.Wait()
	for _, g := range guarded {
		if got := labelOf(t, g); got != before[g] {
			t.Errorf("attack: %s was labelled %q", g, got)
		}
	}
	if rounds < 5 || swaps[0]+swaps[1] < 100 {
		t.Errorf("the race was none: %d walks against %d swaps", rounds, swaps[0]+swaps[1])
	}
	t.Logf("%d walks against %d swaps", rounds, swaps[0]+swaps[1])
}

// 10,000 files, in turn with `chcon -hR` of the same tree (docs/prestart-label.md).
func BenchmarkRelabel10000(b *testing.B) {
	testenv.Need(b, testenv.Command("chcon"))
	var paths []string
	for i := range 10000 {
		paths = append(paths, fmt.Sprintf("d%d/f%d", i/100, i))
	}
	top := tree(b, paths...)
	if _, err := Relabel(top, blueFiles, nil); err != nil {
		b.Fatal(err)
	}
	cpu := func(who int) float64 {
		var ru unix.Rusage
		if err := unix.Getrusage(who, &ru); err != nil {
			b.Fatal(err)
		}
		return float64(ru.Utime.Nano()+ru.Stime.Nano()) / 1e6
	}
	var ours, theirs, oursCPU, theirsCPU []float64
	for n := 0; b.Loop(); n++ {
		l := fmt.Sprintf("system_u:object_r:container_file_t:s0:c5,c%d", 7+2*(n%2))
		self, start := cpu(unix.RUSAGE_SELF), time.Now()
		if _, err := Relabel(top, l, nil); err != nil {
			b.Fatal(err)
		}
		mid, selfAfter, child := time.Now(), cpu(unix.RUSAGE_SELF), cpu(unix.RUSAGE_CHILDREN)
		if out, err := exec.Command("chcon", "-hR", fmt.Sprintf("system_u:object_r:container_file_t:s0:c5,c%d", 8+2*(n%2)), top).CombinedOutput(); err != nil {
			b.Fatalf("chcon: %v %s", err, out)
		}
		oursCPU, theirsCPU = append(oursCPU, selfAfter-self), append(theirsCPU, cpu(unix.RUSAGE_CHILDREN)-child)
		ours, theirs = append(ours, mid.Sub(start).Seconds()*1e3), append(theirs, time.Since(mid).Seconds()*1e3)
	}
	for name, list := range map[string][]float64{"relabel-ms": ours, "chcon-ms": theirs, "relabel-cpu-ms": oursCPU, "chcon-cpu-ms": theirsCPU} {
		slices.Sort(list)
		b.ReportMetric(list[len(list)/2], name)
	}
}

// What the directory says that an entry is may have been changed since, to anything: no device is opened for it, no symlink
// followed, and what may be labelled is.
func TestEntryIsSomethingElse(t *testing.T) {
	testenv.Need(t, testenv.MountNS)
	top := tree(t, "f", "dir/f")
	outside := filepath.Join(filepath.Dir(top), "outside")
	if err := errors.Join(os.WriteFile(outside, nil, 0o644), os.Symlink(outside, top+"/link"), unix.Mkfifo(top+"/fifo", 0o600),
		unix.Mknod(top+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))); err != nil {
		t.Fatal(err)
	}
	plain, err := selinux.OpenRoot(top)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(plain)
	inert, err := selinux.Inert(plain)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inert)
	if fd, err := selinux.OpenFile(plain, "null"); err != nil {
		t.Errorf("control: /dev/null's like is not opened in the tree itself: %v", err)
	} else {
		unix.Close(fd)
	}
	if fd, err := selinux.OpenFile(inert, "null"); !errors.Is(err, unix.EACCES) {
		t.Errorf("attack: a device in the place of a file: want EACCES, have descriptor %d, %v", fd, err)
	}
	for n, fd := range []int{plain, inert} {
		for _, kind := range []byte{unix.DT_REG, unix.DT_DIR, unix.DT_UNKNOWN, unix.DT_LNK} {
			w := &walk{label: fmt.Sprintf("u:r:t%d_t:s0:c%d", n, kind), inert: fd == inert, links: map[inode]*linked{}}
			for name, want := range map[string]bool{"f": true, "dir": true, "link": true, "fifo": true, "null": false, "gone": false} {
				if err := w.entry(fd, entry{name, kind}, "", 0); err != nil {
					t.Errorf("%s taken for %d: %v", name, kind, err)
				}
				if name != "gone" && (labelOf(t, top+"/"+name) == w.label) != want {
					t.Errorf("%s taken for %d: label %s", name, kind, labelOf(t, top+"/"+name))
				}
			}
			if labelOf(t, top+"/dir/f") != w.label {
				t.Errorf("dir taken for %d: its file has %s", kind, labelOf(t, top+"/dir/f"))
			}
			if labelOf(t, outside) == w.label {
				t.Errorf("attack: a symlink taken for %d was followed", kind)
			}
		}
	}
}
