package main

import "testing"

// BenchmarkVerbs is what the verbs cost without the start of a process.
func BenchmarkVerbs(b *testing.B) {
	w := newWorld(b, "")
	c := w.box("c")
	w.must("ADD", c, k8sBurst)
	w.must("DEL", c, k8sBurst)
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		b.Run(verb, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if verb != "ADD" {
					w.must("ADD", c, k8sBurst)
				}
				b.StartTimer()
				w.must(verb, c, k8sBurst)
				b.StopTimer()
				w.must("DEL", c, k8sBurst)
				b.StartTimer()
			}
		})
	}
}
