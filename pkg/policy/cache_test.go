package policy

import "testing"

func TestCacheLayout(t *testing.T) {
	t.Parallel()
	if have := fingerprint(); have != cacheLayout {
		t.Errorf("types or defaults of the policy have changed: in cache.go write\nconst cacheLayout uint64 = %#x", have)
	}
}
