package usage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// reading is one line of an account's .net file.
type reading struct {
	V     int       `json:"v"`
	Port  uint64    `json:"port"`
	Since time.Time `json:"since,omitzero"`
	Net   Net       `json:"net"`

	// Where the programs do not count: what the cgroups' files said then.
	Sample *cgroupSample `json:"sample,omitzero"`
}

// cgroupSample is what a container's cgroups said while they were there.
type cgroupSample struct {
	CPU    *cpuTimes `json:"cpu,omitzero"`
	Memory *uint64   `json:"memory_peak_bytes,omitzero"`
	OOM    *uint64   `json:"oom_kills,omitzero"`
	Pids   *uint64   `json:"pids_peak,omitzero"`
	IO     []IO      `json:"io,omitempty"`
	HasIO  bool      `json:"has_io,omitzero"` // the io controller is on, and IO, if it is empty, is none
	Empty  bool      `json:"empty,omitzero"`  // nobody was left who could use more
}

// cpu never falls, so of two samples the one with more is the later.
func (s *cgroupSample) cpu() uint64 {
	if s.CPU == nil {
		return 0
	}
	return s.CPU.NS
}

// how says how figures of the files were had.
func (s *cgroupSample) how() string {
	if s.Empty {
		return Exact
	}
	return LastSample
}

// HandOver adds an interface's final counters to the open account of the
// container. A sandbox, which has no account, gets a receipt of kind pod at
// once. Without either (the container was never started, or its account could
// not be opened) it returns ErrNoAccount.
func HandOver(d Dirs, r NetReading) error {
	fail := func(err error) error {
		return fmt.Errorf("hand over bytes of %q on %q: %w", r.IfName, r.ID, err)
	}
	if err := validID(r.ID); err != nil {
		return fail(err)
	}
	r.Counters.Network, r.Counters.IfName = r.Network, r.IfName
	if r.Counters.Layer == 0 {
		r.Counters.Layer = 2
	}
	a, err := find(d, r.ID, r.Life)
	if errors.Is(err, ErrNoAccount) && r.Kind == KindPod {
		err = podReceipt(d, r)
		if err == nil {
			return nil
		}
		return fail(err)
	}
	if err != nil {
		return fail(err)
	}
	if err := a.note(d, reading{V: Version, Port: r.Port, Since: r.Since.UTC(), Net: r.Counters, Sample: a.sample(d)}); err != nil {
		return fail(err)
	}
	return nil
}

// note keeps a reading with the account.
func (a *Account) note(d Dirs, r reading) error {
	line := sealed(r.marshal())
	var errs []error
	for _, name := range a.files(d, netExt) {
		err := appendLine(name, line)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// resample keeps what the files of a container that lives say now, in place of what they said before, where the programs do
// not count: if nobody is there at its end, this is the last that is known.
func (a *Account) resample(d Dirs) error {
	s := a.sample(d)
	if s == nil {
		return nil
	}
	r := reading{V: Version, Sample: s}
	line := sealed(r.marshal())
	var errs []error
	for _, name := range a.files(d, sampleExt) {
		err := writeFile(name, line, false)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// files are where an account's readings lie: beside it, or where there is
// no room in the run directory.
func (a *Account) files(d Dirs, ext string) []string {
	names := []string{a.base() + ext}
	if spare := filepath.Join(openDirs(d)[1], dirName(a.ID), lifeName(a.Life)+ext); spare != names[0] {
		names = append(names, spare)
	}
	return names
}

// appendLine appends a whole line in one write. A line that found no room in
// the middle is followed by the next one at once: readings passes it over.
func appendLine(name string, line []byte) error {
	f, _, err := openAppend(name)
	if err != nil {
		return err
	}
	n, err := f.Write(line)
	if err != nil && n > 0 {
		f.Write([]byte{'\n'})
	}
	return errors.Join(err, f.Close())
}

// podReceipt is the receipt of a sandbox's network.
func podReceipt(d Dirs, r NetReading) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	if r.Since.IsZero() {
		return errors.New("want the time the interface was attached, have none")
	}
	end := time.Now()
	rec := Receipt{
		V: Version, Life: life(r.ID, boot, uint64(r.Since.UnixNano())) + "/" + r.IfName,
		Tenant: r.Tenant, Kind: KindPod, ID: r.ID, Name: r.Name, Pod: r.Pod, Engine: r.Engine,
		Start: r.Since, End: later(end, r.Since), Net: []Net{r.Counters},
		How: How{CPU: Absent, Memory: Absent, Pids: Absent, IO: Absent, Net: Exact, Disk: Absent, Exit: Absent},
	}
	return file(d, rec)
}

// readings are what was handed over, one per attachment of an interface: a
// reading handed over twice counts once, with its larger figures.
func (a *Account) readings(d Dirs) (nets []Net, last *cgroupSample, torn int, err error) {
	type key struct {
		network, ifname string
		port            uint64
	}
	at := map[key]int{}
	add := func(line []byte, _ bool) error {
		var r reading
		line, err := verify(line)
		if err != nil || r.unmarshal(line) != nil {
			torn++
			return nil
		}
		if r.Sample != nil && (last == nil || r.Sample.cpu() >= last.cpu()) { // what CNI's DEL saw, or gc
			last = r.Sample
		}
		if r.Net.IfName == "" { // a sample alone
			return nil
		}
		k := key{r.Net.Network, r.Net.IfName, r.Port}
		if i, ok := at[k]; !ok {
			at[k] = len(nets)
			nets = append(nets, r.Net)
		} else if r.Net.InPackets+r.Net.OutPackets >= nets[i].InPackets+nets[i].OutPackets {
			nets[i] = r.Net
		}
		return nil
	}
	var errs []error
	for _, name := range append(a.files(d, netExt), a.files(d, sampleExt)...) {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = errors.Join(EachLine(f, add), f.Close())
		}
		errs = append(errs, err)
	}
	return nets, last, torn, errors.Join(errs...)
}

// sample reads the cgroups' files at CNI DEL, which is often the last moment
// at which they are there; nil where the programs count, which is better.
func (a *Account) sample(d Dirs) *cgroupSample {
	if _, ok := lookup(d, a.Token); ok {
		return nil
	}
	var f figures
	f.readAll(a.Cgroups)
	if !f.alive {
		return nil
	}
	return &f.files
}

// find is the open account of a life; of the last life of id if life is "".
func find(d Dirs, id, life string) (*Account, error) {
	if life != "" {
		for _, dir := range openDirs(d) {
			base := filepath.Join(dir, dirName(id), lifeName(life))
			for _, ext := range []string{accountExt, closingExt} {
				a, err := readAccount(base + ext)
				if !errors.Is(err, fs.ErrNotExist) {
					return a, err
				}
			}
		}
		return nil, ErrNoAccount
	}
	all, err := accountsOf(d, id)
	if len(all) > 0 {
		return all[len(all)-1], nil
	}
	return nil, errors.Join(ErrNoAccount, err)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
