package main

// counter is RDTSC.
func counter() uint64
