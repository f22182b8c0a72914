//go:build !amd64

package main

import "golang.org/x/sys/unix"

func call32(uint32, ...uint32) error { return unix.ENOSYS }

const has32 = false
