package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
)

const defaultPeriod = 100000 // µs, the kernel's own

// read gives what is in force in dir for s, in the unit of s.Want.
func (s Setting) read(dir string) (uint64, error) {
	text, err := kcgroup.Read(dir, s.File)
	if err != nil {
		return 0, err
	}
	period := ""
	if s.Form == Quota1 {
		if period, err = kcgroup.Read(dir, "cpu.cfs_period_us"); err != nil {
			return 0, err
		}
	}
	v, err := s.parse(text, period)
	if err != nil {
		return 0, fmt.Errorf("read %s/%s: %w", dir, s.File, err)
	}
	return v, nil
}

// parse reads a file's text. period is cpu.cfs_period_us, for Quota1 alone.
func (s Setting) parse(text, period string) (uint64, error) {
	switch s.Form {
	case Number:
		return number(text)
	case Default:
		for line := range strings.Lines(text) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "default "); ok {
				return number(v)
			}
		}
		return number(text)
	case Quota2:
		q, p, ok := strings.Cut(text, " ")
		if !ok {
			return 0, fmt.Errorf("want QUOTA PERIOD, have %.80q", text)
		}
		return ratio(q, p)
	case Quota1:
		return ratio(text, period)
	case IO1, IO2:
		for line := range strings.Lines(text) {
			dev, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if dev != s.Dev {
				continue
			}
			if s.Form == IO1 {
				return number(rest)
			}
			for f := range strings.FieldsSeq(rest) {
				if v, ok := strings.CutPrefix(f, s.Field+"="); ok {
					return number(v)
				}
			}
		}
		return Max, nil
	}
	return 0, fmt.Errorf("no form %q", s.Form)
}

// v1Unlimited is where v1's idea of no memory limit begins: PAGE_COUNTER_MAX is LONG_MAX rounded down to a page.
const v1Unlimited = 1 << 62

func number(s string) (uint64, error) {
	s = strings.TrimSpace(s)
	if s == "max" || s == "-1" {
		return Max, nil
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("want a number or max, have %.80q", s)
	}
	if v >= v1Unlimited {
		return Max, nil
	}
	return v, nil
}

// ratio is a quota in a period as millionths of a processor.
func ratio(quota, period string) (uint64, error) {
	q, err := number(quota)
	if err != nil || q == Max {
		return q, err
	}
	p, err := number(period)
	if err != nil {
		return 0, err
	}
	if p == 0 || p > 1e6 || q > 1e15 {
		return 0, fmt.Errorf("want a quota and a period in µs, have %s in %s", quota, period)
	}
	return q * 1e6 / p, nil
}

// write puts v in force in dir.
func (s Setting) write(dir string, v uint64) error {
	period := uint64(defaultPeriod)
	if s.Form == Quota1 {
		text, err := kcgroup.Read(dir, "cpu.cfs_period_us")
		if err != nil {
			return err
		}
		if p, err := number(text); err == nil && p > 0 && p <= 1e6 {
			period = p
		}
	}
	return kcgroup.Write(dir, s.File, s.format(v, period))
}

func (s Setting) format(v, period uint64) string {
	text := strconv.FormatUint(v, 10)
	quota := strconv.FormatUint(max(v/1e6*period+v%1e6*period/1e6, 1000), 10) // the kernel takes no less than 1 ms
	if v == Max {
		text, quota = "max", "max"
		if s.Form == Quota1 || strings.HasSuffix(s.File, "_in_bytes") {
			text, quota = "-1", "-1"
		}
	}
	switch s.Form {
	case Default:
		return "default " + text
	case Quota2:
		return quota + " " + strconv.FormatUint(period, 10)
	case Quota1:
		return quota
	case IO2:
		return s.Dev + " " + s.Field + "=" + text
	case IO1:
		if v == Max {
			text = "0" // the file's word for none
		}
		return s.Dev + " " + text
	}
	return text
}

// slack is how far above Want what the kernel reads back may lie: quotas and memory are rounded.
func (s Setting) slack() uint64 {
	switch s.Form {
	case Quota1, Quota2:
		return max(s.Want/100, 10000) // a quota of 1 ms in a short period cannot be met closer
	}
	return 0
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
