package report

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Prices is a price list: what a unit of each figure costs, in one currency.
type Prices struct {
	Currency string
	Items    []Price
}

// Price is one line of the list.
type Price struct {
	Figure string  // cpu, memory, …
	Unit   string  // "hour", "GiB", …
	Each   float64 // price of one unit
}

// Cost is what a row's figures cost, in all and by figure.
type Cost struct {
	Sum  float64            `json:"sum"`
	Each map[string]float64 `json:"each"`
}

// priceable says for each figure of a price list which units it has, with how
// much of the row's figure is one unit.
var priceable = map[string]struct {
	of    func(*Totals) float64
	units map[string]float64
}{
	"cpu":     {func(t *Totals) float64 { return float64(t.CPUUser + t.CPUSystem) }, map[string]float64{"second": 1e9, "hour": 3600e9}},
	"memory":  {func(t *Totals) float64 { return float64(t.MemorySum) }, map[string]float64{"MiB-second": 1, "GiB-hour": 1024 * 3600}},
	"read":    {func(t *Totals) float64 { return float64(t.Read) }, byteUnits},
	"write":   {func(t *Totals) float64 { return float64(t.Write) }, byteUnits},
	"in":      {func(t *Totals) float64 { return float64(t.In - min(t.In, t.InTenant)) }, byteUnits},
	"out":     {func(t *Totals) float64 { return float64(t.Out - min(t.Out, t.OutTenant)) }, byteUnits},
	"in_all":  {func(t *Totals) float64 { return float64(t.In) }, byteUnits},
	"out_all": {func(t *Totals) float64 { return float64(t.Out) }, byteUnits},
	"life":    {func(t *Totals) float64 { return float64(t.Lives) }, map[string]float64{"each": 1, "thousand": 1000}},
}

var byteUnits = map[string]float64{"GB": 1e9, "TB": 1e12, "GiB": 1 << 30, "TiB": 1 << 40, "MB": 1e6, "MiB": 1 << 20}

// LoadPrices reads a price list (install/prices.toml is one).
func LoadPrices(name string) (*Prices, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read prices: %w", err)
	}
	p, err := parsePrices(b)
	if err != nil {
		return nil, fmt.Errorf("read prices %q: %w", name, err)
	}
	return p, nil
}

func parsePrices(b []byte) (*Prices, error) {
	var file struct {
		Version  int    `toml:"version"`
		Currency string `toml:"currency"`
		Price    []struct {
			Figure string  `toml:"figure"`
			Unit   string  `toml:"unit"`
			Each   float64 `toml:"each"`
		} `toml:"price"`
	}
	if err := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields().Decode(&file); err != nil {
		return nil, tomlError(err)
	}
	if file.Version != 1 {
		return nil, fmt.Errorf("version: want 1, have %d", file.Version)
	}
	if c := file.Currency; c == "" || len(c) > 8 || strings.ContainsFunc(c, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("currency: want a short name such as EUR, have %q", c)
	}
	p := &Prices{Currency: file.Currency}
	seen := map[string]bool{}
	for i, item := range file.Price {
		f, ok := priceable[item.Figure]
		if !ok {
			return nil, fmt.Errorf("price %d: figure: want one of %s, have %q", i+1, names(priceable), item.Figure)
		}
		if _, ok := f.units[item.Unit]; !ok {
			return nil, fmt.Errorf("price %d: unit of %s: want one of %s, have %q", i+1, item.Figure, names(f.units), item.Unit)
		}
		if !(item.Each >= 0) || item.Each > 1e12 { // a NaN is not >= 0
			return nil, fmt.Errorf("price %d: each: want a number from 0 to 10^12, have %v", i+1, item.Each)
		}
		if seen[item.Figure] {
			return nil, fmt.Errorf("price %d: %s has a price already", i+1, item.Figure)
		}
		seen[item.Figure] = true
		p.Items = append(p.Items, Price(item))
	}
	return p, nil
}

// tomlError says where in the file it is wrong.
func tomlError(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		line, _ := unknown.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %q", line, strings.Join(unknown.Errors[0].Key(), "."))
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		line, _ := wrong.Position()
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// Bill adds what each row costs.
func (r *Report) Bill(p *Prices) {
	r.Prices = p
	for i := range r.Rows {
		r.Rows[i].Cost = p.cost(&r.Rows[i].Totals)
	}
	r.Total.Cost = p.cost(&r.Total.Totals)
}

func (p *Prices) cost(t *Totals) *Cost {
	c := &Cost{Each: map[string]float64{}}
	for _, item := range p.Items {
		f := priceable[item.Figure]
		v := f.of(t) / f.units[item.Unit] * item.Each
		c.Each[item.Figure] = v
		c.Sum += v
	}
	return c
}
