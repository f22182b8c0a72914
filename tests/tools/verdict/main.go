// Command verdict says what the seccomp filters of a live process answer to system calls, by every way into the kernel:
// `verdict PID NAME...` prints NAME, ABI and the answer ("refused 1", "runs", "absent").
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"github.com/bulkhead-containers/bulkhead/pkg/harden/filter"
)

func main() {
	if err := verdicts(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

func verdicts(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: verdict PID NAME")
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	set, err := filter.Of(pid)
	if err != nil {
		return err
	}
	for _, name := range args[1:] {
		for _, abi := range filter.ABIs(runtime.GOARCH) {
			call, ok := abi.Call(name)
			if !ok {
				fmt.Println(name, abi.Name, "absent")
				continue
			}
			action, data, err := set.Verdict(call)
			if err != nil {
				return err
			}
			answer := fmt.Sprintf("refused %d", data)
			if filter.Runs(action) {
				answer = "runs"
			}
			fmt.Println(name, abi.Name, answer)
		}
	}
	return nil
}
