// Package house holds the repository to its own rules by tests: which way imports run, what a hook must not link,
// how long a main may be, what may not stand in the text.
package house
