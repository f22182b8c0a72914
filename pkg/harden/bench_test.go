package harden

import (
	"os"
	"testing"
)

// BenchmarkConfig hardens what podman 4.3 gives its precreate hook.
func BenchmarkConfig(b *testing.B) {
	config, err := os.ReadFile("testdata/podman.json")
	if err != nil {
		b.Fatal(err)
	}
	h := Host{Arch: "amd64", Podman: true}
	b.SetBytes(int64(len(config)))
	b.ReportAllocs()
	for b.Loop() {
		rules, err := ForProfile("baseline")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Config(config, rules, h); err != nil {
			b.Fatal(err)
		}
	}
}
