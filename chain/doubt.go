package chain

import (
	"cmp"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
)

// doubt is a producer's batch that may have landed in a copy, at or past floor,
// without an acknowledgement that reached its client. It will come again. While
// the copy answers, the copy tells; once it is gone, [CutAt] must know.
type doubt struct {
	floor int64
	at    int64 // Unix seconds
	first int32
	epoch int16
}

const (
	// retryWindow is how long a client sends a batch again (Kafka's
	// delivery.timeout.ms); after that it has given up.
	retryWindow = 150
	maxDoubts   = 4096
)

// knownEnd is what is known to lie in a target's copy: whatever is sent to it now
// lands behind. Needs mu.
func (p *Partition) knownEnd(t *target) int64 {
	if p.hwSeq == t.seq {
		return max(p.hw, t.acks.next)
	}
	return t.acks.next
}

// doubt notes that a flight's outcome is unknown.
func (t *target) doubt(f *flight, now time.Time) {
	if !f.hasProducer() {
		return // nobody sends it again as the same
	}
	d := doubt{floor: f.floor, at: now.Unix(), first: f.first, epoch: f.epoch}
	if old, ok := t.doubts[f.producer]; ok {
		d.floor = min(d.floor, old.floor)
		if _, after := ahead(old.first, f.first); old.epoch == f.epoch && after {
			d.first = old.first
		}
	} else if len(t.doubts) >= maxDoubts {
		for id, old := range t.doubts {
			if d.at-old.at > retryWindow {
				delete(t.doubts, id)
			}
		}
		if len(t.doubts) >= maxDoubts {
			return
		}
	}
	if t.doubts == nil {
		t.doubts = make(map[int64]doubt)
	}
	t.doubts[f.producer] = d
}

// resolve ends a doubt: the copy has acknowledged the batch, or one behind it.
func (t *target) resolve(f *flight) {
	if len(t.doubts) == 0 {
		return
	}
	if d, ok := t.doubts[f.producer]; ok {
		if _, after := ahead(d.first, f.first); after || d.epoch != f.epoch {
			delete(t.doubts, f.producer)
		}
	}
}

// lowestDoubt is the lowest offset at which a batch in doubt may lie, -1 for none.
func (t *target) lowestDoubt(now time.Time) int64 {
	low := int64(-1)
	for _, d := range t.doubts {
		if now.Unix()-d.at <= retryWindow && (low < 0 || d.floor < low) {
			low = max(d.floor, 0)
		}
	}
	return low
}

// account says what is known of the end of the open span, whose copy is gone: the
// last batches that were acknowledged or are in the tail cache, at most limit.
// t may be nil: nothing was appended here. Needs mu.
func (p *Partition) account(t *target, limit int) *catalog.Account {
	a := &catalog.Account{Partition: p.index, Doubt: -1}
	if t != nil {
		a.Doubt, a.Floor = t.lowestDoubt(time.Now()), t.acks.floor
		for i := t.acks.n - len(t.acks.tail); i < t.acks.n; i++ {
			b := &t.acks.tail[i%ackedTail]
			a.Batches = append(a.Batches, catalog.KnownBatch{From: b.offset, To: b.offset + int64(b.records),
				Producer: b.producer, Epoch: b.epoch, First: b.first, Last: b.last, Acked: true})
		}
	}
	own := len(a.Batches)
	if s := OpenSpan(p.view.Load().chain); s != nil {
		a.Batches = p.tail.last(a.Batches, s.Seq, limit)
	}
	slices.SortStableFunc(a.Batches, func(x, y catalog.KnownBatch) int { return cmp.Compare(x.From, y.From) })
	a.Batches = slices.CompactFunc(a.Batches, func(x, y catalog.KnownBatch) bool { return x.From == y.From })
	if n := len(a.Batches) - limit; n > 0 {
		if own > 0 {
			a.Floor = max(a.Floor, a.Batches[n-1].To)
		}
		a.Batches = a.Batches[n:]
	}
	return a
}

// last adds the last n cached batches of a span to known.
func (t *tail) last(known []catalog.KnownBatch, span int32, n int) []catalog.KnownBatch {
	for i := len(t.pieces) - 1; i >= 0 && n > 0; i-- {
		p := &t.pieces[i]
		if p.span != span {
			continue
		}
		from := p.from
		if j := len(p.index) - n; j > 0 {
			from = p.index[j].pos // each entry is a batch at least
		}
		for h := range batch.Walk(p.c.buf[from:p.to]) {
			known = append(known, catalog.KnownBatch{From: h.BaseOffset, To: h.NextOffset(),
				Producer: h.ProducerID, Epoch: h.ProducerEpoch, First: h.BaseSequence, Last: h.LastSequence()})
			n--
		}
	}
	return known
}

// leavesOut tells whether the span's copies leave out anything of a range.
func leavesOut(s *catalog.Span, from, to int64) bool {
	for i := range s.Copies {
		for _, g := range s.Copies[i].Skip {
			if from < g.To && g.From < to {
				return true
			}
		}
	}
	return false
}
