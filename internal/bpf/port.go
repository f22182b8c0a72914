package bpf

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"fmt"
	"math/bits"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:embed port.bpf.o
var portELF []byte

// Sizes of the flow table, in sets of eight flows (456 bytes). pkg/port gives each tenant its share of them.
const (
	minFlowSets = 16 << 10  // 131,072 flows, 7.5 MB
	maxFlowSets = 256 << 10 // 2,097,152 flows, 120 MB
)

// portObject is port.c: the program at a container's interface.
var portObject = Object{Name: "port", ELF: portELF, Prepare: func(s *ebpf.CollectionSpec) error {
	flows, ok := s.Maps["flows"]
	if !ok {
		return fmt.Errorf("find map %q: not in the object", "flows")
	}
	flows.MaxEntries = flowSets(memTotal())
	var seed [4]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("make seed: %w", err)
	}
	v, ok := s.Variables["seed"]
	if !ok {
		return fmt.Errorf("find variable %q: not in the object", "seed")
	}
	return v.Set(binary.NativeEndian.Uint32(seed[:]))
}}

// SetupPort loads the port program and pins it for one network namespace. Nothing is attached: pkg/port does that at
// each container's interface.
func SetupPort(ctx SetupContext) error {
	_, err := Load(portObject, filepath.Join(ctx.Bpffs, fmt.Sprintf("port-%d", ctx.Netns)))
	return err
}

// flowSets is about a five hundredth of the machine's memory, a power of two.
func flowSets(mem uint64) uint32 {
	sets := uint64(minFlowSets)
	if want := mem / 512 / 456; want > sets {
		sets = 1 << (bits.Len64(want) - 1)
	}
	return uint32(min(sets, maxFlowSets))
}

func memTotal() uint64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 0
	}
	return uint64(si.Totalram) * uint64(si.Unit)
}
