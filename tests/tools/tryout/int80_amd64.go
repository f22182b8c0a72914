package main

import "golang.org/x/sys/unix"

func int80(nr, a, b, c, d, e uint32) int32

// call32 makes a 32-bit system call; pointers would have to be below 4 GiB, so none are passed.
func call32(nr uint32, args ...uint32) error {
	var a [5]uint32
	copy(a[:], args)
	if r := int80(nr, a[0], a[1], a[2], a[3], a[4]); r < 0 && r > -4096 {
		return unix.Errno(-r)
	}
	return nil
}

const has32 = true
