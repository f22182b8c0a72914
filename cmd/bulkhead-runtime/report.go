package main

import (
	"fmt"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// report says an error where the engine looks for one: on stderr, and in the file of --log in its format.
func report(inv invocation, err error) {
	text := "bulkhead-runtime: " + err.Error()
	if h := policy.HintOf(err); h != "" {
		text += " (hint: " + h + ")"
	}
	fmt.Fprintln(os.Stderr, text)
	if inv.log == "" {
		return
	}
	f, err := os.OpenFile(inv.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return // said on stderr
	}
	defer f.Close()
	now := time.Now().UTC().Format(time.RFC3339Nano)
	if inv.logFormat != "json" {
		fmt.Fprintf(f, "time=%q level=error msg=%q\n", now, text)
		return
	}
	line, _ := json.Marshal(struct {
		Level string `json:"level"`
		Msg   string `json:"msg"`
		Time  string `json:"time"`
	}{"error", text, now}) // strings always encode
	f.Write(append(line, '\n'))
}
