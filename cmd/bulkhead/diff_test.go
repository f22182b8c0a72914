package main

import (
	"strings"
	"testing"
)

func TestUnlike(t *testing.T) {
	t.Parallel()
	const config = `{"process":{"args":["a","b"],"cwd":"/"},"hostname":"h","linux":{"maskedPaths":["/x","/y","/x"]}}`
	for other, want := range map[string]string{
		config: "",
		`{"hostname":"h","linux":{"maskedPaths":["/y","/x"]},"process":{"cwd":"/","args":["a","b"]}}`:                                 "",
		`{"process":{"args":["b","a"],"cwd":"/"},"hostname":"h","linux":{"maskedPaths":["/x","/y"]}}`:                                 "/process/args",
		`{"process":{"args":["a","b"],"cwd":"/"},"hostname":"i","linux":{"maskedPaths":["/x","/z"]}}`:                                 "/hostname /linux/maskedPaths (/y /z)",
		`{"process":{"args":["a","b"],"cwd":"/"},"hostname":"h"}`:                                                                     "/linux",
		`{"process":{"args":["a","b"],"cwd":"/"},"hostname":"h","linux":{"maskedPaths":["/x","/y"]},"mounts":[{"destination":"/d"}]}`: "/mounts",
	} {
		if have := strings.Join(unlike([]byte(config), []byte(other)), " "); have != want {
			t.Errorf("%s: want %q, have %q", other, want, have)
		}
	}
}
