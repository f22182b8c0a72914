package policy

import (
	"encoding/binary"
	"errors"
	"maps"
	"reflect"
	"slices"
)

// The cache's encoding: exported fields in their order, numbers as varints,
// strings with their length. It has no names and no versions; fingerprint
// tells whether writer and reader have the same types and defaults.

var errCodec = errors.New("cache is cut short")

func encode(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...)
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.Slice:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			b = encode(b, v.Index(i))
		}
		return b
	case reflect.Map:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		m := map[string]reflect.Value{}
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = it.Value()
		}
		for _, k := range slices.Sorted(maps.Keys(m)) {
			b = encode(encode(b, reflect.ValueOf(k)), m[k])
		}
		return b
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		return encode(append(b, 1), v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				b = encode(b, v.Field(i))
			}
		}
		return b
	}
	panic("policy: no encoding for " + v.Type().String())
}

// reader decodes; err is set once and then kept.
type reader struct {
	b   []byte
	err error
}

func (r *reader) number() uint64 {
	n, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.err, r.b = errCodec, nil
		return 0
	}
	r.b = r.b[w:]
	return n
}

// count is a number of things of at least one byte each.
func (r *reader) count() int {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.err, r.b = errCodec, nil
		return 0
	}
	return int(n)
}

func (r *reader) bytes() []byte {
	n := r.count()
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) flag() bool {
	if len(r.b) == 0 {
		r.err = errCodec
		return false
	}
	f := r.b[0]
	r.b = r.b[1:]
	return f == 1
}

func (r *reader) decode(v reflect.Value) {
	if r.err != nil {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(string(r.bytes()))
	case reflect.Bool:
		v.SetBool(r.flag())
	case reflect.Int, reflect.Int64:
		n := r.number()
		v.SetInt(int64(n>>1) ^ -int64(n&1)) // zig-zag, as AppendVarint writes
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.number())
	case reflect.Slice:
		if n := r.count(); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				r.decode(v.Index(i))
			}
		}
	case reflect.Map:
		if n := r.count(); n > 0 {
			v.Set(reflect.MakeMapWithSize(v.Type(), n))
			for range n {
				k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				r.decode(k)
				r.decode(e)
				v.SetMapIndex(k, e)
			}
		}
	case reflect.Pointer:
		if r.flag() {
			v.Set(reflect.New(v.Type().Elem()))
			r.decode(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.decode(v.Field(i))
			}
		}
	}
}

// shape appends what identifies a type's encoding.
func shape(b []byte, t reflect.Type) []byte {
	b = append(b, byte(t.Kind()))
	switch t.Kind() {
	case reflect.Slice, reflect.Pointer, reflect.Map:
		return shape(b, t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				b = shape(append(append(b, f.Name...), 0), f.Type)
			}
		}
		return append(b, 0xff)
	}
	return append(append(b, t.Name()...), 0)
}
