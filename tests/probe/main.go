// Command probe says whether this machine has what a test needs: `probe root netns qdisc:fq_codel`.
// Exit 0: all there. 1: the first that is not, and why, on stdout. 2: one that BULKHEAD_REQUIRE promises is missing.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintf(os.Stderr, "usage: probe FEATURE...\nfeatures: %s\n", strings.Join(testenv.Names(), " "))
		os.Exit(2)
	}
	var features []testenv.Feature
	for _, name := range os.Args[1:] {
		f, err := testenv.ByName(name)
		if err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		features = append(features, f)
	}
	err := testenv.Check(features...)
	switch {
	case errors.Is(err, testenv.ErrPromised):
		fmt.Println(err)
		os.Exit(2)
	case err != nil:
		fmt.Println(err)
		os.Exit(1)
	}
}
