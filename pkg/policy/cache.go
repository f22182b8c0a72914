package policy

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"
)

// cacheVersion is raised when the same files come to mean something else
// without a change of types or defaults.
const cacheVersion = 1

const cacheMagic = "bulkhead policy cache\n"

// stamp tells one version of a file or directory from another.
type stamp struct {
	Path         string
	Absent       bool
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

// tenantIndex is the cache's named tenants, decoded one at a time when asked.
type tenantIndex struct{ b []byte }

func (x *tenantIndex) get(tenant string) (Effective, bool) {
	r := reader{b: x.b}
	for len(r.b) > 0 {
		name, body := r.bytes(), r.bytes()
		if r.err == nil && string(name) == tenant {
			var e Effective
			r = reader{b: body}
			r.decode(reflect.ValueOf(&e).Elem())
			return e, r.err == nil
		}
	}
	return Effective{}, false
}

func (x *tenantIndex) names() []string {
	var out []string
	r := reader{b: x.b}
	for len(r.b) > 0 {
		out = append(out, string(r.bytes()))
		r.bytes()
	}
	return out
}

// fingerprint changes with the types, the defaults and cacheVersion.
func fingerprint() uint64 {
	p := defaults()
	b := shape([]byte{cacheVersion}, policyType)
	b = shape(b, effectiveType)
	b = encode(b, reflect.ValueOf(p).Elem())
	b = encode(b, reflect.ValueOf(&p.rest).Elem())
	return uint64(crc32.ChecksumIEEE(b))<<32 | uint64(len(b))
}

// header is everything before the checksummed rest of a cache: equal bytes
// mean that the cache was made by the same code from the same files.
func header(stamps []stamp) []byte {
	b := append([]byte(cacheMagic), make([]byte, 0, 1024)...)
	b = encode(b, reflect.ValueOf(fingerprint()))
	return encode(b, reflect.ValueOf(stamps))
}

// pack writes the cache's bytes.
func (p *Policy) pack(stamps []stamp) []byte {
	var body []byte
	for _, v := range []any{p, &p.alone, &p.rest} {
		body = encode(body, reflect.ValueOf(v).Elem())
	}
	var index []byte
	for _, name := range p.Tenants() {
		e := p.tenants[name]
		index = encode(index, reflect.ValueOf(name))
		index = encode(index, reflect.ValueOf(string(encode(nil, reflect.ValueOf(&e).Elem()))))
	}
	body = encode(body, reflect.ValueOf(string(index)))
	out := header(stamps)
	out = encode(out, reflect.ValueOf(crc32.ChecksumIEEE(body)))
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
	if r.err != nil || uint64(crc32.ChecksumIEEE(r.b)) != sum {
		return nil
	}
	p := &Policy{}
	for _, v := range []any{p, &p.alone, &p.rest} {
		r.decode(reflect.ValueOf(v).Elem())
	}
	p.lazy = &tenantIndex{r.bytes()}
	if r.err != nil || len(r.b) != 0 {
		return nil
	}
	return p
}

// cachePath is where the cache of a config lies.
func cachePath(run, config string) string {
	return filepath.Join(run, fmt.Sprintf("policy-%08x.cache", crc32.ChecksumIEEE([]byte(config))))
}

// readCache gives the cached policy of these files, or nil. It is believed
// only where nobody but its owner, who is this process's user, can have
// written it.
func readCache(path string, stamps []stamp) *Policy {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG ||
		st.Mode&0o7777 != 0o600 || int(st.Uid) != os.Geteuid() || st.Size > 64<<20 {
		return nil
	}
	b := make([]byte, st.Size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil
	}
	return unpack(b, stamps)
}

// writeCache keeps a policy for the next Load.
func (p *Policy) writeCache(path string, stamps []stamp) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write policy cache: %w", err)
	}
	t, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600), renameio.IgnoreUmask())
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
		s := string(data)
		i := strings.Index("\n"+s, "\n[state]")
		if i < 0 {
			continue
		}
		for line := range strings.Lines(s[i+len("[state]"):]) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "[") {
				break
			}
			name, value, ok := strings.Cut(line, "=")
			if !ok || strings.TrimSpace(name) != "run" {
				continue
			}
			if parts := strings.SplitN(value, `"`, 3); len(parts) == 3 {
				run = parts[1]
			}
		}
	}
	return run
}
