package rogue

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The kernel gives the inode number of a network namespace again. Whoever is in one that has the number of an ended container's is
// not that container's: by the cookie nobody is found, without one nobody is killed.
func TestNetworkOfTheSameNumber(t *testing.T) {
	pid, path := testenv.Sleeper(t)
	holder, err := os.Open(path) // this process, which is in another, has it open
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(holder.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	cookie, err := netns.Cookie(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cookie          uint64
		found, killable bool
	}{
		"its own":      {cookie, true, true},
		"another's":    {cookie + 1, false, false},
		"nobody knows": {0, true, false},
	} {
		s, err := Take([]tenant.Record{{ContainerID: id, Netns: st.Ino, NetCookie: tt.cookie}})
		if err != nil {
			t.Fatal(err)
		}
		inside, holds := false, false
		for _, f := range s.Judge() {
			switch f.Process.Pid {
			case pid:
				inside = true
			case os.Getpid():
				holds = true
			default:
				continue
			}
			f.Helper = false // this process is root's own program here and not everywhere
			if killable := !errors.Is(End(f, 0), ErrKept); f.What != HoldsNetwork || killable != tt.killable {
				t.Errorf("%s: killable %t, want %t: %s: %s", name, killable, tt.killable, f.What, f.Why)
			}
		}
		if inside != tt.found || holds != tt.found {
			t.Errorf("%s: found the process inside %t, the one that has it open %t; want %t", name, inside, holds, tt.found)
		}
	}
}
