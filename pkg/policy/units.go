package policy

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size.
type Bytes uint64

// BytesPerSecond is a rate of block I/O.
type BytesPerSecond uint64

// BitsPerSecond is a rate of network traffic, layer 2.
type BitsPerSecond uint64

// CPU is a share of processors in thousandths of one: "150%" is 1500.
type CPU uint64

// Duration is a span of time that knows days.
type Duration time.Duration

// unit is one suffix of a notation and what it multiplies by.
type unit struct {
	suffix string
	times  uint64
}

// Longer suffixes stand before those that end them.
var (
	byteUnits = []unit{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
		{"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15}, {"B", 1},
	}
	// tc(8)'s notation: bit is a bit, Kbit thousands, Kibit 1024s.
	bitUnits = []unit{
		{"Kibit", 1 << 10}, {"Mibit", 1 << 20}, {"Gibit", 1 << 30}, {"Tibit", 1 << 40},
		{"Kbit", 1e3}, {"kbit", 1e3}, {"Mbit", 1e6}, {"Gbit", 1e9}, {"Tbit", 1e12}, {"bit", 1},
	}
)

// parseQuantity reads a decimal number and one of units, exactly: a value
// that is not whole in the base unit is an error, not rounded.
func parseQuantity(s, example string, units []unit) (uint64, error) {
	bad := func(why string) (uint64, error) { return 0, fmt.Errorf("%q: %s; write it like %q", s, why, example) }
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	suffix := s[len(digits):]
	var times uint64
	for _, u := range units {
		if u.suffix == suffix {
			times = u.times
			break
		}
	}
	if suffix == "" {
		return bad("no unit")
	}
	if times == 0 {
		return bad("unknown unit " + strconv.Quote(suffix))
	}
	whole, frac, hasFrac := strings.Cut(strings.TrimSuffix(digits, " "), ".")
	if !isDigits(whole) || hasFrac && !isDigits(frac) || len(frac) > 9 {
		return bad("not a number")
	}
	n, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || n > math.MaxInt64/times {
		return bad("too large")
	}
	n *= times
	if frac != "" {
		f, _ := strconv.ParseUint(frac, 10, 64)
		scale := uint64(1)
		for range frac {
			scale *= 10
		}
		hi, lo := bits.Mul64(f, times)
		part, rem := bits.Div64(hi, lo, scale) // f < scale, so it fits
		if rem != 0 {
			return bad("not whole in the smallest unit")
		}
		n += part
	}
	if n > math.MaxInt64 {
		return bad("too large")
	}
	return n, nil
}

func isDigits(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// ParseBytes reads a size: "512MiB", "1GB".
func ParseBytes(s string) (Bytes, error) {
	n, err := parseQuantity(s, "1GiB", byteUnits)
	if err != nil {
		return 0, fmt.Errorf("parse size %w", err)
	}
	return Bytes(n), nil
}

// ParseBytesPerSecond reads a rate of bytes: "100MB/s".
func ParseBytesPerSecond(s string) (BytesPerSecond, error) {
	per, ok := strings.CutSuffix(s, "/s")
	if !ok {
		return 0, fmt.Errorf("parse rate %q: no \"/s\" at its end; write it like \"100MB/s\"", s)
	}
	n, err := parseQuantity(per, "100MB/s", byteUnits)
	if err != nil {
		return 0, fmt.Errorf("parse rate %w", err)
	}
	return BytesPerSecond(n), nil
}

// ParseBitsPerSecond reads a rate in tc(8)'s notation: "100Mbit".
func ParseBitsPerSecond(s string) (BitsPerSecond, error) {
	n, err := parseQuantity(s, "100Mbit", bitUnits)
	if err != nil {
		return 0, fmt.Errorf("parse rate %w", err)
	}
	return BitsPerSecond(n), nil
}

// ParseCPU reads a share of processors: "150%" is one and a half.
func ParseCPU(s string) (CPU, error) {
	per, ok := strings.CutSuffix(s, "%")
	whole, frac, hasFrac := strings.Cut(per, ".")
	if !ok || !isDigits(whole) || hasFrac && (len(frac) != 1 || !isDigits(frac)) {
		return 0, fmt.Errorf("parse cpu share %q: want percent of one processor; write it like \"150%%\"", s)
	}
	n, err := strconv.ParseUint(whole+frac, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse cpu share %q: too large", s)
	}
	if !hasFrac {
		n *= 10
	}
	return CPU(n), nil
}

// ParseDuration reads a span of time: "400d", "12h", "90m", "30s".
func ParseDuration(s string) (Duration, error) {
	n, err := parseQuantity(s, "400d", []unit{{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {"w", 7 * 86400}})
	if err != nil {
		return 0, fmt.Errorf("parse duration %w", err)
	}
	if n > uint64(math.MaxInt64/time.Second) {
		return 0, fmt.Errorf("parse duration %q: too large", s)
	}
	return Duration(time.Duration(n) * time.Second), nil
}

func format(n uint64, units []unit) string {
	best := units[len(units)-1]
	for _, u := range units {
		if n != 0 && n%u.times == 0 && u.times > best.times {
			best = u
		}
	}
	return strconv.FormatUint(n/best.times, 10) + best.suffix
}

// String is the size in the largest unit that holds it exactly.
func (b Bytes) String() string { return format(uint64(b), byteUnits) }

// String is the rate in the largest unit that holds it exactly.
func (r BytesPerSecond) String() string { return format(uint64(r), byteUnits) + "/s" }

// String is the rate in tc's notation, in the largest unit that holds it exactly.
func (r BitsPerSecond) String() string { return format(uint64(r), bitUnits) }

// String is the share in percent of one processor.
func (c CPU) String() string {
	s := strconv.FormatUint(uint64(c)/10, 10)
	if c%10 != 0 {
		s += "." + strconv.FormatUint(uint64(c)%10, 10)
	}
	return s + "%"
}

// Cores is the share as a number of processors.
func (c CPU) Cores() float64 { return float64(c) / 1000 }

// Quota is the run time that the share allows in one period, as cpu.max and
// cpu.cfs_quota_us have it.
func (c CPU) Quota(period time.Duration) time.Duration {
	return time.Duration(c) * period / 1000
}

// Std is the span as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is the span in the largest unit that holds it exactly.
func (d Duration) String() string {
	return format(uint64(time.Duration(d)/time.Second), []unit{{"w", 7 * 86400}, {"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}})
}
