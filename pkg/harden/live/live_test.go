package live

import (
	"slices"
	"testing"
)

func TestOpenVolumes(t *testing.T) {
	t.Parallel()
	have := openVolumes(parseMounts(`641 545 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l
642 641 0:53 / /proc rw,nosuid,nodev,noexec - proc proc rw
643 641 0:54 / /dev rw,nosuid - tmpfs tmpfs rw
644 643 0:5 /null /dev/null rw - devtmpfs dev rw
645 641 0:24 /store/shm /dev/shm rw,relatime - tmpfs shm rw
646 641 0:26 / /tmp rw - tmpfs tmpfs rw
647 641 254:0 /srv/a\040b /data rw,nosuid,relatime shared:1 - ext4 /dev/vda rw
648 641 254:16 / /whole rw,nosuid,nodev - xfs /dev/vdb rw
649 641 254:0 /hosts /etc/hosts ro - ext4 /dev/vda rw
650 642 0:5 /null /proc/kcore rw - devtmpfs dev rw
short
`))
	want := []string{"/dev/shm (rw,relatime)", "/data (rw,nosuid,relatime)", "/etc/hosts (ro)"}
	if !slices.Equal(have, want) {
		t.Errorf("want %q, have %q", want, have)
	}
}
