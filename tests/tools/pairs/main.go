// Command pairs runs two commands in turn and says how much longer the second takes: `pairs N A.sh B.sh [RESET.sh]`. Each
// is a program without arguments; RESET runs untimed before every one. What it prints are medians in milliseconds, and
// the median and the 5th and 95th percentile of the differences within pairs.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

func main() {
	if err := pairs(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pairs:", err)
		os.Exit(1)
	}
}

func pairs(args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: pairs N A B [RESET]")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var a, b, diff []float64
	for i := range n + 3 {
		order := []int{1, 2}
		if i%2 == 1 {
			order = []int{2, 1}
		}
		var took [3]float64
		for _, k := range order {
			if len(args) > 3 {
				if err := exec.Command(args[3]).Run(); err != nil {
					return fmt.Errorf("%s: %w", args[3], err)
				}
			}
			start := time.Now()
			if out, err := exec.Command(args[k]).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", args[k], err, out)
			}
			took[k] = float64(time.Since(start)) / float64(time.Millisecond)
		}
		if i >= 3 { // the first warm the caches
			a, b, diff = append(a, took[1]), append(b, took[2]), append(diff, took[2]-took[1])
		}
	}
	for _, s := range [][]float64{a, b, diff} {
		slices.Sort(s)
	}
	at := func(s []float64, q int) float64 { return s[len(s)*q/100] }
	fmt.Printf("%.2f %.2f ms; difference %.2f (%.2f to %.2f), %d pairs\n", at(a, 50), at(b, 50), at(diff, 50), at(diff, 5), at(diff, 95), n)
	return nil
}
