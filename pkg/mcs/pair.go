package mcs

import (
	"errors"
	"fmt"
)

// ErrExhausted says that no pair of a range is free.
var ErrExhausted = errors.New("no free pair of categories")

// Pair is the two categories of one tenant, A below B. Two tenants with
// different pairs cannot read each other: neither level dominates the other.
// The zero Pair is none.
type Pair struct{ A, B uint16 }

// IsZero says whether the pair is none.
func (p Pair) IsZero() bool { return p == Pair{} }

// Level is the pair at s0: "s0:cA,cB".
func (p Pair) Level() Level {
	var l Level
	l.Categories.Add(p.A)
	l.Categories.Add(p.B)
	return l
}

// String is the pair as categories, "c1,c4".
func (p Pair) String() string { return fmt.Sprintf("c%d,c%d", p.A, p.B) }

// PairOf is the pair of a level; ok is false where it has not exactly two
// categories at s0.
func PairOf(l Level) (p Pair, ok bool) {
	if l.Sensitivity != 0 || l.Categories.Len() != 2 {
		return Pair{}, false
	}
	list := l.Categories.List()
	return Pair{list[0], list[1]}, true
}

// Count is how many pairs a set of categories has.
func Count(from Set) int {
	n := from.Len()
	return n * (n - 1) / 2
}

// Allocate gives a pair of from that taken does not report. start is where
// to begin looking (any number; its place among from's pairs is start modulo
// Count), so that hosts can be given different orders; the search wraps.
func Allocate(from Set, start uint64, taken func(Pair) bool) (Pair, error) {
	total := Count(from)
	if total == 0 {
		return Pair{}, fmt.Errorf("allocate from %q: %w: it has %d categories", from, ErrExhausted, from.Len())
	}
	list := from.List()
	i, j := nth(len(list), int(start%uint64(total)))
	for range total {
		if p := (Pair{list[i], list[j]}); !taken(p) {
			return p, nil
		}
		if j++; j == len(list) {
			if i++; i == len(list)-1 {
				i = 0
			}
			j = i + 1
		}
	}
	return Pair{}, fmt.Errorf("allocate from %q: %w: all %d are taken", from, ErrExhausted, total)
}

// nth is the indexes of the k-th pair (i, j), i < j < n, in lexical order.
func nth(n, k int) (i, j int) {
	for row := n - 1; k >= row; row-- {
		k -= row
		i++
	}
	return i, i + 1 + k
}
