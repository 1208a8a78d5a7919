package acl

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Both ways to look for a prefix find the same.
func TestDominated(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("abé")), 0, 4, -1)
		name := word.Draw(rt, "name")
		prefixes, want := map[string]bool{}, false
		for _, p := range rapid.SliceOfN(word, 0, 12).Draw(rt, "prefixes") {
			prefixes[p] = true
			want = want || strings.HasPrefix(name, p)
		}
		if got := dominated(name, prefixes); got != want {
			rt.Fatalf("%q by %v: %t", name, prefixes, got)
		}
	})
}
