package chain

import (
	"cmp"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
)

// Doubt is a producer's batch that may have landed in a copy, at or past Floor,
// without an acknowledgement that reached its client. It will come again. While
// the copy answers, the copy tells; once it is gone, [CutAt] must know.
type Doubt struct {
	Floor int64
	At    int64 // Unix seconds
	First int32
	Epoch int16
}

// Doubts are those of one copy, by producer id. Past a bound in number the further ones
// are kept as one, under [unnamed].
type Doubts map[int64]Doubt

// unnamed stands for all producers that had no room: the lowest floor and the last time of
// any of them. Nothing resolves it but time, so that more may be left out at a cut than
// need be, which a return takes in, and never less.
const unnamed = int64(-1)

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
	if t.doubts == nil {
		t.doubts = make(Doubts)
	}
	if t.doubts.Note(f.producer, Doubt{Floor: f.floor, At: now.Unix(), First: f.first, Epoch: f.epoch}) {
		return
	}
	f.p.l.metrics.DoubtsFull.Inc()
	if !t.doubtsFull {
		t.doubtsFull = true
		f.p.l.log.Warn("more producers have appends of unknown outcome than are kept apart: should the cluster be lost now, more than need be is left out until it is back",
			"topic", f.p.topic, "partition", f.p.index, "span", t.seq, "bound", maxDoubts)
	}
}

// Note adds a doubt about a batch of a producer to what is in doubt of it already. It
// returns false when that is not kept apart from others for want of room.
func (m Doubts) Note(producer int64, d Doubt) (apart bool) {
	if old, ok := m[producer]; ok {
		d.Floor = min(d.Floor, old.Floor)
		if _, after := ahead(old.First, d.First); old.Epoch == d.Epoch && after {
			d.First = old.First
		}
		m[producer] = d
		return true
	}
	if len(m) >= maxDoubts {
		for id, old := range m {
			if d.At-old.At > retryWindow {
				delete(m, id)
			}
		}
	}
	if len(m) < maxDoubts {
		m[producer] = d
		return true
	}
	if old, ok := m[unnamed]; ok {
		d.Floor, d.At = min(d.Floor, old.Floor), max(d.At, old.At)
	}
	m[unnamed] = d
	return false
}

// Resolve ends a doubt: the copy has acknowledged the batch, or one behind it.
func (m Doubts) Resolve(producer int64, epoch int16, first int32) {
	if len(m) == 0 {
		return
	}
	if d, ok := m[producer]; ok {
		if _, after := ahead(d.First, first); after || d.Epoch != epoch {
			delete(m, producer)
		}
	}
}

// Lowest is the lowest offset at which a batch in doubt may lie, -1 for none. now
// is in Unix seconds.
func (m Doubts) Lowest(now int64) int64 {
	low := int64(-1)
	for _, d := range m {
		if now-d.At <= retryWindow && (low < 0 || d.Floor < low) {
			low = max(d.Floor, 0)
		}
	}
	return low
}

// account says what is known of the end of the open span, whose copy is gone: the
// last batches that were acknowledged or are in the tail cache, at most limit.
// t may be nil: nothing was appended here. Needs mu.
func (p *Partition) account(t *target, limit int) *catalog.Account {
	doubt, floor := int64(-1), int64(0)
	var acked, read []catalog.KnownBatch
	if t != nil {
		doubt, floor = t.doubts.Lowest(time.Now().Unix()), t.acks.floor
		for i := t.acks.n - len(t.acks.tail); i < t.acks.n; i++ {
			b := &t.acks.tail[i%ackedTail]
			acked = append(acked, catalog.KnownBatch{From: b.offset, To: b.offset + int64(b.records),
				Producer: b.producer, Epoch: b.epoch, First: b.first, Last: b.last, Acked: true})
		}
	}
	if s := OpenSpan(p.view.Load().chain); s != nil {
		read = p.tail.last(nil, s.Seq, limit)
	}
	return AccountOf(p.index, doubt, floor, acked, read, limit)
}

// AccountOf is a gateway's account of a partition: its lowest doubt (-1 none), the
// offset past all of its acknowledgements that acked does not list, the batches
// that it saw acknowledged, and those that it has read; at most limit of them.
func AccountOf(partition int32, doubt, floor int64, acked, read []catalog.KnownBatch, limit int) *catalog.Account {
	a := &catalog.Account{Partition: partition, Doubt: doubt, Floor: floor, Batches: append(acked, read...)}
	slices.SortStableFunc(a.Batches, func(x, y catalog.KnownBatch) int { return cmp.Compare(x.From, y.From) })
	a.Batches = slices.CompactFunc(a.Batches, func(x, y catalog.KnownBatch) bool { return x.From == y.From })
	if n := len(a.Batches) - limit; n > 0 {
		if len(acked) > 0 {
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
