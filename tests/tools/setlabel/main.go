// Command setlabel tries what a process may do to its own compartment: `setlabel file PATH CONTEXT` sets a file's
// label, `setlabel attr NAME CONTEXT` writes /proc/thread-self/attr/NAME. Exit 0: done; 1: refused, and by what errno.
package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: setlabel file PATH CONTEXT | setlabel attr NAME CONTEXT")
		os.Exit(2)
	}
	if err := try(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Printf("%s %s: refused: %v\n", os.Args[1], os.Args[2], err)
		os.Exit(1)
	}
	fmt.Printf("%s %s: done\n", os.Args[1], os.Args[2])
}

func try(what, object, context string) error {
	if what == "file" {
		return unix.Lsetxattr(object, "security.selinux", append([]byte(context), 0), 0)
	}
	// Another thread's attr is refused whatever the policy says: the write must come from the thread it is about.
	runtime.LockOSThread()
	fd, err := unix.Open("/proc/thread-self/attr/"+object, unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(context))
	return err
}
