package claim

import (
	"fmt"
	"os"
	"testing"
)

// What a start and an end pay for a thing that many containers of one tenant share: a volume.
func BenchmarkShared(b *testing.B) {
	start, _ := StartOf(os.Getpid())
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := Open(b.TempDir())
			never := func(Claim) bool { return false }
			for i := range n {
				if _, err := x.Take("dir-1-1", Claim{ID: fmt.Sprintf("%064d", i), Compartment: 1, Tenant: "blue", Pid: os.Getpid(), Start: start, Access: Read}, never); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				c := Claim{ID: fmt.Sprintf("%064d", n), Compartment: 1, Tenant: "blue", Pid: os.Getpid(), Start: start, Access: Read}
				if _, err := x.Take("dir-1-1", c, never); err != nil {
					b.Fatal(err)
				}
				if err := x.Drop("dir-1-1", c.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
