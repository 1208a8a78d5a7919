package chain

import (
	"cmp"
	"slices"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Cut is where an open span ends whose copy is gone, as far as the gateways that
// still live can tell. Offsets are logical.
type Cut struct {
	// End lies past all that is known to have been acknowledged.
	End int64
	// Skip lists what lies below End and no gateway accounts for, where an append of
	// unknown outcome may have landed.
	Skip []catalog.Gap
	// Known holds the last batches of producers that are known to lie below End.
	Known []catalog.KnownBatch
}

// CutAt decides where partition p's open span s ends, by the words of the gateways.
//
// Nothing that was acknowledged may be cut off; and what is kept must not hold a
// batch whose producer will have it appended again behind the cut. An append of
// unknown outcome lies, if it landed, at or past what its gateway knew to be
// there when it sent it: the lowest such offset is the doubt. Below it all is
// kept. From there on only what a gateway accounts for is: batches that it saw
// acknowledged, or has read. So a gap may be left between acknowledged batches;
// what the copy holds there is stranded, as is what lies past the end, and is
// judged when the cluster is back. A gateway's account reaches down to its
// floor only, so below the highest floor all is kept too: rather there twice than
// acknowledged and gone.
func CutAt(s *catalog.Span, p int32, words []catalog.HoldAck) Cut {
	top, doubt, floor := s.Start, int64(-1), s.Start
	var known []catalog.KnownBatch
	for i := range words {
		w := &words[i]
		if int(p) >= len(w.Next) || w.Next[p] < 0 {
			continue
		}
		top = max(top, w.Next[p])
		a := accountOf(w, p)
		if a == nil {
			floor = max(floor, w.Next[p])
			continue
		}
		floor = max(floor, a.Floor)
		if a.Doubt >= 0 && (doubt < 0 || a.Doubt < doubt) {
			doubt = a.Doubt
		}
		for _, b := range a.Batches {
			if b.From >= s.Start && b.To > b.From {
				known = append(known, b)
				top = max(top, b.To)
			}
		}
	}
	slices.SortFunc(known, func(a, b catalog.KnownBatch) int {
		if a.From == b.From && a.Acked != b.Acked {
			if a.Acked {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.From, b.From)
	})
	known = slices.CompactFunc(known, func(a, b catalog.KnownBatch) bool { return a.From == b.From })
	if doubt < 0 || doubt >= top {
		return Cut{End: top, Known: known}
	}
	c := Cut{End: max(doubt, floor, s.Start)}
	last := map[int64]catalog.KnownBatch{} // of each producer, as far as it is kept
	for _, b := range known {
		if b.To > c.End {
			left := b.From > c.End || len(c.Skip) > 0
			if left && !b.Acked && b.Producer >= 0 && !goesOn(last, b) {
				continue
			}
			if b.From > c.End && len(c.Skip) < MaxSkips {
				c.Skip = append(c.Skip, catalog.Gap{From: c.End, To: b.From})
			}
			c.End = b.To
		}
		last[b.Producer] = b
		c.Known = append(c.Known, b)
	}
	return c
}

// goesOn tells whether a batch follows directly on what is kept of its producer. If
// not, one before it may be among what is left out, and would never come to lie
// before it again: then the batch, which was only read, is left out with it.
func goesOn(last map[int64]catalog.KnownBatch, b catalog.KnownBatch) bool {
	p, ok := last[b.Producer]
	return ok && p.Epoch == b.Epoch && batch.IncrementSequence(p.Last, 1) == b.First
}

func accountOf(w *catalog.HoldAck, p int32) *catalog.Account {
	for i := range w.Accounts {
		if w.Accounts[i].Partition == p {
			return &w.Accounts[i]
		}
	}
	return nil
}

// Producers is the producers' state that the known batches tell of, as the lost
// copy c would have told it, for [MergeProducers]. now is in ms.
func (x *Cut) Producers(c *catalog.Copy, now int64) []span.Producer {
	byID := map[int64]int{}
	var out []span.Producer
	for _, b := range x.Known {
		if b.Producer < 0 || b.First == batch.NoSequence || b.To > x.End {
			continue
		}
		i, ok := byID[b.Producer]
		switch {
		case !ok:
			i = len(out)
			byID[b.Producer] = i
			out = append(out, span.Producer{ID: b.Producer, Epoch: b.Epoch, TxnStart: -1})
		case b.Epoch < out[i].Epoch:
			continue
		case b.Epoch > out[i].Epoch:
			out[i].Epoch, out[i].Batches = b.Epoch, nil
		}
		from, last := ToPhysical(c, b.From), ToPhysical(c, b.To-1)
		q := &out[i]
		q.LastSequence, q.LastOffset, q.LastTimestamp = b.Last, last, now
		q.Batches = append(q.Batches, span.ProducedBatch{FirstSequence: b.First, LastSequence: b.Last,
			FirstOffset: from, LastOffset: last, Timestamp: now})
		if n := len(q.Batches); n > rememberedBatches {
			q.Batches = q.Batches[n-rememberedBatches:]
		}
	}
	return out
}

// skipped is where reading goes on from an offset that the copy leaves out; the
// offset itself if it does not.
func skipped(c *catalog.Copy, offset int64) int64 {
	for _, g := range c.Skip {
		if offset >= g.From && offset < g.To {
			return g.To
		}
	}
	return offset
}
