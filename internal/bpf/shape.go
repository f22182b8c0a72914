package bpf

import (
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
)

//go:embed shape.bpf.o
var shapeELF []byte

// shapeObject is shape.c: the classifier, and the maps of who is shaped and how.
var shapeObject = Object{Name: "shape", ELF: shapeELF}

// ableFqCodel is pkg/shape's AbleFqCodel.
const ableFqCodel = 1

// SetupShape loads the classifier for one network namespace and writes down what its queues can be made of.
// The programs hang on nothing yet: pkg/shape puts them on each tree that it makes.
func SetupShape(ctx SetupContext) error {
	dir := filepath.Join(ctx.Bpffs, "shape-"+strconv.FormatUint(ctx.Netns, 10))
	if _, err := Load(shapeObject, dir); err != nil {
		return err
	}
	able := uint32(0)
	if has, err := hasQdisc("fq_codel"); err != nil {
		return fmt.Errorf("probe fq_codel: %w", err)
	} else if has {
		able |= ableFqCodel
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "state"), nil)
	if err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	defer m.Close()
	if err := m.Put(uint32(0), able); err != nil {
		return fmt.Errorf("write abilities: %w", err)
	}
	return nil
}

// hasQdisc tries a qdisc on the loopback of a namespace of its own, so that nothing of the host's is touched. A
// kernel with modules loads the module by this.
func hasQdisc(kind string) (bool, error) {
	type answer struct {
		has bool
		err error
	}
	c := make(chan answer)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with its namespace
		has, err := tryQdisc(kind)
		c <- answer{has, err}
	}()
	a := <-c
	return a.has, a.err
}

func tryQdisc(kind string) (bool, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("make a network namespace: %w", err)
	}
	rt, err := rtnl.Dial()
	if err != nil {
		return false, err
	}
	defer rt.Close()
	// tc qdisc add dev lo root handle 1: KIND
	const lo, root, tcaKind = 1, 0xffffffff, 1
	err = rt.Do(rtnl.New(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL).Tc(lo, 0x10000, root, 0).String(tcaKind, kind), nil)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
