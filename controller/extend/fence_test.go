package extend

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

func TestAwait(t *testing.T) {
	const ttl = 6 * time.Second
	one, two := catalog.Gateway{Node: 1, Lease: 10}, catalog.Gateway{Node: 2, Lease: 20}
	word := []catalog.HoldAck{{Node: 1}}
	taken := []catalog.Revoked{{Node: 2, Lease: 20, TTL: ttl}}
	for _, tc := range []struct {
		name   string
		f      Fence
		gone   time.Duration
		do     FenceAction
		silent int
	}{
		{"nobody is there", Fence{Revoke: true}, 0, FenceHolds, 0},
		{"all have stopped", Fence{Gateways: []catalog.Gateway{one}, Words: word, Revoke: true}, 0, FenceHolds, 0},
		{"patience", Fence{Gateways: []catalog.Gateway{one, two}, Words: word, Waited: ttl - 1, Revoke: true}, 0, FenceWaits, 0},
		{"patience is over", Fence{Gateways: []catalog.Gateway{one, two}, Words: word, Waited: ttl, Revoke: true}, 0, RevokeSilent, 1},
		{"a lease was taken", Fence{Gateways: []catalog.Gateway{one}, Words: word, Revoked: taken, Waited: time.Hour, Revoke: true}, 0, FenceWaits, 0},
		{"and is not waited out", Fence{Gateways: []catalog.Gateway{one}, Words: word, Revoked: taken, Revoke: true}, catalog.FenceWait(ttl) - 1, FenceWaits, 0},
		{"and is", Fence{Gateways: []catalog.Gateway{one}, Words: word, Revoked: taken, Revoke: true}, catalog.FenceWait(ttl), FenceHolds, 0},
		{"nobody else is there", Fence{Revoked: taken, Revoke: true}, 0, FenceWaits, 0},
		{"it has another lease and a word", Fence{Gateways: []catalog.Gateway{{Node: 2, Lease: 21}}, Words: []catalog.HoldAck{{Node: 2}}, Revoked: taken, Revoke: true}, 0, FenceWaits, 0},
		{"it was to be taken, and stands", Fence{Gateways: []catalog.Gateway{one, two}, Words: word, Revoked: taken, Waited: ttl, Revoke: true}, 0, RevokeSilent, 1},
		{"it came after the fence began", Fence{First: []catalog.Gateway{one}, Gateways: []catalog.Gateway{one, two}, Words: word, Waited: ttl, Revoke: true}, 0, FenceHolds, 0},
		{"a failover leaves it out", Fence{Gateways: []catalog.Gateway{one, two}, Words: word, Waited: ttl}, 0, FenceHolds, 1},
		{"a failover without a word", Fence{Gateways: []catalog.Gateway{one, two}, Waited: ttl - 1}, 0, FenceWaits, 0},
		{"a failover goes without any word", Fence{Gateways: []catalog.Gateway{one, two}, Waited: ttl}, 0, FenceHolds, 2},
	} {
		tc.f.TTL, tc.f.Patience = ttl, ttl
		if !tc.f.Revoke {
			tc.f.Patience = time.Second
		}
		if tc.f.First == nil {
			tc.f.First = tc.f.Gateways
		}
		tc.f.Gone = func(int64) time.Duration { return tc.gone }
		if do, silent := Await(tc.f); do != tc.do || len(silent) != tc.silent {
			t.Errorf("%s: %s %v, want %s of %d", tc.name, do, silent, tc.do, tc.silent)
		}
	}
}
