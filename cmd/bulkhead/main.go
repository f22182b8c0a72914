// Command bulkhead is the admin's side of bulkhead: it sets the host up, and says who is who, who used what, and
// whether what the policy wants holds.
package main

import (
	"os"
	"runtime"
)

// The main goroutine keeps the main thread: others change their network namespace and end with their thread, and
// /proc/self shows the main one's.
func init() { runtime.LockOSThread() }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
