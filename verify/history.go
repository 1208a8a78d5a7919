package verify

import (
	"fmt"
	"sync"
	"time"
)

// Bounds of what a history keeps beside its columns. Past them it goes on counting, and the report
// says that it did.
const (
	maxExtras   = 1 << 16 // further offsets of a value, by partition
	maxGaps     = 1 << 16 // jumps of readers, by partition
	maxExamples = 10      // of each anomaly, in the report
)

// A History is what a workload saw of one topic: sends, acknowledgements, reads. It is recorded
// from many goroutines at once; a partition's events of one reader in their order. It takes 16
// bytes and some bits for each record sent.
//
// The order of calls for a value is Sent, then at most one of Acked, Aborted; reads at any time
// after Sent.
type History struct {
	parts []*partition

	// RepeatsAllowed says that the producers were not idempotent: a value that is there twice is
	// then a repeat, which Kafka allows, and not a duplicate. Set it before the first event.
	RepeatsAllowed bool
}

type partition struct {
	mu    sync.Mutex
	lanes map[int32]*lane

	readers map[string]*reader
	groups  map[string]bool // true: read to the end

	extras    map[Value][]int64 // offsets of a value other than the first one read
	extraN    int64             // how many are in it
	truncated bool              // a bound was reached

	gaps []gap

	reordered, nonMonotonic, phantom, aborted finding
	foreign                                   int64

	finalFrom int64
	begun     bool // finalFrom was told
	trimmed   bool // and is past what it was at first
	finalLast int64
	finalDone bool
	finalN    int64
	polledN   int64

	lastAck time.Time
	pauses  durations
	latency durations
}

// lane is one producer's records of one partition.
type lane struct {
	sent  int64
	acked column // see the encoding below
	read  column // offset + 1 at which it was read first, 0: never
	final bitset // found by the final read

	lastFinal int64 // highest sequence that the final read met, -1 before
	byGroup   map[string]*bitset
}

// What a lane's acked column holds: 0 unknown, 1 acknowledged without an offset, -1 aborted, and
// the offset + 2.
const (
	ackUnknown  = 0
	ackNoOffset = 1
	ackAborted  = -1
	ackBase     = 2
)

type reader struct {
	session bool // last is of the present assignment
	last    int64
}

// gap is a jump of a reader over the offsets between.
type gap struct {
	reader    string
	after, at int64
}

// NewHistory makes the history of a topic of so many partitions.
func NewHistory(partitions int) *History {
	h := &History{parts: make([]*partition, partitions)}
	for i := range h.parts {
		h.parts[i] = &partition{
			lanes: map[int32]*lane{}, readers: map[string]*reader{}, groups: map[string]bool{},
			extras: map[Value][]int64{}, finalLast: -1,
		}
	}
	return h
}

// Partitions is the number that NewHistory was given.
func (h *History) Partitions() int { return len(h.parts) }

func (h *History) part(p int32) (*partition, bool) {
	if p < 0 || int(p) >= len(h.parts) {
		return nil, false
	}
	return h.parts[p], true
}

// Sent says that a value is about to be sent. A producer's sequences of a partition come one after
// the other, from 0.
func (h *History) Sent(v Value) error {
	p, ok := h.part(v.Partition)
	if !ok {
		return fmt.Errorf("sent %s: the topic has %d partitions", v, len(h.parts))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lanes[v.Producer]
	if l == nil {
		l = &lane{lastFinal: -1}
		p.lanes[v.Producer] = l
	}
	if v.Sequence != l.sent {
		return fmt.Errorf("sent %s: the next sequence there is %d", v, l.sent)
	}
	l.sent++
	return nil
}

// lane finds the lane of a value that was sent. Called with the lock held.
func (p *partition) lane(v Value) *lane {
	l := p.lanes[v.Producer]
	if l == nil || v.Sequence < 0 || v.Sequence >= l.sent {
		return nil
	}
	return l
}

// Acked says that a value was acknowledged at an offset; a negative offset says that the client was
// not told which. The times serve the statistics of pauses and latency; zero times are left out.
func (h *History) Acked(v Value, offset int64, sent, acked time.Time) error {
	_, err := h.acked(v, offset, sent, acked)
	return err
}

// acked also says how long the partition had not acknowledged anything.
func (h *History) acked(v Value, offset int64, sent, acked time.Time) (pause time.Duration, err error) {
	p, ok := h.part(v.Partition)
	if !ok {
		return 0, fmt.Errorf("acknowledged %s: the topic has %d partitions", v, len(h.parts))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lane(v)
	if l == nil {
		return 0, fmt.Errorf("acknowledged %s: never sent", v)
	}
	if offset < 0 {
		l.acked.set(v.Sequence, ackNoOffset)
	} else {
		l.acked.set(v.Sequence, offset+ackBase)
	}
	if acked.IsZero() || sent.IsZero() {
		return 0, nil
	}
	p.latency.add(acked.Sub(sent))
	return p.pause(sent, acked), nil
}

// pause notes how long a partition acknowledged nothing although something was outstanding: since
// the last acknowledgement or, where nothing was outstanding then, since the send. The first one of
// a partition is not a pause but the connection's making. Called with the lock held.
func (p *partition) pause(sent, now time.Time) time.Duration {
	var waited time.Duration
	if !p.lastAck.IsZero() {
		waited = max(0, min(now.Sub(sent), now.Sub(p.lastAck)))
		p.pauses.add(waited)
	}
	p.lastAck = now
	return waited
}

// gaveUp says that the wait for an acknowledgement ended without one: a pause that did not end.
func (h *History) gaveUp(v Value, sent, now time.Time) time.Duration {
	p, ok := h.part(v.Partition)
	if !ok {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastAck.IsZero() {
		p.lastAck = sent // not even the first one came
	}
	return p.pause(sent, now)
}

// Aborted says that a value was surely not written: its transaction was aborted.
func (h *History) Aborted(v Value) error {
	p, ok := h.part(v.Partition)
	if !ok {
		return fmt.Errorf("aborted %s: the topic has %d partitions", v, len(h.parts))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.lane(v)
	if l == nil {
		return fmt.Errorf("aborted %s: never sent", v)
	}
	l.acked.set(v.Sequence, ackAborted)
	if at := l.read.at(v.Sequence) - 1; at >= 0 {
		// Read before the workload was told, or had told us, that it was aborted.
		p.aborted.add(Example{Value: ref(v), Offset: at})
	}
	return nil
}

// A Reader is who reads: a consumer by a name of its own, and its group, empty for none.
type Reader struct{ Name, Group string }

// Assigned says that a reader begins anew on a partition, as after a rebalance: where it goes on
// may lie behind where it, or another, was.
func (h *History) Assigned(r Reader, partition int32) {
	p, ok := h.part(partition)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers[r.Name] = &reader{}
}

// Polled says that a reader read a value at an offset of a partition.
func (h *History) Polled(r Reader, partition int32, offset int64, v Value) {
	p, ok := h.part(partition)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.polledN++
	p.advance(r.Name, offset, v)
	l := p.place(partition, offset, v)
	if l == nil || r.Group == "" {
		return
	}
	if l.byGroup == nil {
		l.byGroup = map[string]*bitset{}
	}
	if l.byGroup[r.Group] == nil {
		l.byGroup[r.Group] = &bitset{}
	}
	l.byGroup[r.Group].add(v.Sequence)
	if _, ok := p.groups[r.Group]; !ok {
		p.groups[r.Group] = false
	}
}

// advance moves a reader to an offset. Called with the lock held.
func (p *partition) advance(name string, offset int64, v Value) {
	r := p.readers[name]
	if r == nil {
		r = &reader{}
		p.readers[name] = r
	}
	switch {
	case !r.session:
	case offset <= r.last:
		last := r.last
		p.nonMonotonic.add(Example{Value: ref(v), Offset: offset, OtherOffset: ref(last), Reader: name})
	case offset > r.last+1:
		if len(p.gaps) < maxGaps {
			p.gaps = append(p.gaps, gap{reader: name, after: r.last, at: offset})
		} else {
			p.truncated = true
		}
	}
	r.session, r.last = true, offset
}

// place notes where a value was read. It returns nil when nobody sent it. Called with the lock held.
func (p *partition) place(partition int32, offset int64, v Value) *lane {
	l := p.lane(v)
	if l == nil || v.Partition != partition {
		p.phantom.add(Example{Value: ref(v), Offset: offset})
		return nil
	}
	if l.acked.at(v.Sequence) == ackAborted {
		p.aborted.add(Example{Value: ref(v), Offset: offset})
	}
	switch was := l.read.at(v.Sequence); {
	case was == 0:
		l.read.set(v.Sequence, offset+1)
	case was != offset+1:
		p.further(v, offset)
	}
	return l
}

// further notes a second, third … offset of a value.
func (p *partition) further(v Value, offset int64) {
	for _, o := range p.extras[v] {
		if o == offset {
			return
		}
	}
	if p.extraN >= maxExtras {
		p.truncated = true
		return
	}
	p.extraN++
	p.extras[v] = append(p.extras[v], offset)
}

// Damaged says that a record of the workload was read whose bytes are not those sent. It counts as
// a phantom: nobody sent it.
func (h *History) Damaged(partition int32, offset int64) {
	if p, ok := h.part(partition); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.phantom.add(Example{Offset: offset})
	}
}

// Foreign says that a record was read that is none of the workload's. It is counted, not judged.
func (h *History) Foreign(partition int32) {
	if p, ok := h.part(partition); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.foreign++
	}
}

// GroupDone says that a group has read a partition to its end: what it was not given by now, it
// was never given.
func (h *History) GroupDone(group string, partition int32) {
	if p, ok := h.part(partition); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.groups[group] = true
	}
}

// FinalFrom says at which offset the final read of a partition begins. What was acknowledged below
// cannot be verified.
func (h *History) FinalFrom(partition int32, offset int64) {
	if p, ok := h.part(partition); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.trimmed = p.trimmed || p.begun && offset > p.finalFrom
		p.finalFrom, p.begun = offset, true
	}
}

// Final says that the final read met a value at an offset. Offsets come in the order of the log.
func (h *History) Final(partition int32, offset int64, v Value) {
	p, ok := h.part(partition)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finalN++
	if offset <= p.finalLast {
		last := p.finalLast
		p.nonMonotonic.add(Example{Value: ref(v), Offset: offset, OtherOffset: ref(last), Reader: "final read"})
	}
	p.finalLast = max(p.finalLast, offset)
	l := p.place(partition, offset, v)
	if l == nil || !l.final.add(v.Sequence) {
		return
	}
	if v.Sequence < l.lastFinal {
		after := Value{v.Producer, v.Partition, l.lastFinal}
		p.reordered.add(Example{Value: ref(v), Offset: offset, Other: ref(after)})
	}
	l.lastFinal = max(l.lastFinal, v.Sequence)
}

// FinalDone says that the final read of a partition reached its end. Without it nothing of the
// partition counts as lost, only as unverified.
func (h *History) FinalDone(partition int32) {
	if p, ok := h.part(partition); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.finalDone = true
	}
}

// finding collects one anomaly.
type finding struct {
	count    int64
	examples []Example
}

func (f *finding) add(e Example) {
	f.count++
	if len(f.examples) < maxExamples {
		f.examples = append(f.examples, e)
	}
}

// ref copies to the heap. Taking the address of a parameter would move it there at every call, and
// examples are rare.
func ref[T any](v T) *T { return &v }
