package extend_test

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain/explore"
	"github.com/braidstream/braid/controller/extend"
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
func TestNoInterleavingBreaksAnInvariant(t *testing.T) {
	for name, cfg := range map[string]explore.Config{
		"controllers depose each other":     {Gateways: 1, Producers: 1, Batches: 2, Window: 2, Moves: 2, Takeovers: 1, Cancels: 1},
		"kills of gateways and controllers": {Gateways: 2, Producers: 1, Batches: 2, Window: 2, Moves: 1, Crashes: 2, Takeovers: 1},
		"two producers, three gateways":     {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Takeovers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Decide = next
			r, err := explore.Run(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", r)
			if r.Violation != "" || !r.Complete {
				t.Fatal("see above")
			}
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
func TestNoLossBreaksAnInvariant(t *testing.T) {
	for name, cfg := range map[string]explore.Losing{
		"a gateway is silent":             {Gateways: 2, Producers: 1, Batches: 1, Window: 1, Deaf: 1},
		"controllers depose each other":   {Gateways: 1, Producers: 1, Batches: 1, Window: 1, Deaf: 1, Takeovers: 1, Skews: 1},
		"another extend takes a lease":    {Gateways: 1, Producers: 1, Batches: 2, Window: 1, Others: 1, Skews: 1},
		"the cluster is gone, comes back": {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Cuts: 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Await = await
			r, err := explore.Lose(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", r)
			if r.Violation != "" || !r.Complete {
				t.Fatal("see above")
			}
		})
	}
}
