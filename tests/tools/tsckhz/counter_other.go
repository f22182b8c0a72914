//go:build !amd64

package main

func counter() uint64 { return 0 }
