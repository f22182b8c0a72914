package wire

import (
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"s":"a","n":7,"b":true,"l":["x","y"],"m":{"k":"v"},"more":{"deep":[1,{"a":null}]}}`: "",
		`{"s":null,"l":null,"m":null}`:    "",
		`{}`:                              "",
		`{} x`:                            "nothing behind",
		`{}{}`:                            "nothing behind",
		`[]`:                              "want an object",
		`{"s":1}`:                         "s: want a string, have 1",
		`{"n":"1"}`:                       "n: want a number",
		`{"n":-1}`:                        "n: ",
		`{"n":1.5}`:                       "n: ",
		`{"b":0}`:                         "b: want true or false",
		`{"l":{}}`:                        "l: want an array",
		`{"l":["a",2]}`:                   "l: want a string",
		`{"m":{"k":1}}`:                   "m.k: want a string",
		`{"s":"a","s":"b"}`:               "duplicate",
		`{"more":{"a":1,"a":2}}`:          "duplicate",
		"{\"s\":\"\xff\"}":                "UTF-8",
		`{"s":"a`:                         "EOF",
		``:                                "EOF",
		strings.Repeat(`{"more":`, 20000): "depth",
	} {
		var s string
		var n uint64
		var b bool
		var l []string
		var m map[string]string
		err := Whole([]byte(in), func(d *Decoder, name string) error {
			switch name {
			case "s":
				return Value(d, &s)
			case "n":
				return Value(d, &n)
			case "b":
				return Value(d, &b)
			case "l":
				return Strings(d, &l)
			case "m":
				return Map(d, &m)
			}
			return Value(d, nil)
		})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40s: want %q, have %v", in, want, err)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	var w Writer
	w.Object("", func() {
		w.Text("a", "x\"\n\xff", true)
		w.Text("left out", "", false)
		w.List("l", 2, func(i int) { w.Number("", uint64(i), true) })
		w.List("o", 2, func(i int) { w.Object("", func() { w.Flag("f", i == 1) }) })
		w.Integer("n", -1, false)
	})
	want := `{"a":"x\"\n` + "\uFFFD" + `","l":[0,1],"o":[{},{"f":true}],"n":-1}`
	if string(w.B) != want {
		t.Errorf("want %s, have %s", want, w.B)
	}
}
