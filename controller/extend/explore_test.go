package extend_test

import (
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain/explore"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// next is the controller's own decision in the explorer's words.
func next(q explore.Question) explore.Answer {
	e := catalog.Extend{Step: q.Step, Target: "b", New: catalog.PhysicalTopic{Partitions: 1}, Old: []catalog.PhysicalTopic{{Cluster: "a"}}}
	if q.Turned {
		e.Target, e.Aim = "a", "b"
	}
	if q.Created {
		e.New.TopicID = catalog.ID{1}
	}
	d := extend.Next(extend.State{Extend: e, Exists: true, Partitions: q.PartitionsNow, Moved: q.Moved, Left: q.Left},
		extend.Observation{Cancel: q.Cancel, Settled: q.Settled, Sealed: q.Sealed, Dropped: q.Dropped})
	return explore.Answer{Do: string(d.Do), Step: d.Step}
}

// The machine of this package, walked through every interleaving of a small fleet.
var walks = []explore.Config{
	{Gateways: 1, Producers: 1, Batches: 2, Window: 2, Moves: 2, Takeovers: 1, Cancels: 1},
	{Gateways: 2, Producers: 1, Batches: 2, Window: 2, Moves: 1, Crashes: 2, Takeovers: 1},
	{Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Takeovers: 1},
}

// Those that take longer, left out of short tests: two controllers, three gateways, two
// producers, and all kinds of events between them.
var longWalks = []explore.Config{
	{Gateways: 3, Producers: 2, Batches: 1, Window: 1, Moves: 1, Crashes: 1, Takeovers: 1, Drops: 1},
	{Gateways: 3, Producers: 2, Batches: 1, Window: 1, Moves: 1, Crashes: 1, Takeovers: 1, Cuts: 1, Cancels: 1},
	{Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Crashes: 1, Takeovers: 1},
	{Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Takeovers: 1, Cuts: 1},
	{Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Drops: 1},
}

func TestNoInterleavingBreaksAnInvariant(t *testing.T) {
	all := walks
	if !testing.Short() {
		all = slices.Concat(walks, longWalks)
	}
	for _, cfg := range all {
		t.Run(cfg.Bounds(), func(t *testing.T) {
			cfg.Decide = next
			r, err := explore.Run(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", r)
			if r.Violation != "" || !r.Complete {
				t.Fatal("see above")
			}
			summary.Line(t, "explorer, moves: %s: %d states, all there are", cfg.Bounds(), r.States)
		})
	}
}

// await is the controller's own decision on a fence in the explorer's words.
func await(first, gateways []catalog.Gateway, words []catalog.HoldAck, revoked []catalog.Revoked, ttl time.Duration, revoke bool,
	gone func(int64) time.Duration) (string, []catalog.Gateway) {
	do, silent := extend.Await(extend.Fence{First: first, Gateways: gateways, Words: words, Revoked: revoked, Waited: ttl, Patience: ttl, TTL: ttl, Revoke: revoke, Gone: gone})
	return string(do), silent
}

// The same of extends whose old copy cannot be sealed.
var losses = []explore.Losing{
	{Gateways: 2, Producers: 1, Batches: 1, Window: 1, Deaf: 1},
	{Gateways: 1, Producers: 1, Batches: 1, Window: 1, Deaf: 1, Takeovers: 1, Skews: 1},
	{Gateways: 1, Producers: 1, Batches: 2, Window: 1, Others: 1, Skews: 1},
	{Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Cuts: 1},
}

// Those that take longer, left out of short tests.
var longLosses = []explore.Losing{
	{Gateways: 2, Producers: 1, Batches: 2, Window: 1, Deaf: 1, Takeovers: 1},
	{Gateways: 3, Producers: 2, Batches: 1, Window: 1, Hangs: true, Cuts: 1, Reads: 1},
	{Gateways: 3, Producers: 2, Batches: 1, Window: 1, Hangs: true, InPlace: true, Cuts: 1, Leaves: 1, Expires: 1},
	{Gateways: 2, Producers: 2, Batches: 2, Window: 2, Hangs: true, Cuts: 1},
}

func TestNoLossBreaksAnInvariant(t *testing.T) {
	all := losses
	if !testing.Short() {
		all = slices.Concat(losses, longLosses)
	}
	for _, cfg := range all {
		t.Run(cfg.Bounds(), func(t *testing.T) {
			cfg.Await = await
			r, err := explore.Lose(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", r)
			if r.Violation != "" || !r.Complete {
				t.Fatal("see above")
			}
			summary.Line(t, "explorer, losses: %s: %d states, all there are", cfg.Bounds(), r.States)
		})
	}
}
