// Command tsckhz prints the frequency of this machine's time stamp counter in kHz, or nothing where there is none. QEMU
// without KVM hands that very counter to the guest, whose own calibration at boot goes wrong on a busy host.
package main

import (
	"fmt"
	"time"
)

func main() {
	start, from := time.Now(), counter()
	if from == 0 {
		return
	}
	time.Sleep(300 * time.Millisecond)
	ticks, took := counter()-from, time.Since(start)
	fmt.Println(ticks * uint64(time.Millisecond) / uint64(took))
}
