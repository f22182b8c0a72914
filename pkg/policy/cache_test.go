package policy

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCacheLayout(t *testing.T) {
	t.Parallel()
	if have := fingerprint(); have != cacheLayout {
		t.Errorf("types or defaults of the policy have changed: in cache.go write\nconst cacheLayout uint64 = %#x", have)
	}
}

// cached is a policy file with a compiled cache, and where that is.
func cached(t testing.TB) (config, cache string) {
	t.Helper()
	dir := t.TempDir()
	config = filepath.Join(dir, "policy.toml")
	for name, text := range map[string]string{
		"policy.toml":          "version = 1\n[state]\nrun = \"" + dir + "/run\" # here\n[cgroup]\npids_max = 100\n[tenant.blue.cgroup]\npids_max = 7\n",
		"policy.toml.d/a.toml": "[cgroup]\nmemory_max = \"1GiB\"\n",
	} {
		path := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Compile(config); err != nil {
		t.Fatal(err)
	}
	return config, cachePath(dir+"/run", config)
}

// fromCache says whether Load used the cache.
func fromCache(t testing.TB, config string) (*Policy, bool) {
	t.Helper()
	p, err := Load(config)
	if err != nil {
		t.Fatal(err)
	}
	return p, p.lazy != nil
}

func TestCacheSaysTheSame(t *testing.T) {
	t.Parallel()
	config, _ := cached(t)
	p, ok := fromCache(t, config)
	if !ok {
		t.Fatal("want the cache used")
	}
	q, err := Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"", "blue", "other", "*"} {
		if a, b := q.For(tenant), p.For(tenant); !equal(a, b) {
			t.Errorf("%q: want %+v, have %+v", tenant, a, b)
		}
	}
	if fmt.Sprint(p.Tenants()) != fmt.Sprint(q.Tenants()) || fmt.Sprint(p.Source) != fmt.Sprint(q.Source) || p.State != q.State {
		t.Errorf("want %v %v, have %v %v", q.Tenants(), q.Source, p.Tenants(), p.Source)
	}
}

// Whatever happens to the files, the cache is never believed over them.
func TestCacheInvalid(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, config string){
		"edited": func(t *testing.T, config string) { edit(t, config, "100", "101") },
		"edited in place with the old times": func(t *testing.T, config string) {
			st, _ := os.Stat(config)
			edit(t, config, "100", "101")
			if err := os.Chtimes(config, st.ModTime(), st.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, config string) {
			data, _ := os.ReadFile(config)
			os.WriteFile(config+".new", bytes.Replace(data, []byte("100"), []byte("101"), 1), 0o644)
			if err := os.Rename(config+".new", config); err != nil {
				t.Fatal(err)
			}
		},
		"drop-in edited": func(t *testing.T, config string) {
			edit(t, config+".d/a.toml", "memory_max", "pids_max = 101\nmemory_max")
		},
		"drop-in added":   func(t *testing.T, config string) { write(t, config+".d", "b.toml", "[cgroup]\npids_max = 101\n") },
		"drop-in renamed": func(t *testing.T, config string) { os.Rename(config+".d/a.toml", config+".d/c.toml") },
		"drop-in removed": func(t *testing.T, config string) { os.Remove(config + ".d/a.toml") },
		"drop-ins removed": func(t *testing.T, config string) {
			if err := os.RemoveAll(config + ".d"); err != nil {
				t.Fatal(err)
			}
		},
		"touched": func(t *testing.T, config string) { os.Chtimes(config, time.Time{}, time.Unix(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, _ := cached(t)
			change(t, config)
			p, ok := fromCache(t, config)
			if ok {
				t.Fatal("want the files read")
			}
			want, err := Parse(config)
			if err != nil {
				t.Fatal(err)
			}
			if !equal(p.For("x"), want.For("x")) {
				t.Errorf("want %+v, have %+v", want.For("x"), p.For("x"))
			}
			if _, ok := fromCache(t, config); !ok {
				t.Error("want the cache made anew")
			}
		})
	}
}

func edit(t *testing.T, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, []byte(from)) {
		t.Fatal(err, string(data))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Write(bytes.Replace(data, []byte(from), []byte(to), 1))
}

// A cache that others may have written, or that is damaged, is no cache.
func TestCacheDistrusted(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, cache string){
		"group may write": func(t *testing.T, cache string) { os.Chmod(cache, 0o620) },
		"all may read":    func(t *testing.T, cache string) { os.Chmod(cache, 0o644) },
		"another's": func(t *testing.T, cache string) {
			if os.Geteuid() != 0 {
				os.Remove(cache)
			} else if err := os.Chown(cache, 1234, 0); err != nil {
				t.Fatal(err)
			}
		},
		"a link": func(t *testing.T, cache string) {
			os.Rename(cache, cache+".real")
			if err := os.Symlink(cache+".real", cache); err != nil {
				t.Fatal(err)
			}
		},
		"a fifo":  func(t *testing.T, cache string) { os.Remove(cache); mkfifo(t, cache) },
		"empty":   func(t *testing.T, cache string) { os.Truncate(cache, 0) },
		"cut off": func(t *testing.T, cache string) { st, _ := os.Stat(cache); os.Truncate(cache, st.Size()-1) },
		"a bit": func(t *testing.T, cache string) {
			data, _ := os.ReadFile(cache)
			data[len(data)-3] ^= 1
			os.WriteFile(cache, data, 0o600)
		},
		"more": func(t *testing.T, cache string) {
			f, _ := os.OpenFile(cache, os.O_APPEND|os.O_WRONLY, 0)
			f.Write([]byte{0})
			f.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, cache := cached(t)
			spoil(t, cache)
			p, ok := fromCache(t, config)
			if ok {
				t.Error("want the files read")
			}
			if have := p.For("blue").Cgroup.PidsMax; have != 7 {
				t.Errorf("want 7, have %d", have)
			}
		})
	}
}

// Any cut and any flipped bit of a cache is noticed, and nothing panics.
func TestCacheDamage(t *testing.T) {
	t.Parallel()
	config, _ := cached(t)
	s, err := gather(config)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.parse()
	if err != nil {
		t.Fatal(err)
	}
	good := p.pack(s.stamps)
	if unpack(good, s.stamps) == nil {
		t.Fatal("want the whole one read")
	}
	for i := range good {
		if unpack(good[:i], s.stamps) != nil {
			t.Fatalf("cut at %d of %d: want it refused", i, len(good))
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if unpack(bad, s.stamps) != nil {
			t.Fatalf("bit of byte %d of %d: want it refused", i, len(good))
		}
	}
}

// A decoder that is fed anything ends, with an error or without.
func FuzzReader(f *testing.F) {
	p := defaults()
	f.Add(p.pack(nil)[len(header(nil)):])
	f.Fuzz(func(_ *testing.T, b []byte) {
		x := tenantIndex{b}
		x.get("blue")
		x.names()
	})
}

func TestScanRun(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              DefaultRun,
		"\n[state]\nrun = \"/a\"\n":     "/a",
		"\n[state]\n\n  run=\"/a\" # x": "/a",
		"\n[state]\nlib = \"/x\"\n[cgroup]\nrun = \"/a\"\n": DefaultRun,
		"\n[states]\nrun = \"/a\"\n":                        DefaultRun,
		"state.run = \"/a\"":                                DefaultRun,
	} {
		if have := scanRun([][]byte{[]byte(text)}); have != want {
			t.Errorf("%q: want %s, have %s", text, want, have)
		}
	}
	// What the scan cannot see costs time and nothing else.
	dir := t.TempDir()
	config := write(t, dir, "policy.toml", "version = 1\nstate.run = \""+dir+"/run\"\n")
	p, ok := fromCache(t, config)
	if ok || p.State.Run != dir+"/run" {
		t.Errorf("want the file read, have %q", p.State.Run)
	}
	if _, err := Compile(config); err == nil || !strings.Contains(HintOf(err), "[state]") {
		t.Errorf("want Compile to say so, have %v", err)
	}
}

func BenchmarkLoadCached(b *testing.B) {
	config, _ := cached(b)
	for b.Loop() {
		if _, ok := fromCache(b, config); !ok {
			b.Fatal("not from the cache")
		}
	}
}

// A thousand tenants, of which a hook wants one.
func BenchmarkLoadThousand(b *testing.B) {
	dir := b.TempDir()
	text := "version = 1\n[state]\nrun = \"" + dir + "/run\"\n"
	for i := range 1000 {
		text += fmt.Sprintf("[tenant.t%d.network]\negress = \"%dMbit\"\n", i, i+1)
	}
	config := filepath.Join(dir, "policy.toml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	b.Run("parsed", func(b *testing.B) {
		for b.Loop() {
			if _, err := Compile(config); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			p, ok := fromCache(b, config)
			if e := p.For("t999"); !ok || e.Network.Egress != 1e9 {
				b.Fatal(ok, e.Network.Egress)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	config, _ := cached(b)
	for b.Loop() {
		if _, err := Parse(config); err != nil {
			b.Fatal(err)
		}
	}
}
