package usage

import "testing"

func BenchmarkParse(b *testing.B) {
	line, err := sample("c1").Line()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	r := sample("c1")
	for b.Loop() {
		if _, err := r.Line(); err != nil {
			b.Fatal(err)
		}
	}
}
