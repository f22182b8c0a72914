// Package wire reads and writes JSON token by token. What encoding/json and its kin must learn of a struct by reflection
// takes as long as all the rest of a hook that only asks whose its container is. Names match exactly, duplicates and
// broken UTF-8 are errors, as jsontext has them; members that nobody asks for are passed over, not decoded.
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Decoder reads one document.
type Decoder = jsontext.Decoder

// decoders are used again: a new one brings its own stacks and buffers.
var decoders = sync.Pool{New: func() any { return new(Decoder) }}

// Whole reads data, one object and nothing behind it: member is called for each name, and reads the value.
func Whole(data []byte, member func(d *Decoder, name string) error) error {
	d := decoders.Get().(*Decoder)
	defer decoders.Put(d)
	d.Reset(bytes.NewBuffer(data))
	if err := Object(d, func(name string) error { return member(d, name) }); err != nil {
		return err
	}
	if len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		return errors.New("want nothing behind the object")
	}
	return nil
}

// Object reads an object and calls member for each name, which reads the value. null is an object without members.
func Object(d *Decoder, member func(name string) error) error {
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() == 'n' {
		return nil
	}
	if t.Kind() != '{' {
		return fmt.Errorf("want an object, have %s", t)
	}
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		name := t.String()
		if err := member(name); err != nil {
			var inner *nameError
			if errors.As(err, &inner) {
				return &nameError{name + "." + inner.name, inner.err}
			}
			return &nameError{name, err}
		}
	}
	_, err = d.ReadToken()
	return err
}

// nameError says where in a document an error is.
type nameError struct {
	name string
	err  error
}

func (e *nameError) Error() string { return e.name + ": " + e.err.Error() }
func (e *nameError) Unwrap() error { return e.err }

// List reads an array and calls element for each element, which reads it. null is an empty one.
func List(d *Decoder, element func() error) error {
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() == 'n' {
		return nil
	}
	if t.Kind() != '[' {
		return fmt.Errorf("want an array, have %s", t)
	}
	for d.PeekKind() != ']' {
		if err := element(); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// Strings reads an array of strings, and adds them to what is there.
func Strings(d *Decoder, to *[]string) error {
	return List(d, func() error {
		var s string
		err := Value(d, &s)
		*to = append(*to, s)
		return err
	})
}

// Map reads an object of strings into m.
func Map(d *Decoder, m *map[string]string) error {
	return Object(d, func(name string) error {
		if *m == nil {
			*m = map[string]string{}
		}
		var s string
		err := Value(d, &s)
		(*m)[name] = s
		return err
	})
}

// Value reads a scalar into what to points at, or, where to is nil, passes over a value of any kind. null leaves the
// value as it is.
func Value(d *Decoder, to any) error {
	if to == nil {
		return d.SkipValue()
	}
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	kind := t.Kind()
	if kind == 'n' {
		return nil
	}
	switch to := to.(type) {
	case *string:
		if kind != '"' {
			return fmt.Errorf("want a string, have %s", t)
		}
		*to = t.String()
		return nil
	case *bool:
		if kind != 't' && kind != 'f' {
			return fmt.Errorf("want true or false, have %s", t)
		}
		*to = t.Bool()
		return nil
	case *time.Time:
		if kind != '"' {
			return fmt.Errorf("want a time, have %s", t)
		}
		*to, err = time.Parse(time.RFC3339Nano, t.String())
		return err
	}
	if kind != '0' {
		return fmt.Errorf("want a number, have %s", t)
	}
	switch to := to.(type) {
	case *int:
		*to, err = strconv.Atoi(t.String())
	case *uint32:
		var n uint64
		n, err = strconv.ParseUint(t.String(), 10, 32)
		*to = uint32(n)
	case *uint64:
		*to, err = strconv.ParseUint(t.String(), 10, 64)
	default:
		panic(fmt.Sprintf("wire: no way to read a %T", to))
	}
	return err
}
