package usage

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"sync"
	"time"
)

// Version is the receipt's "v". A reader accepts it and the one before.
const Version = 1

// Receipt is one container's life, one line of the ledger (docs/ledger.md,
// install/receipt.schema.json). A figure that is not known is nil and absent
// from the line, never 0. Readers ignore members they do not know.
type Receipt struct {
	V       int       `json:"v"`
	Life    string    `json:"life"` // ID/BOOT/START: a restart under one ID is another life
	Tenant  string    `json:"tenant"`
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	Name    string    `json:"name,omitempty"`
	Image   string    `json:"image,omitempty"`
	Pod     string    `json:"pod,omitempty"`
	Sandbox string    `json:"sandbox,omitempty"`
	Engine  string    `json:"engine,omitempty"`
	Runtime string    `json:"runtime,omitempty"`
	Start   time.Time `json:"start"`
	End     time.Time `json:"end"`

	Exit       *int    `json:"exit,omitzero"` // 128+n: killed by signal n
	CPUUser    *uint64 `json:"cpu_user_ns,omitzero"`
	CPUSystem  *uint64 `json:"cpu_system_ns,omitzero"`
	MemoryPeak *uint64 `json:"memory_peak_bytes,omitzero"`
	OOMKills   *uint64 `json:"oom_kills,omitzero"`
	PidsPeak   *uint64 `json:"pids_peak,omitzero"`
	CPURaw     *uint64 `json:"cpu_raw_ns,omitzero"` // what the kernel charged, the runtime's own init included
	IO         []IO    `json:"io,omitempty"`
	TaskRead   *uint64 `json:"task_read_bytes,omitzero"`
	TaskWrite  *uint64 `json:"task_write_bytes,omitzero"` // what tasks caused to be written, whenever it reaches a device
	Net        []Net   `json:"net,omitempty"`
	Disk       *uint64 `json:"disk_bytes,omitzero"`
	Leftovers  *uint64 `json:"leftovers,omitzero"` // processes still there at the close
	How        How     `json:"how"`
	ClosedBy   string  `json:"closed_by,omitempty"` // "gc" where poststop never came
	Note       string  `json:"note,omitempty"`      // why a figure is not exact, for people
	Sum        string  `json:"sum,omitempty"`       // CRC-32C of the line before this member; always last
}

// IO is what went to and from one block device.
type IO struct {
	Dev   string `json:"dev"` // MAJOR:MINOR
	Read  uint64 `json:"read_bytes"`
	Write uint64 `json:"write_bytes"`
}

// Net is one interface's traffic: in = to the container. Layer 2 counts whole
// frames at the host side of the interface, uploads as offered, downloads as
// delivered; layer 3 counts packets without their Ethernet header.
type Net struct {
	Network        string  `json:"network"`
	IfName         string  `json:"ifname"`
	Layer          int     `json:"layer"`
	InBytes        uint64  `json:"in_bytes"`
	InPackets      uint64  `json:"in_packets"`
	InTenantBytes  *uint64 `json:"in_tenant_bytes,omitzero"` // of InBytes, from the same tenant's containers
	OutBytes       uint64  `json:"out_bytes"`
	OutPackets     uint64  `json:"out_packets"`
	OutTenantBytes *uint64 `json:"out_tenant_bytes,omitzero"`
	DroppedPolicy  *uint64 `json:"dropped_policy,omitzero"` // packets
	DroppedShaper  *uint64 `json:"dropped_shaper,omitzero"` // packets
}

// How a figure was had.
const (
	Exact      = "exact"       // the kernel's own counter, after the last task
	LastSample = "last-sample" // the last value seen while the container ran
	Absent     = "absent"      // not known
)

// How says for each group of figures how it was had.
type How struct {
	CPU    string `json:"cpu"`
	Memory string `json:"memory"`
	Pids   string `json:"pids"`
	IO     string `json:"io"`
	Net    string `json:"net"`
	Disk   string `json:"disk"`
	Exit   string `json:"exit"`
}

const maxLine = 1 << 20 // a receipt's line; longer ones are no receipts

// castagnoli is made when the first receipt is: making it at start-up cost every hook 0.16 ms.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// Checksum is the CRC-32C that receipts, accounts and roll-ups end with.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

var sumMember = []byte(`,"sum":"`)

// sumTail is the length of `,"sum":"01234567"}`.
const sumTail = 8 + 8 + 2

// Line is the receipt as a line of the ledger, with its checksum and newline.
func (r Receipt) Line() ([]byte, error) {
	r.Sum = ""
	if r.V == 0 {
		r.V = Version
	}
	r.Start, r.End = r.Start.UTC(), r.End.UTC()
	return sealed(r.marshal()), nil
}

// sealed makes of an encoded object that has members and no sum one line that
// ends with the checksum of what stands before it.
func sealed(b []byte) []byte {
	b = b[:len(b)-1] // the closing brace
	sum := crc32c(b)
	b = append(b, sumMember...)
	b = fmt.Appendf(b, "%08x", sum)
	return append(b, '"', '}', '\n')
}

// nibbles is the table of CRC-32C for four bits at a time.
var nibbles = [16]uint32{
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
	0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
	0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
}

// crc32c is the checksum of one line. hash/crc32 is faster by far, once it has made its tables, which takes longer than
// all that a hook does with one receipt.
func crc32c(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		c = c>>4 ^ nibbles[c&15]
		c = c>>4 ^ nibbles[c&15]
	}
	return ^c
}

// Parse reads one line of the ledger, with or without its newline, and checks
// its checksum and version.
func Parse(line []byte) (Receipt, error) {
	var r Receipt
	line, err := verify(line)
	if err != nil {
		return r, fmt.Errorf("read receipt: %w", err)
	}
	if err := r.unmarshal(line); err != nil {
		return r, fmt.Errorf("read receipt: %w", err)
	}
	if r.V != Version {
		return r, fmt.Errorf("read receipt of %q: %w: want %d, have %d", r.Life, ErrVersion, Version, r.V)
	}
	return r, nil
}

// verify checks a line's checksum and returns it without its newline.
func verify(line []byte) ([]byte, error) {
	return verifyBy(line, func(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) })
}

// verifyBy is verify by a given way to the checksum.
func verifyBy(line []byte, crc func([]byte) uint32) ([]byte, error) {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	n := len(line) - sumTail
	if n < 1 || !bytes.HasPrefix(line[n:], sumMember) || line[len(line)-1] != '}' || line[len(line)-2] != '"' {
		return nil, ErrNoSum
	}
	have := line[n+len(sumMember) : len(line)-2]
	want := crc(line[:n])
	if !equalHex(have, want) {
		return nil, fmt.Errorf("%w: want %08x, have %q", ErrBadSum, want, have)
	}
	return line, nil
}

// equalHex reports whether b is v in eight lower-case hexadecimal digits.
func equalHex(b []byte, v uint32) bool {
	const digits = "0123456789abcdef"
	if len(b) != 8 {
		return false
	}
	for i := 7; i >= 0; i-- {
		if b[i] != digits[v&15] {
			return false
		}
		v >>= 4
	}
	return true
}
