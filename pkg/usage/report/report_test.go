package report

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// hostile are names that a tenant may choose to disturb who reads the books.
var hostile = []string{
	"<script>alert(1)</script>", `a,b"c`, "=1+1", "@SUM(A1)", "-2", "new\nline", "carriage\rreturn", "nul\x00byte", "esc\x1b[2J", "back\\slash",
	"\u202eright to left", "bad\xffutf8", "{brace=\"x\"}", "# HELP x", `"`, "' onload='alert(1)", "\tTAB", strings.Repeat("long", 100),
}

func receipt(i int, tenant, image string, end time.Time) usage.Receipt {
	return usage.Receipt{
		V: 1, Life: fmt.Sprintf("c%d/boot/%d", i, i), Tenant: tenant, Kind: usage.KindContainer, ID: fmt.Sprintf("c%d", i), Name: tenant + "-1", Image: image,
		Start: end.Add(-10 * time.Second), End: end, Exit: ptr(i % 2),
		CPUUser: ptr(uint64(2e9)), CPUSystem: ptr(uint64(1e9)), CPURaw: ptr(uint64(4e9)), MemoryPeak: ptr(uint64(i+1) << 20), OOMKills: ptr(uint64(1)), PidsPeak: ptr(uint64(3)),
		IO: []usage.IO{{Dev: "8:0", Read: 100, Write: 200}, {Dev: "8:16", Read: 1, Write: 2}}, TaskRead: ptr(uint64(101)), TaskWrite: ptr(uint64(500)),
		Net: []usage.Net{{InBytes: 1000, InPackets: 10, InTenantBytes: ptr(uint64(400)), OutBytes: 2000, OutPackets: 20, OutTenantBytes: ptr(uint64(0)), DroppedPolicy: ptr(uint64(5)), DroppedShaper: ptr(uint64(6))}},
		How: usage.How{CPU: usage.Exact, Memory: usage.Exact, Pids: usage.Exact, IO: usage.Exact, Net: usage.Exact, Disk: usage.Absent, Exit: usage.Exact},
	}
}

// write makes a ledger with one file for each day of receipts.
func write(t testing.TB, rs ...usage.Receipt) *usage.Ledger {
	t.Helper()
	l := usage.OpenLedger(usage.Dirs{Lib: t.TempDir()})
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range rs {
		line, err := rs[i].Line()
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(l.Path(rs[i].End), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(line); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return l
}

func of3(t testing.TB, l *usage.Ledger, q Query) *Report {
	t.Helper()
	r, err := Of(l, q, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func month() (rs []usage.Receipt) {
	for i := range 90 {
		tenant := []string{"blue", "red", ""}[i%3]
		rs = append(rs, receipt(i, tenant, []string{"a", "b"}[i%2], noon.AddDate(0, 0, -i/3)))
	}
	return rs
}

func TestRollupsSayWhatLinesSay(t *testing.T) {
	t.Parallel()
	rs := month()
	l := write(t, rs...)
	for _, by := range []string{"tenant", "day", "image", "tenant,day", "image,tenant"} {
		for _, since := range []time.Time{{}, noon.AddDate(0, 0, -7), noon.AddDate(0, 0, -7).Truncate(24 * time.Hour)} {
			for _, tenant := range []string{"", "blue", "-"} {
				dims, err := ParseBy(by)
				if err != nil {
					t.Fatal(err)
				}
				q := Query{Tenant: tenant, Since: since, Until: noon.AddDate(0, 0, -2), By: dims}
				if d := cmp.Diff(OfReceipts(q, rs), of3(t, l, q)); d != "" {
					t.Errorf("by %s since %v tenant %q:\n%s", by, since, tenant, d)
				}
			}
		}
	}
}

func TestRollupIsKeptAndExtended(t *testing.T) {
	t.Parallel()
	l := write(t, receipt(1, "blue", "", noon))
	q := Query{By: []Dimension{Tenant}}
	of3(t, l, q)
	kept := rollupPath(l, noon, ".rollup")
	was, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	// What is covered is not read again: a figure changed under the checksum stays unseen.
	more := write(t, receipt(2, "blue", "", noon), receipt(1, "blue", "", noon), receipt(3, "red", "", noon), receipt(3, "red", "", noon))
	b, err := os.ReadFile(more.Path(noon))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(l.Path(noon), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append(b, `{"v":1,"life":"half`...)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for range 2 {
		r := of3(t, l, q)
		if r.Total.Lives != 3 || r.Faults != (usage.Faults{Doubled: 2, Torn: 1}) {
			t.Errorf("want 3 lives, 2 doubled and 1 torn, have %d and %+v", r.Total.Lives, r.Faults)
		}
	}
	if now, err := os.ReadFile(kept); err != nil || bytes.Equal(now, was) {
		t.Errorf("want the roll-up extended, have it as it was (%v)", err)
	}
}

func TestRollupThatDoesNotFitIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(string) error{
		"cut off":   func(n string) error { return os.Truncate(n, 30) },
		"empty":     func(n string) error { return os.Truncate(n, 0) },
		"changed":   func(n string) error { return os.WriteFile(n, []byte(rollupMagic+"garbage that is long enough"), 0o600) },
		"no longer": os.Remove,
	} {
		for _, ext := range []string{".rollup", ".lives"} {
			l := write(t, month()...)
			q := Query{By: []Dimension{Tenant}}
			want := of3(t, l, q)
			if err := spoil(rollupPath(l, noon, ext)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, of3(t, l, q)); d != "" {
				t.Errorf("%s %s:\n%s", name, ext, d)
			}
		}
	}
	// A copy of the file: as after a restore. It is known by its end, and then by what stat says.
	l := write(t, month()...)
	want := of3(t, l, Query{By: []Dimension{Tenant}})
	b, err := os.ReadFile(l.Path(noon))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(l.Path(noon)+".new", b, 0o600), os.Rename(l.Path(noon)+".new", l.Path(noon))); err != nil {
		t.Fatal(err)
	}
	if _, ok := current(l, noon); ok {
		t.Error("a copy: known by stat, though its inode is another")
	}
	if d := cmp.Diff(want, of3(t, l, Query{By: []Dimension{Tenant}})); d != "" {
		t.Errorf("a copy:\n%s", d)
	}
	if _, ok := current(l, noon); !ok {
		t.Error("a copy: not known by stat after it was reported on")
	}
	// Another file under the same name: as after a restore from elsewhere.
	other := write(t, receipt(100, "green", "", noon), receipt(101, "green", "", noon), receipt(102, "green", "", noon))
	if b, err = os.ReadFile(other.Path(noon)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path(noon), b, 0o600); err != nil {
		t.Fatal(err)
	}
	r := of3(t, l, Query{Tenant: "green", By: []Dimension{Tenant}})
	if r.Total.Lives != 3 {
		t.Errorf("another file: want 3 lives of green, have %d", r.Total.Lives)
	}
}

func TestLifeOnTwoDaysCountsOnce(t *testing.T) {
	t.Parallel()
	a, b := receipt(1, "blue", "", noon.AddDate(0, 0, -1)), receipt(1, "blue", "", noon)
	l := write(t, a, b, receipt(2, "blue", "", noon))
	for _, by := range []Dimension{Tenant, Container} {
		r := of3(t, l, Query{By: []Dimension{by}})
		if r.Total.Lives != 2 || r.Faults.Doubled != 1 {
			t.Errorf("by %s: want 2 lives, one doubled; have %d, %d", by, r.Total.Lives, r.Faults.Doubled)
		}
	}
}

func TestReadOnlyLedgerIsReported(t *testing.T) {
	t.Parallel()
	l := write(t, month()...)
	if err := os.WriteFile(filepath.Join(l.Dir, usage.RollupDir), nil, 0o600); err != nil { // no directory can be made there
		t.Fatal(err)
	}
	if r := of3(t, l, Query{By: []Dimension{Tenant}}); r.Total.Lives != 90 {
		t.Errorf("want 90 lives, have %d", r.Total.Lives)
	}
}

func TestCountersDoNotFallWithRetention(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var rs []usage.Receipt
	for i := range 10 {
		rs = append(rs, receipt(i, []string{"blue", "red"}[i%2], "", now.AddDate(0, 0, -i)))
	}
	l := write(t, rs...)
	q := Query{By: []Dimension{Tenant}, Expired: true}
	want := of3(t, l, q)
	for range 2 {
		if _, err := Expire(l, 5*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, of3(t, l, q)); d != "" {
			t.Error(d)
		}
	}
	if days, err := l.Days(); err != nil || len(days) > 6 {
		t.Errorf("want at most 6 days left, have %d, %v", len(days), err)
	}
	if r := of3(t, l, Query{By: []Dimension{Tenant}}); r.Total.Lives >= want.Total.Lives {
		t.Errorf("without them: want fewer than %d lives, have %d", want.Total.Lives, r.Total.Lives)
	}
	// Killed between the sums and the removal: the day is there again.
	again := write(t, rs[9])
	b, err := os.ReadFile(again.Path(rs[9].End))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.Path(rs[9].End), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := Expire(l, 5*24*time.Hour); n != 1 || err != nil {
		t.Errorf("want the day removed again, have %d, %v", n, err)
	}
	if d := cmp.Diff(want, of3(t, l, q)); d != "" {
		t.Error(d)
	}
}

func FuzzDecodeRollup(f *testing.F) {
	r := &rollup{covered: 5, rows: map[rollupKey]*Totals{{"2026-01-31", "blue", "i"}: {Lives: 3}}}
	f.Add(r.encode()[len(rollupMagic):])
	f.Fuzz(func(t *testing.T, b []byte) { decodeRollup(b) })
}

func TestTenThousandTenants(t *testing.T) {
	t.Parallel()
	var rs []usage.Receipt
	for i := range 10000 {
		rs = append(rs, receipt(i, fmt.Sprintf("t%d", i), "", noon))
	}
	l := write(t, rs...)
	r := of3(t, l, Query{By: []Dimension{Tenant}})
	if len(r.Rows) != 10000 || r.Total.Lives != 10000 {
		t.Errorf("want 10000 tenants, have %d rows of %d lives", len(r.Rows), r.Total.Lives)
	}
	if d := cmp.Diff(r, of3(t, l, Query{By: []Dimension{Tenant}})); d != "" {
		t.Error(d)
	}
}

// hostileReport is one of names that try to break out of every format.
func hostileReport(by ...Dimension) *Report {
	var rs []usage.Receipt
	for i, name := range hostile {
		r := receipt(i, name, name, noon)
		r.Name = name
		rs = append(rs, r)
	}
	return OfReceipts(Query{By: by}, rs)
}

func TestTableHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r := hostileReport(Tenant, Container, Image)
	if err := r.Table(&b, false); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != len(hostile)+2 {
		t.Errorf("want a line for each name, a head and a total, have %d lines", n)
	}
	if i := strings.IndexFunc(b.String(), func(r rune) bool { return r < ' ' && r != '\n' || r == '\u202e' || r == 0x7f }); i >= 0 {
		t.Errorf("control character: %q", b.String()[i:i+5])
	}
}

func TestCSVCanBeReadAndHoldsNoFormula(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r := hostileReport(Tenant, Container)
	r.Bill(&Prices{Currency: "=EUR", Items: []Price{{"cpu", "hour", 1}}})
	if err := r.CSV(&b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(hostile)+1 {
		t.Fatalf("want %d rows, have %d", len(hostile)+1, len(rows))
	}
	for _, row := range rows[1:] {
		for i, c := range row {
			if c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) || strings.ContainsAny(c, "\x00\x1b\r\n") {
				t.Errorf("column %s: %q", rows[0][i], c)
			}
		}
	}
	if i := slices.Index(rows[0], "io_write_bytes"); i < 0 || rows[1][i] != "202" {
		t.Errorf("io_write_bytes: %v %v", rows[0], rows[1])
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	want := hostileReport(Tenant)
	for i := range want.Rows {
		want.Rows[i].Tenant = strings.ToValidUTF8(want.Rows[i].Tenant, "\ufffd")
	}
	if err := want.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var have Report
	if err := json.Unmarshal(b.Bytes(), &have); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, &have); d != "" {
		t.Error(d)
	}
}

func TestMetricsCanBeParsed(t *testing.T) {
	t.Parallel()
	r := hostileReport(Tenant, Image)
	for _, open := range []bool{false, true} {
		var b bytes.Buffer
		if err := r.Metrics(&b, open); err != nil {
			t.Fatal(err)
		}
		if open {
			if !strings.HasSuffix(b.String(), "# EOF\n") {
				t.Error("OpenMetrics: want # EOF at the end")
			}
			continue
		}
		p := expfmt.NewTextParser(model.UTF8Validation)
		families, err := p.TextToMetricFamilies(&b)
		if err != nil {
			t.Fatal(err)
		}
		cpu := families["bulkhead_container_cpu_seconds_total"]
		if cpu == nil || len(cpu.Metric) != 2*len(hostile) || cpu.Metric[0].Counter.GetValue() != 2 {
			t.Errorf("cpu seconds: %v", cpu)
		}
		seen := map[string]bool{}
		for _, m := range families["bulkhead_container_lives_total"].Metric {
			seen[m.Label[1].GetValue()] = true
		}
		for _, name := range hostile {
			if !seen[strings.ToValidUTF8(name, "\ufffd")] {
				t.Errorf("tenant %q did not come back", name)
			}
		}
	}
	if err := hostileReport(Container).Metrics(io.Discard, true); err == nil {
		t.Error("by container: want a refusal, have none")
	}
}

func TestPromtool(t *testing.T) {
	testenv.Need(t, testenv.Command("promtool"))
	var b bytes.Buffer
	if err := hostileReport(Tenant).Metrics(&b, false); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("promtool", "check", "metrics")
	c.Stdin = &b
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestHTMLIsOnePageAndRunsNothing(t *testing.T) {
	t.Parallel()
	r := hostileReport(Tenant, Container)
	r.Bill(&Prices{Currency: "EUR", Items: []Price{{"cpu", "hour", 1}}})
	var b bytes.Buffer
	if err := r.HTML(&b, hostileReport(Tenant, Day), "<host>", noon); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if name := os.Getenv("BULKHEAD_KEEP_HTML"); name != "" {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := xml.NewDecoder(strings.NewReader(page)) // the template is well-formed but for <meta> and doctype
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	allowed := map[string]bool{"html": true, "head": true, "meta": true, "title": true, "style": true, "body": true, "h1": true, "h2": true, "p": true, "span": true, "i": true,
		"div": true, "figure": true, "figcaption": true, "svg": true, "line": true, "text": true, "rect": true, "table": true, "thead": true, "tbody": true, "tfoot": true, "tr": true, "th": true, "td": true}
	bars := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			if !allowed[e.Name.Local] {
				t.Errorf("element <%s>", e.Name.Local)
			}
			if e.Name.Local == "rect" {
				bars++
			}
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "src" || a.Name.Local == "href" {
					t.Errorf("<%s %s=%q>", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	if bars < 4*legendEntries {
		t.Errorf("want a bar for each tenant of the legend in 4 charts, have %d", bars)
	}
	if strings.Contains(page, "http://") || strings.Contains(page, "https://") {
		t.Error("the page refers to other places")
	}
}

func TestRounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ top, want float64 }{
		{1, 1}, {1023, 1200}, {1025, 1.2 * 1024}, {4.1 * (1 << 30), 5 * (1 << 30)}, {8.1 * (1 << 20), 10 * (1 << 20)}, {300 * 1024, 300 * 1024},
	} {
		if have := rounded(tc.top, sizes); have < tc.top || math.Abs(have-tc.want) > 1e-6*tc.want {
			t.Errorf("%v: want %v, have %v", tc.top, tc.want, have)
		}
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	p, err := LoadPrices("../../../install/prices.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Items) == 0 {
		t.Fatal("the example has no prices")
	}
	const head = "version = 1\ncurrency = \"EUR\"\n"
	for _, tc := range []struct{ text, want string }{
		{"", "version"},
		{"version = 1\n", "currency"},
		{"version = 1\ncurrency = \"a\\u0000b\"", "currency"},
		{head + "[[price]]\nfigure = \"cpu\"\nunit = \"fortnight\"\neach = 1.0", "fortnight"},
		{head + "[[price]]\nfigure = \"luck\"\nunit = \"hour\"\neach = 1.0", "luck"},
		{head + "[[price]]\nfigure = \"cpu\"\nunit = \"hour\"\neach = -1.0", "-1"},
		{head + "[[price]]\nfigure = \"cpu\"\nunit = \"hour\"\neach = nan", "NaN"},
		{head + "[[price]]\nfigure = \"cpu\"\nunit = \"hour\"\neach = 1.0\ncolour = 3", "colour"},
		{head + strings.Repeat("[[price]]\nfigure = \"cpu\"\nunit = \"hour\"\neach = 1.0\n", 2), "already"},
	} {
		if _, err := parsePrices([]byte(tc.text)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: want an error with %q, have %v", tc.text, tc.want, err)
		}
	}
	r := OfReceipts(Query{By: []Dimension{Tenant}}, []usage.Receipt{receipt(1023, "blue", "", noon)})
	r.Bill(&Prices{Currency: "EUR", Items: []Price{{"cpu", "hour", 3600}, {"in", "MB", 1000}, {"memory", "GiB-hour", 360}}})
	// 3 s of CPU; 600 B from outside the tenant; 1 GiB for 10 s
	want := map[string]float64{"cpu": 3, "in": 0.6, "memory": 1}
	if d := cmp.Diff(want, r.Rows[0].Cost.Each); d != "" || r.Total.Cost.Sum != 4.6 {
		t.Errorf("%v %s", r.Total.Cost.Sum, d)
	}
}

func TestParseSince(t *testing.T) {
	t.Parallel()
	midnight := noon.Truncate(24 * time.Hour)
	for in, want := range map[string]time.Time{
		"": {}, "7d": midnight.AddDate(0, 0, -7), "0d": midnight, "2w": midnight.AddDate(0, 0, -14), "90m": noon.Add(-90 * time.Minute),
		"2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "2026-01": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), "2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		if have, err := ParseSince(in, noon); err != nil || !have.Equal(want) {
			t.Errorf("%q: want %v, have %v, %v", in, want, have, err)
		}
	}
	for _, in := range []string{"-1h", "d", "7", "yesterday", "-7d", "2026-13-01", "1e9d"} {
		if have, err := ParseSince(in, noon); err == nil {
			t.Errorf("%q: want an error, have %v", in, have)
		}
	}
	for _, in := range []string{"", "tenants", "tenant,,day", "day,day"} {
		if _, err := ParseBy(in); err == nil {
			t.Errorf("by %q: want an error", in)
		}
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0B", 1023: "1023B", 1024: "1.00KiB", 10189: "9.95KiB", 1 << 20: "1.00MiB", 1023 << 20: "1.00GiB", 1<<64 - 1: "16.0EiB"} {
		if have := Bytes(n); have != want {
			t.Errorf("%d: want %s, have %s", n, want, have)
		}
	}
	for n, want := range map[uint64]string{0: "0s", 1e6: "1.00ms", 999e6: "999ms", 1e9: "1.00s", 999e9: "999s", 3600e9: "1h0m", 500 * 3600e9: "500h"} {
		if have := CPU(n); have != want {
			t.Errorf("%d: want %s, have %s", n, want, have)
		}
	}
}

func TestTop(t *testing.T) {
	t.Parallel()
	sample := func(at time.Time, k uint64) Sample {
		s := Sample{At: at}
		for i, tenant := range []string{"blue", "blue", "red\x1b[2J"} {
			r := usage.Running{Memory: uint64(i+1) << 20, Pids: 2}
			r.Receipt = receipt(i, tenant, "", at)
			r.Life, r.Name = fmt.Sprint(i), fmt.Sprintf("a-name-that-is-too-long-for-its-column-%d", i)
			r.CPUUser, r.CPUSystem = ptr(k*uint64(i+1)*1e9), ptr(uint64(0))
			r.Net[0].InBytes = k * 1000
			s.Running = append(s.Running, r)
		}
		return s
	}
	a, b := sample(noon, 1), sample(noon.Add(2*time.Second), 2)
	rates := Rates(a, b, false)
	SortRates(rates, 'c')
	if len(rates) != 3 || rates[0].CPU != 1.5 || rates[0].In != 500 {
		t.Errorf("have %+v", rates)
	}
	sums := Rates(a, b, true)
	SortRates(sums, 'm')
	if len(sums) != 2 || sums[0].Tenant != "blue" || sums[0].CPU != 1.5 || sums[0].Memory != 3<<20 || sums[0].Containers != 2 {
		t.Errorf("by tenant: %+v", sums)
	}
	for _, height := range []int{0, 5} {
		var out bytes.Buffer
		if err := Screen(&out, rates, 'c', false, 80, height, "\n"); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if height > 0 && len(lines) > height {
			t.Errorf("want at most %d lines, have %d", height, len(lines))
		}
		for _, line := range lines {
			if n := len([]rune(line)); n > 80 || strings.ContainsRune(line, 0x1b) {
				t.Errorf("%d columns: %q", n, line)
			}
		}
	}
}
