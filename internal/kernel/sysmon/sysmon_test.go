package sysmon

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// One thread that is not the main one is eased, and no thread but this process's.
func TestEase(t *testing.T) {
	if _, err := os.Stat("/proc/self/timerslack_ns"); err != nil {
		t.Fatal(err)
	}
	Ease()
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("have tasks %v, %v", tasks, err)
	}
	eased := 0
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + filepath.Base(task) + "/timerslack_ns")
		if err == nil && strings.TrimSpace(string(b)) == slack {
			eased++
			if filepath.Base(task) == strconv.Itoa(os.Getpid()) {
				t.Error("the main thread is eased")
			}
		}
	}
	if eased != 1 {
		t.Errorf("want one thread eased, have %d of %d", eased, len(tasks))
	}
}
