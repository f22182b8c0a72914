package port

import (
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
)

// The structs of this package are those of the object: the same sizes for every map.
func TestLayout(t *testing.T) {
	spec, err := ebpf.LoadCollectionSpec("../../internal/bpf/port.bpf.o")
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string][2]uintptr{
		"ports":    {4, unsafe.Sizeof(portEntry{})},
		"counts":   {4, unsafe.Sizeof(counts{})},
		"addrs":    {unsafe.Sizeof(addrKey{}), unsafe.Sizeof(peer{})},
		"macs":     {unsafe.Sizeof(macKey{}), unsafe.Sizeof(peer{})},
		"uplinks":  {unsafe.Sizeof(uplinkKey{}), 4},
		"pubs":     {unsafe.Sizeof(pubKey{}), unsafe.Sizeof(peer{})},
		"nets":     {unsafe.Sizeof(netKey{}), 4},
		"rules":    {unsafe.Sizeof(ruleKey{}), 4},
		"recs":     {unsafe.Sizeof(digest{}), unsafe.Sizeof(rec{})},
		"things":   {unsafe.Sizeof(thingKey{}), unsafe.Sizeof(thing{})},
		"shares":   {4, unsafe.Sizeof(share{})},
		"numbers":  {4, 4},
		"policies": {4, unsafe.Sizeof(policyEntry{})},
		"state":    {4, unsafe.Sizeof(state{})},
		"bridges":  {4, unsafe.Sizeof(bridge{})},
	}
	for name, want := range sizes {
		m := spec.Maps[name]
		if m == nil {
			t.Errorf("map %s: not in the object", name)
			continue
		}
		if uintptr(m.KeySize) != want[0] || uintptr(m.ValueSize) != want[1] {
			t.Errorf("map %s: want %v bytes of key and value as here, have %d and %d in the object", name, want, m.KeySize, m.ValueSize)
		}
	}
}
