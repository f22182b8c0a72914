// Package stack gives the main goroutine, before anything else is initialised, the stack that a hook will need. A goroutine
// begins with 2 KiB and doubles: each step copies the stack, reads the tables of every function on it, and touches
// pages that no one else does; to 16 KiB that is a tenth of what a hook takes in all. Import it from a main or from what
// every main imports. It imports nothing itself, so that it comes first: packages initialise in the order of their
// paths, as far as their imports allow it (go.dev/ref/spec#Program_initialization).
package stack

func init() { grow(0) }

// grow has a frame of 24 KiB, for which the runtime makes room in one step. None of it is touched.
//
//go:noinline
func grow(n int) int {
	if n == 0 {
		return 0
	}
	var room [24 << 10]byte
	room[n] = 1
	return int(room[n/2])
}
