package bpf

import "testing"

func TestFlowSets(t *testing.T) {
	for _, c := range []struct {
		mem  uint64
		want uint32
	}{{0, minFlowSets}, {1 << 30, minFlowSets}, {24 << 30, 64 << 10}, {64 << 30, 256 << 10}, {1 << 42, maxFlowSets}} {
		if got := flowSets(c.mem); got != c.want {
			t.Errorf("flow sets for %d bytes of memory: want %d, have %d", c.mem, c.want, got)
		}
	}
}
