package main

import (
	"runtime/debug"
	"testing"
)

// What the environment says of the collector holds; without a word the heap is kept small.
func TestHeapIsBoundUnlessTheEnvironmentSays(t *testing.T) {
	was := debug.SetGCPercent(100)
	defer debug.SetGCPercent(was)
	for _, c := range []struct {
		name, value string
		want        int
	}{{"", "", collectAt}, {"GOGC", "100", 100}, {"GOMEMLIMIT", "1GiB", 100}} {
		debug.SetGCPercent(100)
		boundHeap(func(name string) string {
			if name == c.name {
				return c.value
			}
			return ""
		})
		if got := debug.SetGCPercent(100); got != c.want {
			t.Errorf("%s=%s: %d percent, want %d", c.name, c.value, got, c.want)
		}
	}
}
