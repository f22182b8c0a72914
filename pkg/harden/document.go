package harden

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrConfig is wrapped by every error about the config itself.
var ErrConfig = errors.New("invalid config.json")

// object is a JSON object whose members keep their order and, until they are set, their bytes.
type object struct {
	path    string         // JSON pointer, for changes and errors
	raw     jsontext.Value // as read; nil for an object that was not there
	members []member
	changed bool
}

type member struct {
	name  string
	value jsontext.Value
}

// parseObject reads raw as an object. known are the names the caller will ask for: a name that differs from one of
// them only in case is an error, since runc's decoder takes it for the same field and crun's does not.
func parseObject(path string, raw jsontext.Value, known ...string) (*object, error) {
	o := &object{path: path, raw: raw}
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	t, err := d.ReadToken()
	if err != nil || t.Kind() != '{' {
		return nil, fmt.Errorf("%w: decode %s: want an object, have %.40q (%v)", ErrConfig, at(path), []byte(raw), err)
	}
	for d.PeekKind() == '"' {
		t, err := d.ReadToken()
		if err != nil {
			return nil, fmt.Errorf("%w: decode %s: %w", ErrConfig, at(path), err)
		}
		name := t.String()
		v, err := d.ReadValue()
		if err != nil {
			return nil, fmt.Errorf("%w: decode %s: %w", ErrConfig, at(path+"/"+name), err)
		}
		end := d.InputOffset() // a view of raw, not of the decoder's buffer
		o.members = append(o.members, member{name, raw[end-int64(len(v)) : end]})
		for _, k := range known {
			if name != k && strings.EqualFold(name, k) {
				return nil, fmt.Errorf("%w: decode %s: field %q: want %q", ErrConfig, at(path), name, k)
			}
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return nil, fmt.Errorf("%w: decode %s: %w", ErrConfig, at(path), err)
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, fmt.Errorf("%w: decode %s: more than one value", ErrConfig, at(path))
	}
	return o, nil
}

func at(path string) string {
	if path == "" {
		return "config.json"
	}
	return path
}

func (o *object) find(name string) int {
	for i := range o.members {
		if o.members[i].name == name {
			return i
		}
	}
	return -1
}

// get is the member's bytes, or nil if it is absent or null.
func (o *object) get(name string) jsontext.Value {
	if i := o.find(name); i >= 0 && o.members[i].value.Kind() != 'n' {
		return o.members[i].value
	}
	return nil
}

// decode reads the member into v and says whether it was there.
func (o *object) decode(name string, v any) (bool, error) {
	raw := o.get(name)
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("%w: decode %s/%s: %w", ErrConfig, o.path, name, err)
	}
	return true, nil
}

// set gives the member this value, at its old place or at the end.
func (o *object) set(name string, value any) error {
	var raw jsontext.Value
	switch v := value.(type) {
	case jsontext.Value:
		raw = v
	case []jsontext.Value: // the encoder would write them anew
		raw = append(raw, '[')
		for i, e := range v {
			if i > 0 {
				raw = append(raw, ',')
			}
			raw = append(raw, e...)
		}
		raw = append(raw, ']')
	default:
		b, err := json.Marshal(value, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("encode %s/%s: %w", o.path, name, err)
		}
		raw = b
	}
	o.changed = true
	if i := o.find(name); i >= 0 {
		o.members[i].value = raw
		return nil
	}
	o.members = append(o.members, member{name, raw})
	return nil
}

func (o *object) remove(name string) {
	if i := o.find(name); i >= 0 {
		o.members = append(o.members[:i], o.members[i+1:]...)
		o.changed = true
	}
}

// child parses a member that is an object; one that is not there is empty, and is not written unless it is changed.
func (o *object) child(name string, known ...string) (*object, error) {
	raw := o.get(name)
	if raw == nil {
		return &object{path: o.path + "/" + name}, nil
	}
	return parseObject(o.path+"/"+name, raw, known...)
}

// put stores what child handed out, if it was changed.
func (o *object) put(name string, c *object) error {
	if !c.changed {
		return nil
	}
	return o.set(name, c.bytes())
}

// bytes is the object as it was read if nothing changed, else its members in their order.
func (o *object) bytes() jsontext.Value {
	if !o.changed && o.raw != nil {
		return o.raw
	}
	b := []byte{'{'}
	for i, m := range o.members {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = jsontext.AppendQuote(b, m.name) // a decoded name is valid UTF-8
		b = append(b, ':')
		b = append(b, m.value...)
	}
	return append(b, '}')
}

// SetMember gives a member of a config's object another value; all else stays as it is, byte for byte.
func SetMember(config []byte, object, member string, value any) ([]byte, error) {
	root, err := parseObject("", jsontext.Value(config), object)
	if err != nil {
		return nil, err
	}
	o, err := root.child(object, member)
	if err != nil {
		return nil, err
	}
	if err := o.set(member, value); err != nil {
		return nil, err
	}
	if err := root.put(object, o); err != nil {
		return nil, err
	}
	return root.bytes(), nil
}
