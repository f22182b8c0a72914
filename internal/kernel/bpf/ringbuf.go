package bpf

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Drain gives f every record that a ring buffer map holds, and marks it read. One reader at a time: the position is the
// map's own (Documentation/bpf/ringbuf.rst).
func Drain(m *Map, f func([]byte)) error {
	page := os.Getpagesize()
	size := int(m.info.MaxEntries)
	pos, err := unix.Mmap(m.fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map ring buffer %s: %w", m.path, err)
	}
	defer func() { _ = unix.Munmap(pos) }()
	// the producer's page, then the data twice over, so that no record wraps
	ring, err := unix.Mmap(m.fd, int64(page), page+2*size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map ring buffer %s: %w", m.path, err)
	}
	defer func() { _ = unix.Munmap(ring) }()
	consumer, producer := (*uint64)(unsafe.Pointer(&pos[0])), (*uint64)(unsafe.Pointer(&ring[0]))
	const busy, discard, header = 1 << 31, 1 << 30, 8
	at := atomic.LoadUint64(consumer)
	for at < atomic.LoadUint64(producer) {
		off := page + int(at)&(size-1)
		n := atomic.LoadUint32((*uint32)(unsafe.Pointer(&ring[off])))
		if n&busy != 0 {
			break
		}
		length := int(n &^ (busy | discard))
		if n&discard == 0 {
			f(ring[off+header : off+header+length])
		}
		at += uint64(length+header+7) &^ 7
		atomic.StoreUint64(consumer, at)
	}
	return nil
}
