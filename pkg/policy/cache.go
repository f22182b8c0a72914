package policy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"

	"github.com/google/renameio/v2"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// cacheVersion is raised when the same files come to mean something else
// without a change of types or defaults.
const cacheVersion = 3

const cacheMagic = "bulkhead policy cache\n"

// cacheLayout is fingerprint()'s value for this source; a test says what to
// write here after a change of types or defaults.
const cacheLayout uint64 = 0xc8c26a30711

// checksum tells torn and changed files from whole ones; nobody forges them. FNV-1a by words: the tables of hash/crc32
// take longer to make than all else that Load does.
func checksum(b []byte) uint32 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for ; len(b) >= 8; b = b[8:] {
		h = (h ^ binary.LittleEndian.Uint64(b)) * prime
		h ^= h >> 32
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * prime
	}
	return uint32(h ^ h>>32)
}

// stamp tells one version of a file or directory from another; zeros but for
// the path say that it is not there.
type stamp struct {
	Path         string
	Dev, Ino     uint64
	Size         int64
	Mtime, Ctime int64  // ns
	Sum          uint32 // of a file's content, read anyway to find the cache
}

func stampOf(path string, st *syscall.Stat_t) stamp {
	return stamp{
		Path: path, Dev: uint64(st.Dev), Ino: st.Ino, Size: st.Size,
		Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}

// Names in the cache's index that no tenant can have.
const (
	indexAlone = ""
	indexRest  = "*"
)

// tenantIndex is what holds for each tenant, decoded one at a time when asked:
// a hook wants one of perhaps a thousand.
type tenantIndex struct{ b []byte }

func (x *tenantIndex) get(tenant string) (e Effective, ok bool) {
	r := reader{b: x.b}
	for len(r.b) > 0 {
		name, body := r.bytes(), r.bytes()
		switch {
		case r.err != nil:
			return Effective{}, false
		case string(name) == indexRest && overlay(&e, body) != nil:
			return Effective{}, false
		case string(name) == tenant:
			return e, overlay(&e, body) == nil
		}
	}
	return e, false
}

// delta is the sections of e that are not as base has them, each behind its
// number: a thousand tenants have little of their own.
func delta(base, e *Effective) []byte {
	var out []byte
	was, is := reflect.ValueOf(base).Elem(), reflect.ValueOf(e).Elem()
	for i := range is.NumField() {
		if b := encode(nil, is.Field(i)); !bytes.Equal(b, encode(nil, was.Field(i))) {
			out = append(append(out, byte(i)), b...)
		}
	}
	return out
}

// overlay puts a delta over what e has.
func overlay(e *Effective, b []byte) error {
	v := reflect.ValueOf(e).Elem()
	r := reader{b: b}
	for len(r.b) > 0 && r.err == nil {
		i := int(r.b[0])
		r.b = r.b[1:]
		if i >= v.NumField() {
			return errCodec
		}
		v.Field(i).SetZero()
		r.decode(v.Field(i))
	}
	return r.err
}

func (x *tenantIndex) names() []string {
	var out []string
	r := reader{b: x.b}
	for len(r.b) > 0 {
		name := string(r.bytes())
		if r.bytes(); name != indexAlone && name != indexRest {
			out = append(out, name)
		}
	}
	return out
}

// fingerprint changes with the types, the defaults and cacheVersion. It is
// compared with cacheLayout by a test and not at run time, where it would
// cost as much as everything else.
func fingerprint() uint64 {
	p := defaults()
	b := shape([]byte{cacheVersion}, policyType)
	b = shape(b, effectiveType)
	b = encode(b, reflect.ValueOf(p).Elem())
	b = encode(b, reflect.ValueOf(&p.rest).Elem())
	return uint64(checksum(b))<<16 ^ uint64(len(b))
}

// header is everything before the checksummed rest of a cache: equal bytes
// mean that the cache was made by the same code from the same files.
func header(stamps []stamp) []byte {
	b := append(make([]byte, 0, 1024), cacheMagic...)
	b = binary.AppendUvarint(b, cacheLayout)
	b = binary.AppendUvarint(b, uint64(len(stamps)))
	for _, s := range stamps {
		b = binary.AppendUvarint(b, uint64(len(s.Path)))
		b = append(b, s.Path...)
		for _, n := range []uint64{s.Dev, s.Ino, uint64(s.Size), uint64(s.Mtime), uint64(s.Ctime), uint64(s.Sum)} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

// pack writes the cache's bytes.
func (p *Policy) pack(stamps []stamp) []byte {
	body := encode(nil, reflect.ValueOf(p).Elem())
	var index []byte
	add := func(name string, base, e Effective) {
		index = encode(index, reflect.ValueOf(name))
		index = encode(index, reflect.ValueOf(string(delta(&base, &e))))
	}
	add(indexRest, Effective{}, p.rest) // first: the others lie over it
	add(indexAlone, p.rest, p.alone)
	for _, name := range p.Tenants() {
		add(name, p.rest, p.tenants[name])
	}
	body = append(binary.AppendUvarint(body, uint64(len(index))), index...)
	out := binary.AppendUvarint(header(stamps), uint64(checksum(body)))
	return append(out, body...)
}

// unpack reads a cache's bytes; nil where they are of other files or damaged.
func unpack(b []byte, stamps []stamp) *Policy {
	b, ok := bytes.CutPrefix(b, header(stamps))
	if !ok {
		return nil
	}
	r := reader{b: b}
	sum := r.number()
	if r.err != nil || uint64(checksum(r.b)) != sum {
		return nil
	}
	p := &Policy{}
	r.decode(reflect.ValueOf(p).Elem())
	p.lazy = &tenantIndex{r.bytes()}
	if r.err != nil || len(r.b) != 0 {
		return nil
	}
	return p
}

// cachePath is where the cache of a config lies.
func cachePath(run, config string) string {
	return run + "/policy-" + strconv.FormatUint(uint64(checksum([]byte(config))), 16) + ".cache"
}

// readCache gives the cached policy of these files, or nil. It is believed
// only where nobody but its owner, who is this process's user, can have
// written it.
func readCache(path string, stamps []stamp) *Policy {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG ||
		st.Mode&0o7777 != 0o600 || int(st.Uid) != os.Geteuid() || st.Size > 64<<20 {
		return nil
	}
	b, err := file.ReadSize(fd, st.Size)
	if err != nil {
		return nil
	}
	return unpack(b, stamps)
}

// writeCache keeps a policy for the next Load.
func (p *Policy) writeCache(path string, stamps []stamp) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write policy cache: %w", err)
	}
	t, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithPermissions(0o600), renameio.IgnoreUmask()) // a hook may not try /tmp
	if err != nil {
		return fmt.Errorf("write policy cache: %w", err)
	}
	defer t.Cleanup()
	if _, err = t.Write(p.pack(stamps)); err == nil {
		err = t.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write policy cache %s: %w", path, err)
	}
	return nil
}

// scanRun finds `run = "…"` under [state] by its look alone: where the cache
// lies must be known before the files are decoded. A wrong guess finds no
// cache, or one that its stamps reject.
func scanRun(files [][]byte) string {
	run := DefaultRun
	for _, data := range files {
		_, rest, ok := bytes.Cut(data, []byte("\n[state]"))
		if !ok {
			continue
		}
		for line := range bytes.Lines(rest) {
			line = bytes.TrimSpace(line)
			if bytes.HasPrefix(line, []byte("[")) {
				break
			}
			name, value, ok := bytes.Cut(line, []byte("="))
			if !ok || string(bytes.TrimSpace(name)) != "run" {
				continue
			}
			if parts := bytes.SplitN(value, []byte{'"'}, 3); len(parts) == 3 {
				run = string(parts[1])
			}
		}
	}
	return run
}
