package netns

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// Each namespace has a number of its own, though its inode's be an earlier one's.
func TestCookie(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	own, err := Cookie("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	cookies, inodes := map[uint64]bool{own: true}, map[uint64]int{}
	for i := range 50 {
		c := exec.Command("sleep", "600")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid)
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		cookie, err := Cookie(path)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Cookie(path); again != cookie || err != nil {
			t.Errorf("the same namespace: %d, then %d, %v", cookie, again, err)
		}
		if cookies[cookie] {
			t.Errorf("namespace %d: cookie %d was another's", i, cookie)
		}
		cookies[cookie] = true
		inodes[st.Ino]++
		c.Process.Kill()
		c.Wait()
	}
	if now, err := Cookie("/proc/thread-self/ns/net"); now != own || err != nil {
		t.Errorf("this thread was in %d, is in %d, %v", own, now, err)
	}
	t.Logf("50 namespaces, %d inodes", len(inodes))
	if _, err := Cookie("/dev/null"); err == nil {
		t.Error("want an error of what is no namespace")
	}
}
func BenchmarkCookie(b *testing.B) {
	for b.Loop() {
		if _, err := Cookie("/proc/self/ns/net"); err != nil {
			b.Fatal(err)
		}
	}
}
