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
	// Reported: End is what runs that are over have reported, and past what gateways that live
	// have seen: others that are gone may have had more acknowledged.
	Reported bool
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
//
// Runs of gateways that are over have left reports of what they saw acknowledged. These
// count as words of gateways without doubts: how many batches had an unknown
// outcome is in a report, but not where they would lie.
func CutAt(s *catalog.Span, p int32, words []catalog.HoldAck, reports ...catalog.AckReport) Cut {
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
	lives := top
	for i := range reports {
		r := &reports[i]
		if r.Partition != p || r.Span != s.Seq || r.Next <= s.Start {
			continue
		}
		top = max(top, r.Next)
		if int64(len(r.Tail)) < r.Batches {
			floor = max(floor, r.Next)
		}
		known = append(known, reported(r, s.Start)...)
	}
	slices.SortFunc(known, func(a, b catalog.KnownBatch) int {
		// Of what is told twice the most telling counts.
		return cmp.Or(cmp.Compare(a.From, b.From), -cmp.Compare(tells(&a), tells(&b)))
	})
	known = slices.CompactFunc(known, func(a, b catalog.KnownBatch) bool { return a.From == b.From })
	if doubt < 0 || doubt >= top {
		return Cut{End: top, Known: known, Reported: top > lives}
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
	c.Reported = c.End > lives
	return c
}

// reported are the last batches that a run which is over saw acknowledged, from an offset on.
func reported(r *catalog.AckReport, from int64) []catalog.KnownBatch {
	var out []catalog.KnownBatch
	for _, b := range r.Tail {
		if b.Offset < from || b.Records <= 0 || b.Offset+int64(b.Records) > r.Next {
			continue
		}
		k := catalog.KnownBatch{From: b.Offset, To: b.Offset + int64(b.Records), Producer: -1, First: batch.NoSequence, Last: batch.NoSequence, Acked: true}
		if q := b.By; q != nil {
			k.Producer, k.Epoch, k.First, k.Last = q.Producer, q.Epoch, q.First, q.Last
		}
		out = append(out, k)
	}
	return out
}

// tells ranks what is known of a batch.
func tells(b *catalog.KnownBatch) int {
	n := 0
	if b.Acked {
		n += 2
	}
	if b.Producer >= 0 {
		n++
	}
	return n
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
