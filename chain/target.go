package chain

import (
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// stopReason says why nothing is submitted to a target.
type stopReason uint8

const (
	flowing stopReason = iota
	// stopUnknown: an append with a producer id has an unknown outcome; what came
	// behind it must not overtake its retry.
	stopUnknown
	// stopSealed: the copy refused an append. It is sealed, or was.
	stopSealed
	// stopTruncated: the physical log went back.
	stopTruncated
	// stopFenced: the controller asked all gateways to stop, for a copy that cannot be sealed.
	stopFenced
	// stopEnded: the chain goes on in another span.
	stopEnded
)

// target is the open span as a gateway appends to it. Guarded by Partition.mu
// but for what is set once.
type target struct {
	seq     int32
	epoch   int32
	copy    *catalog.Copy
	store   span.Store
	log     span.Log
	canSeal bool

	stop      stopReason
	stoppedAt time.Time
	end       int64 // logical, once the chain says where the span ended; -1 before
	lossy     bool  // it ended with a hole
	alarm     *catalog.Alarm
	fencedBy  string // operation whose fence was heeded
	gone      bool   // and whose copy is away

	flying flightList
	// returned are the flights that came back without an answer for their
	// callers, until all that were submitted are back.
	returned []*flight

	// known holds the producers that the copy is known to have state of, with when
	// they were last seen (Unix seconds).
	known map[int64]int64
	// placing holds the producers whose first batch on this span is on its way.
	placing map[int64]*placement
	// txns holds what was enlisted for a producer's epoch on this copy.
	txns map[int64]enlisted
	// state is the producers' state that was sealed before this span.
	stateRef   string
	state      []ProducerState
	stateReady bool
	loading    bool

	acks ackCount
	told bool // the last word on it was said
	// doubts are the producers whose batches may have landed here, and were not
	// acknowledged since.
	doubts     Doubts
	doubtsFull bool // and that there are too many was said
}

// placement is a producer's first batch on a span. It goes alone: a fresh copy
// takes any sequence as a producer's first, so a second batch that overtakes the
// first one's retry would make the first out of order for good.
type placement struct {
	// judged is being judged, or waits for what that needs; nil when the first batch is with the store.
	judged  *flight
	waiting []*flight
}

// knownLimit bounds the memory of producers per partition.
const knownLimit = 1 << 16

func (t *target) remember(producer, now int64) {
	if len(t.known) >= knownLimit {
		t.forget(now)
	}
	if t.known == nil {
		t.known = make(map[int64]int64)
	}
	t.known[producer] = now
}

// forget drops producers that were idle; forgetting one only means that its next
// batch goes alone and is judged.
func (t *target) forget(now int64) {
	for id, seen := range t.known {
		if now-seen > 3600 || len(t.known) >= knownLimit && id&1 == 0 {
			delete(t.known, id)
		}
	}
}

// ackCount is what this gateway saw acknowledged on the span.
type ackCount struct {
	records, batches, unknown int64
	markers                   int64 // ends of transactions that were written
	next                      int64 // -1: none
	last                      time.Time
	// tail are the last batches, a ring once it is full; floor lies past all that
	// have left it.
	tail  []ackedBatch
	n     int // batches put into tail, in all
	floor int64
	// digest condenses all batches, inDoubt are the last of those that unknown counts.
	digest  catalog.AckDigest
	inDoubt []catalog.AckedBatch
}

// nothing tells whether there is nothing to report.
func (c *ackCount) nothing() bool { return c.batches == 0 && c.unknown == 0 && c.markers == 0 }

// ackedTail is how many batches are remembered per partition.
const ackedTail = 64

// ackedBatch is a batch that is known to lie in the copy.
type ackedBatch struct {
	offset      int64
	producer    int64
	crc         uint32
	records     int32
	first, last int32 // sequences
	epoch       int16
	found       bool // a duplicate: who acknowledged it first has counted it
}

func (c *ackCount) add(f *flight, base int64, crc uint32, now time.Time) {
	c.records += int64(f.records)
	c.batches++
	c.next = max(c.next, base+int64(f.records))
	c.last = now
	c.digest.Add(base, f.records, crc)
	c.push(ackedBatch{offset: base, records: f.records, crc: crc, producer: f.producer, epoch: f.epoch, first: f.first, last: f.last})
}

// lostSight counts a flight whose outcome nobody will learn.
func (c *ackCount) lostSight(f *flight) {
	if f.a.marker {
		return // markers are not counted when they are acknowledged either
	}
	c.unknown += int64(f.records)
	if len(c.inDoubt) >= ackedTail {
		c.inDoubt = append(c.inDoubt[:0], c.inDoubt[1:]...)
	}
	c.inDoubt = append(c.inDoubt, catalog.AckedBatch{Offset: -1, Records: f.records, CRC: f.crc()})
}

// counted tells whether the batch at an offset is among the last that were counted: a client that
// came again before its first attempt had an answer has two flights of the same batch.
func (c *ackCount) counted(offset int64) bool {
	return slices.ContainsFunc(c.tail, func(b ackedBatch) bool { return b.offset == offset && !b.found })
}

// found notes where a batch lies that an earlier attempt had put there.
func (c *ackCount) found(f *flight, base int64) {
	c.push(ackedBatch{offset: base, records: f.records, producer: f.producer, epoch: f.epoch, first: f.first, last: f.last, found: true})
}

func (c *ackCount) push(b ackedBatch) {
	if len(c.tail) < ackedTail {
		c.tail = append(c.tail, b)
	} else {
		old := &c.tail[c.n%ackedTail]
		c.floor = max(c.floor, old.offset+int64(old.records))
		*old = b
	}
	c.n++
}

func (c *ackCount) report(l *Logs, partition, seq int32) catalog.AckReport {
	// Written after the partition was let go of, so what may change is copied.
	digest := c.digest
	digest.Chunks = slices.Clone(digest.Chunks)
	r := catalog.AckReport{Node: l.node, Run: l.incarnation, Partition: partition, Span: seq,
		Records: c.records, Batches: c.batches, Markers: c.markers, Digest: &digest, Unknown: c.unknown, InDoubt: slices.Clone(c.inDoubt), Next: c.next}
	if !c.last.IsZero() {
		r.LastAck = c.last.UnixNano()
	}
	for i := c.n - len(c.tail); i < c.n; i++ {
		if b := &c.tail[i%ackedTail]; !b.found {
			a := catalog.AckedBatch{Offset: b.offset, Records: b.records, CRC: b.crc}
			if b.producer >= 0 && b.first != batch.NoSequence {
				a.By = &catalog.AckedBy{Producer: b.producer, Epoch: b.epoch, First: b.first, Last: b.last}
			}
			r.Tail = append(r.Tail, a)
		}
	}
	return r
}
