package egress

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// NamesOf are the DNS names that a policy allows.
func NamesOf(e policy.Egress) (names []string) {
	for _, s := range e.Names {
		name, _, _ := strings.Cut(s, " ")
		names = append(names, canonical(name))
	}
	return names
}

// maxPerName bounds the addresses of one name.
const maxPerName = 64

// Resolve looks every name up, and gives the addresses of those that have any and the errors of the others.
func Resolve(ctx context.Context, lookup func(ctx context.Context, network, host string) ([]netip.Addr, error), names []string) (Names, map[string]error) {
	found, failed := Names{}, map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, n := range names {
		wg.Go(func() {
			slots <- struct{}{}
			as, err := lookup(ctx, "ip", n+".") // absolute: no search domain of the host's
			<-slots
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[n] = err
				return
			}
			for i := range as {
				as[i] = as[i].Unmap().WithZone("")
			}
			slices.SortFunc(as, netip.Addr.Compare)
			as = slices.Compact(as)
			found[n] = as[:min(len(as), maxPerName)]
		})
	}
	wg.Wait()
	return found, failed
}

// ReadNames reads what WriteNames wrote; nothing, where it never ran.
func ReadNames(run string) (Names, error) {
	b, err := os.ReadFile(namesFile(run))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	n := Names{}
	err = wire.Whole(b, func(d *wire.Decoder, name string) error {
		var as []string
		if err := wire.Strings(d, &as); err != nil {
			return err
		}
		for _, s := range as {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return err
			}
			n[name] = append(n[name], a)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read names %s: %w", namesFile(run), err)
	}
	return n, nil
}

// WriteNames keeps the addresses of names for every ADD to come.
func WriteNames(run string, n Names) error {
	var w wire.Writer
	w.Object("", func() {
		for _, name := range slices.Sorted(maps.Keys(n)) {
			w.List(name, len(n[name]), func(i int) { w.Text("", n[name][i].String(), true) })
		}
	})
	if err := renameio.WriteFile(namesFile(run), w.B, 0o600); err != nil {
		return fmt.Errorf("write names: %w", err)
	}
	return nil
}
