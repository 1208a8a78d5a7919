package local

import (
	"slices"
	"sort"
	"sync"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// ref tells where in the shared log a batch lies.
type ref struct {
	base  int64
	lsn   uint64 // of the batch's first byte
	maxTS int64
	delta uint32 // last offset - base
	size  uint32
}

func (r *ref) next() int64 { return r.base + int64(r.delta) + 1 }

// openTxn is a transaction without its marker; doneTxn one whose marker is not
// committed yet, so that the last stable offset must not pass it (as Apache
// Kafka's unreplicated transactions); abortedTxn one for the readers to skip.
type (
	openTxn struct {
		start    int64
		producer int64
	}
	doneTxn struct {
		start, marker int64
	}
	abortedTxn struct {
		producer    int64
		first, last int64 // last: the marker
	}
)

// partition is one log. The sequencer alone moves next, producers and what
// follows from batches; the syncer alone moves hw; the keeper alone moves
// segments. All of it is under mu, no I/O is.
type partition struct {
	t *topic
	n uint32

	mu        sync.Mutex
	start     int64
	next      int64 // offset of the next batch
	hw        int64 // committed below: durable as the topic's durability says
	flushed   int64 // in synced segments below
	unflushed bool  // counted in Store.unflushed: something is only in the shared log
	since     int64 // ms by the log's clock: what is only in the shared log was appended no earlier
	refs      []ref // by offset: all from flushed on, and some before it
	segs      []*segment
	swaps     uint64 // compactions that were put in place
	producers map[int64]*producer
	open      []openTxn // by start
	done      []doneTxn // by marker
	aborted   []abortedTxn
	lastTime  int64         // largest log append time given
	wake      chan struct{} // closed when hw or what readers see moves; nil: nobody waits
	fenced    []fence       // damage found, by offset
	hints     []hint
	nextHint  int
}

// fence is a range of offsets that was found damaged.
type fence struct {
	from, to int64
	reason   string
}

// admit tells what to do with a batch whose header is h; see judge.
func (p *partition) admit(h *batch.Header, m *batch.Marker) (dup *span.ProducedBatch, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !h.HasProducer() {
		return nil, nil
	}
	state := p.producers[h.ProducerID]
	if m != nil {
		return nil, judgeMarker(state, m)
	}
	return judge(state, h)
}

// appended records that the batch of h, with its final base offset and
// timestamp, is in the log at lsn. It tells whether it is the only one there that is in
// no segment yet.
func (p *partition) appended(h *batch.Header, m *batch.Marker, lsn uint64, now int64) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if first, p.unflushed = !p.unflushed, true; first {
		p.since = now
	}
	p.refs = append(p.refs, ref{base: h.BaseOffset, lsn: lsn, maxTS: recordTime(h), delta: uint32(h.LastOffsetDelta), size: uint32(h.Size())})
	p.next = h.NextOffset()
	p.remember(h, m, now)
	return first
}

// recordTime is the largest timestamp of a batch's records. The record of a
// transaction marker counts, as with Apache Kafka: a client may be told its offset.
func recordTime(h *batch.Header) int64 { return h.MaxTimestamp }

// remember folds a batch into the producers' state.
func (p *partition) remember(h *batch.Header, m *batch.Marker, now int64) {
	if h.LogAppendTime() {
		p.lastTime = max(p.lastTime, h.MaxTimestamp)
	}
	if !h.HasProducer() {
		return
	}
	state := p.producers[h.ProducerID]
	if state == nil {
		if p.producers == nil {
			p.producers = make(map[int64]*producer)
		}
		state = &producer{id: h.ProducerID, epoch: h.ProducerEpoch, coordEpoch: -1, txnStart: -1, lastOffset: -1}
		p.producers[h.ProducerID] = state
	}
	if m == nil {
		before := state.txnStart
		state.note(h, now)
		if before < 0 && state.txnStart >= 0 {
			p.open = append(p.open, openTxn{start: state.txnStart, producer: h.ProducerID})
		}
		return
	}
	start := state.noteMarker(m, now)
	if start < 0 {
		return
	}
	for i := range p.open {
		if p.open[i].producer == h.ProducerID {
			p.open = append(p.open[:i], p.open[i+1:]...)
			break
		}
	}
	p.done = append(p.done, doneTxn{start: start, marker: h.BaseOffset})
	if !m.Commit {
		p.aborted = append(p.aborted, abortedTxn{producer: h.ProducerID, first: start, last: h.BaseOffset})
	}
}

// startAndStable is what an append is answered with besides its own offsets.
func (p *partition) startAndStable() (start, lastStable int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.start, p.lastStable()
}

// commit moves the high watermark and wakes the readers.
func (p *partition) commit(next int64) {
	p.mu.Lock()
	p.hw = max(p.hw, next)
	n := 0
	for n < len(p.done) && p.done[n].marker < p.hw {
		n++
	}
	if n > 0 {
		p.done = append(p.done[:0], p.done[n:]...)
	}
	p.notify()
	p.mu.Unlock()
}

// notify wakes those who wait; under mu.
func (p *partition) notify() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// waiter returns a channel that is closed at the next notify; under mu.
func (p *partition) waiter() <-chan struct{} {
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	return p.wake
}

// lastStable is the last stable offset; under mu. Where the head of an open transaction
// was trimmed away, it is the log start.
func (p *partition) lastStable() int64 {
	lso := p.hw
	if len(p.open) > 0 {
		lso = min(lso, p.open[0].start)
	}
	for i := range p.done {
		lso = min(lso, p.done[i].start)
	}
	return max(lso, p.start)
}

// bounds returns the offsets; under mu.
func (p *partition) bounds() span.Offsets {
	return span.Offsets{Start: p.start, HighWatermark: p.hw, LastStable: p.lastStable(), End: p.hw}
}

// abortedIn returns the aborted transactions with records in [from, to); under mu.
func (p *partition) abortedIn(from, to int64) []span.Aborted {
	// By last: those that ended before from are out.
	i := sort.Search(len(p.aborted), func(i int) bool { return p.aborted[i].last >= from })
	var out []span.Aborted
	for _, a := range p.aborted[i:] {
		if a.first < to {
			out = append(out, span.Aborted{ProducerID: a.producer, FirstOffset: a.first})
		}
	}
	return out
}

// abortedFor is abortedIn for batches that were read since the caller saw so many swaps. It is false where what
// was aborted among them may not be known any more: a compaction took the records away meanwhile,
// and the transactions with them, or a trim did. Then they are to be read again.
func (p *partition) abortedFor(from, to int64, swaps uint64) ([]span.Aborted, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.swaps != swaps || from < p.start {
		return nil, false
	}
	return p.abortedIn(from, to), true
}

// maxTimestamp is the largest of what is there; under mu.
func (p *partition) maxTimestamp() int64 {
	ts := batch.NoTimestamp
	for _, s := range p.segs {
		ts = max(ts, s.maxTS)
	}
	for i := range p.refs {
		if r := &p.refs[i]; r.base < p.hw && r.next() > p.start {
			ts = max(ts, r.maxTS)
		}
	}
	return ts
}

// trim moves the log start, and forgets what lies wholly below it; under mu.
// It returns the segments that nothing is left of.
func (p *partition) trim(start int64) []*segment {
	if start <= p.start {
		return nil
	}
	p.start = start
	a := 0
	for a < len(p.aborted) && p.aborted[a].last < start {
		a++
	}
	p.aborted = append([]abortedTxn(nil), p.aborted[a:]...)
	p.fenced = slices.DeleteFunc(p.fenced, func(f fence) bool { return f.to <= start })
	p.notify()
	return p.prune()
}

// prune takes out the segments that lie wholly below the log start, and returns
// them; under mu. One that is being written may soon reach past it.
func (p *partition) prune() []*segment {
	n := 0
	for n < len(p.segs) && p.segs[n].next <= p.start && !p.segs[n].busy {
		n++
	}
	if n == 0 {
		return nil
	}
	gone := append([]*segment(nil), p.segs[:n]...)
	p.segs = append([]*segment(nil), p.segs[n:]...)
	return gone
}

// refAt returns the index of the first ref whose batch ends past offset; under mu.
func (p *partition) refAt(offset int64) int {
	return sort.Search(len(p.refs), func(i int) bool { return p.refs[i].next() > offset })
}
