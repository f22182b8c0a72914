package tenant

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// markerBytes of randomness are in a marker; it is written in hex.
const markerBytes = 16

func markerPath(libDir string) string { return filepath.Join(libDir, "marker") }

// Marker is this host's marker, which the engine's configuration puts beside
// the tenant's annotation and no image can know; "" where there is none.
func Marker(libDir string) (string, error) {
	data, err := os.ReadFile(markerPath(libDir))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read marker: %w", err)
	}
	m := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(m); err != nil || len(raw) != markerBytes {
		return "", policy.Hint(fmt.Errorf("read marker %s: want %d hex digits, have %d bytes", markerPath(libDir), 2*markerBytes, len(m)),
			"rm "+markerPath(libDir)+"; bulkhead setup")
	}
	return m, nil
}

// EnsureMarker is Marker that makes one where there is none.
func EnsureMarker(libDir string) (string, error) {
	if m, err := Marker(libDir); m != "" || err != nil {
		return m, err
	}
	unlock, err := lockFile(filepath.Join(libDir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if m, err := Marker(libDir); m != "" || err != nil {
		return m, err
	}
	raw := make([]byte, markerBytes)
	// Not crypto/rand: its start-up is paid by every hook.
	if n, err := unix.Getrandom(raw, 0); err != nil || n != markerBytes {
		return "", fmt.Errorf("make marker: have %d of %d random bytes: %w", n, markerBytes, err)
	}
	m := hex.EncodeToString(raw)
	if err := replace(markerPath(libDir), []byte(m+"\n"), true); err != nil {
		return "", fmt.Errorf("write marker: %w", err)
	}
	return m, nil
}
