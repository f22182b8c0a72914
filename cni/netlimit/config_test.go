package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

const head = `"cniVersion":"1.1.0","name":"net","type":"netlimit"`

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		conf  string
		want  [2]shape.Limit
		min   uint64
		notes int
	}{
		"nothing":           {conf: ``},
		"bandwidth's keys":  {conf: `,"ingressRate":8000000,"ingressBurst":800000,"egressRate":16000000,"egressBurst":1600000`, want: [2]shape.Limit{{Rate: 8e6, Burst: 1e5}, {Rate: 16e6, Burst: 2e5}}},
		"runtimeConfig":     {conf: `,"capabilities":{"bandwidth":true},"runtimeConfig":{"bandwidth":{"ingressRate":8000000,"ingressBurst":800000}}`, want: [2]shape.Limit{{Rate: 8e6, Burst: 1e5}}},
		"lowest wins":       {conf: `,"ingress":"4Mbit","egress":"5Mbit","ingressRate":8000000,"egressRate":1000000,"runtimeConfig":{"bandwidth":{"ingressRate":6000000}}`, want: [2]shape.Limit{{Rate: 4e6}, {Rate: 1e6}}},
		"own keys":          {conf: `,"ingress":"100Mbit","egress":"1Gbit","min":"5Mbit"`, want: [2]shape.Limit{{Rate: 1e8}, {Rate: 1e9}}, min: 5e6},
		"zero is not set":   {conf: `,"ingressRate":0,"ingressBurst":0`},
		"Kubernetes' burst": {conf: `,"ingressRate":10000000,"ingressBurst":2147483647,"egressRate":10000000,"egressBurst":2147483647`, want: [2]shape.Limit{{Rate: 1e7}, {Rate: 1e7}}, notes: 2},
		"honorBurst":        {conf: `,"honorBurst":true,"ingressRate":10000000,"ingressBurst":2147483647`, want: [2]shape.Limit{{Rate: 1e7, Burst: 268435455}}},
		"burst of 5 GB":     {conf: `,"honorBurst":true,"egressRate":100000000000,"egressBurst":40000000000`, want: [2]shape.Limit{1: {Rate: 1e11, Burst: 5e9}}}, // bandwidth's overflows 32 bits
		"no burst":          {conf: `,"ingressRate":10000000`, want: [2]shape.Limit{{Rate: 1e7}}},
		"others' keys":      {conf: `,"dns":{},"args":{"cni":{}},"cni.dev/attachments":[],"io.example/x":1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := parse([]byte("{" + head + tt.conf + "}"))
			if err != nil {
				t.Fatal(err)
			}
			if c.limits != tt.want || uint64(c.min) != tt.min || len(c.notes) != tt.notes {
				t.Errorf("have %+v min %v notes %q, want %+v min %v and %d notes", c.limits, c.min, c.notes, tt.want, tt.min, tt.notes)
			}
		})
	}
}

func TestParseBad(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		conf, says string
		code       uint
	}{
		"negative":            {`{` + head + `,"ingressRate":-5}`, "-5", types.ErrDecodingFailure},
		"fraction":            {`{` + head + `,"ingressRate":1.5}`, "1.5", types.ErrDecodingFailure},
		"overflow":            {`{` + head + `,"egressRate":18446744073709551616}`, "18446744073709551616", types.ErrDecodingFailure},
		"NaN":                 {`{` + head + `,"egressRate":NaN}`, "N", types.ErrDecodingFailure},
		"text for a number":   {`{` + head + `,"egressRate":"10"}`, "egressRate", types.ErrDecodingFailure},
		"twice":               {`{` + head + `,"egressRate":5000,"egressRate":6000}`, "egressRate", types.ErrDecodingFailure},
		"not JSON":            {`nonsense`, "n", types.ErrDecodingFailure},
		"empty":               {``, "EOF", types.ErrDecodingFailure},
		"unknown key":         {`{` + head + `,"egresRate":5000}`, "egresRate", types.ErrInvalidNetworkConfig},
		"key in capitals":     {`{` + head + `,"EgressRate":5000}`, "EgressRate", types.ErrInvalidNetworkConfig},
		"below 1 kbit":        {`{` + head + `,"egressRate":999}`, "999", types.ErrInvalidNetworkConfig},
		"above the kernel":    {`{` + head + `,"egressRate":18446744073709551615}`, "18446744073709551615", types.ErrInvalidNetworkConfig},
		"zero with a unit":    {`{` + head + `,"egress":"0Mbit"}`, "0", types.ErrInvalidNetworkConfig},
		"no unit":             {`{` + head + `,"egress":"100"}`, `"100"`, types.ErrInvalidNetworkConfig},
		"NaN with a unit":     {`{` + head + `,"egress":"NaNbit"}`, `"NaNbit"`, types.ErrInvalidNetworkConfig},
		"negative, with unit": {`{` + head + `,"egress":"-1Mbit"}`, `"-1Mbit"`, types.ErrInvalidNetworkConfig},
		"burst alone":         {`{` + head + `,"ingressBurst":7777}`, "7777", types.ErrInvalidNetworkConfig},
		"both subnet lists":   {`{` + head + `,"shapedSubnets":["10.0.0.0/8"],"unshapedSubnets":["10.0.0.0/8"]}`, "both", types.ErrInvalidNetworkConfig},
		"no subnet":           {`{` + head + `,"unshapedSubnets":["10.0.0.0"]}`, "10.0.0.0", types.ErrInvalidNetworkConfig},
		"tenant":              {`{` + head + `,"tenant":"a/b"}`, "a/b", types.ErrInvalidNetworkConfig},
		"no name":             {`{"cniVersion":"1.0.0","type":"netlimit"}`, "name", types.ErrInvalidNetworkConfig},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parse([]byte(tt.conf))
			if err == nil {
				t.Fatal("was accepted")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not name %q", err, tt.says)
			}
			if c := codes.Of(err); c != tt.code {
				t.Errorf("have code %d, want %d (%v)", c, tt.code, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{` + head + `}`, `{` + head + `,"ingressRate":1000,"ingressBurst":1,"min":"1Mbit","unshapedSubnets":["::/0"]}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := parse(in)
		if err != nil {
			if !errors.Is(err, plugin.ErrDecode) && !errors.Is(err, plugin.ErrConfig) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		for _, l := range c.limits {
			if l.Rate != 0 && (l.Rate < shape.MinRate || l.Rate > shape.MaxRate) {
				t.Fatalf("rate %v passed", l.Rate)
			}
		}
	})
}

// Each error of the shaper's has its number, however deep it is wrapped.
func TestCodes(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]uint{
		shape.ErrExhausted: plugin.CodeFull, shape.ErrOccupied: plugin.CodeOccupied, shape.ErrMismatch: plugin.CodeDiffers, shape.ErrLimit: plugin.CodeConfig,
		port.ErrNoHostSide: plugin.CodeConfig, port.ErrDiffers: plugin.CodeDiffers, plugin.ErrUnavailable: plugin.CodeUnavailable, rtnl.ErrNotExist: plugin.CodeUnknownContainer,
		io.ErrUnexpectedEOF: plugin.CodeInternal,
	} {
		var e *plugin.Error
		got := codes.Map(func(*plugin.Args) error {
			return fmt.Errorf("limit c: %w", policy.Hint(fmt.Errorf("more: %w", err), "do this"))
		})(nil)
		if !errors.As(got, &e) || e.Code != want || !strings.Contains(e.Details, "do this") || !strings.Contains(e.Msg, err.Error()) {
			t.Errorf("%v: have %+v, want code %d", err, got, want)
		}
	}
}
