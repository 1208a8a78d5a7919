package local

import (
	"strconv"
	"testing"
)

// TestKeyMapSize: a table takes the keys that it was made for and not much more room; one that is bounded
// refuses what it has no room for.
func TestKeyMapSize(t *testing.T) {
	for _, keys := range []int{0, 1, 2, 3, 4, 5, 11, 12, 13, 48, 49, 1000, 12288, 12289} {
		m := newKeyMap(int64(keys), 48<<20)
		for i := range keys {
			if !m.put([]byte(strconv.Itoa(i)), int64(i)) {
				t.Fatalf("a table for %d keys took %d", keys, i)
			}
		}
		for i := range keys {
			if got := m.last([]byte(strconv.Itoa(i))); got != int64(i) {
				t.Fatalf("key %d of %d: offset %d", i, keys, got)
			}
		}
		if m.last([]byte("another")) != -1 || len(m.slots) > 4*max(keys, 1) {
			t.Errorf("a table for %d keys has %d places", keys, len(m.slots))
		}
	}
	m := newKeyMap(1<<40, 4096)
	n := 0
	for m.put([]byte(strconv.Itoa(n)), int64(n)) {
		n++
	}
	if n == 0 || len(m.slots)*keySlotSize > 4096 {
		t.Errorf("%d keys in %d places of a table of 4096 bytes", n, len(m.slots))
	}
}
