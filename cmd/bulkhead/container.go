package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// findContainer is the record of the container with this name, id, or beginning of an id.
func findContainer(p *policy.Policy, word string) (tenant.Record, error) {
	all, err := tenant.OpenRecords(p.State.Run).List()
	if err != nil {
		return tenant.Record{}, err
	}
	exact := slices.DeleteFunc(slices.Clone(all), func(r tenant.Record) bool { return r.Name != word && r.ContainerID != word })
	if len(exact) == 0 && len(word) >= 3 {
		exact = slices.DeleteFunc(all, func(r tenant.Record) bool { return !strings.HasPrefix(r.ContainerID, word) })
	}
	switch len(exact) {
	case 1:
		return exact[0], nil
	case 0:
		return tenant.Record{}, policy.Hint(fmt.Errorf("find container %q: no record in %s has that name or id", word, p.State.Run), "podman ps; bulkhead doctor says whether its hooks ran")
	}
	return tenant.Record{}, policy.Hint(fmt.Errorf("find container %q: %d records have that name or id", word, len(exact)), "give the whole id")
}
