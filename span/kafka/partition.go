package kafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// partition is the handle of one partition. It implements [span.Log].
//
// Appends stand in one queue, oldest first. Those that are under way come first,
// all on one connection, so that their answers arrive in order. When one of them
// fails for a reason that passes, nothing more is sent until all that are under
// way were answered; then what did not land is sent again in the original order
// (recover.go). So an append overtakes an older one in no case but this: the
// older has no producer id, was refused, and the newer was already under way and
// landed. Then the older one is not sent again, and ends with ErrUnavailable.
type partition struct {
	s     *Store
	topic span.Topic
	index int32
	// holders is guarded by Store.mu.
	holders int
	// outstanding counts the queue's entries: what the sweep looks at without a lock.
	outstanding atomic.Int32
	// lookAgain makes the next append ask who leads: the topic may be gone.
	lookAgain atomic.Bool
	// resolving is held while the leader is looked up and its log compared.
	resolving chan struct{}
	// owner is that of the first append which has one.
	owner atomic.Pointer[string]

	mu      sync.Mutex
	queue   []*entry
	numbers uint64 // of the last entry
	next    int    // queue[next:] were not sent, or have to be sent again
	// flying counts entries whose answer is awaited, those included that were
	// ended by their deadline and are in the queue no more.
	flying    int
	lane      *lane // nil: not known who leads
	laneTurn  uint64
	scheduled bool  // in the lane's ready list, or being taken from it
	last      *call // the request that took an entry last
	blocked   bool  // nothing is sent until recovery has been
	recovery  bool  // its goroutine runs
	since     time.Time
	tries     int
	// troubled is since when recoveries have met no leader that takes appends; zero: the last one did.
	troubled time.Time
	idle     time.Time // when the queue became empty last amid trouble
	sealing  bool      // entries are being ended with ErrSealed
	// suspect sends the partition by a lane of its own; good counts quick answers there.
	suspect bool
	good    int

	lead partMeta // verified; epoch -1: none yet
	// sure is the first offset past what this process knows to be committed in
	// epochs up to lead's; acked is the last append, whose epoch nobody told.
	sure      int64
	acked     ackedBatch
	lost      *span.TruncatedError
	lastReads [4]readMark
}

// entry is one append in the queue.
type entry struct {
	p       *partition
	number  uint64       // grows along the queue
	a       *span.Append // nil once ended
	records int32        // last offset delta + 1
	size    int
	pid     bool
	// What the log is compared with later.
	producer int64
	sequence int32
	crc      uint32
	call     *call // while under way
	// maybe: an attempt's outcome was never learned, so "it did not land" can no
	// longer be said.
	maybe    bool
	code     wire.Code // of the last attempt
	tooLarge int       // how often the broker said so although it was not sealed
	// sure is partition.sure when the latest attempt was made: a reader may learn of
	// the batch before its own answer is here.
	sure int64
	// held: it landed at an offset that was seen committed before it was sent, which
	// only a duplicate may. It is acknowledged when the log has been compared.
	held bool
}

func newPartition(s *Store, t span.Topic, index int32) *partition {
	return &partition{s: s, topic: t, index: index, resolving: make(chan struct{}, 1), lead: partMeta{leader: -1, epoch: -1}}
}

var _ span.Log = (*partition)(nil)

// Release implements [span.Log].
func (p *partition) Release() { p.s.release(p) }

// Append implements [span.Log].
func (p *partition) Append(a *span.Append) {
	a.BaseOffset, a.LogAppendTime, a.LogStart, a.LastStable, a.Duplicate, a.Err = -1, -1, -1, -1, false, nil
	p.s.closeMu.RLock()
	defer p.s.closeMu.RUnlock()
	if p.s.closed || p.s.draining.Load() {
		p.refuse(a, unavailable(errClosed))
		return
	}
	if a.Deadline.IsZero() {
		a.Deadline = time.Now().Add(p.s.opts.AppendTimeout)
	}
	h, size, err := batch.Parse(a.Batch)
	switch {
	case err != nil:
		p.refuse(a, &span.RejectedError{Code: wire.CorruptMessage, Detail: err.Error()})
		return
	case size != len(a.Batch):
		p.refuse(a, &span.RejectedError{Code: wire.InvalidRecord, Detail: "not exactly one record batch"})
		return
	}
	switch txn, err := isTxn(&h, a); {
	case err != nil:
		p.refuse(a, err)
		return
	case txn:
		p.appendTxn(a)
		return
	}
	if !p.s.stats.admit(a, p.s.opts.QueueBytes) {
		p.refuse(a, fmt.Errorf("%w: %d bytes of appends are waiting already", span.ErrUnavailable, p.s.opts.QueueBytes))
		return
	}
	if a.Owner != "" && p.owner.Load() == nil {
		owner := a.Owner
		p.owner.CompareAndSwap(nil, &owner)
	}
	burst := a.Burst // the append may have ended before its lane is told
	e := &entry{p: p, a: a, records: h.LastOffsetDelta + 1, size: size, pid: h.HasProducer(),
		producer: h.ProducerID, sequence: h.BaseSequence, crc: h.CRC}
	p.mu.Lock()
	if lost := p.lost; lost != nil {
		p.mu.Unlock()
		p.s.stats.leave(a)
		p.refuse(a, lost)
		return
	}
	if len(p.queue) == 0 && !p.troubled.IsZero() && time.Since(p.idle) >= troubleFor {
		p.troubled = time.Time{} // nobody has tried since, so nobody knows
	}
	p.numbers++
	e.number = p.numbers
	p.queue = append(p.queue, e)
	p.outstanding.Add(1)
	if p.sealing {
		p.mu.Unlock()
		return
	}
	lane := p.kick()
	p.mu.Unlock()
	if lane != nil && !burst.PutOff(lane, p) {
		lane.add(p)
	}
}

// refuse ends an append that was never queued, not from the caller's goroutine.
// After Close there is nobody to wait for it, nor need: Done does not block.
func (p *partition) refuse(a *span.Append, err error) {
	a.Err = err
	go a.Done(a)
}

// ownedBy is whose partition it is, "" for nobody's.
func (p *partition) ownedBy() string {
	if owner := p.owner.Load(); owner != nil {
		return *owner
	}
	return ""
}

// kick needs p.mu. It starts what has to run next for the queue to move: the
// recovery, or the lane that it returns, to which the caller adds p after unlocking.
func (p *partition) kick() *lane {
	switch {
	case p.next >= len(p.queue) || p.scheduled:
		return nil
	case p.lane == nil || p.blocked:
		p.block()
		return nil
	}
	p.scheduled = true
	return p.lane
}

// block needs p.mu. Nothing more is sent; when nothing is under way any more the recovery begins.
func (p *partition) block() {
	if !p.blocked {
		p.blocked = true
		p.since = time.Now()
	}
	if p.flying == 0 && !p.recovery && !p.scheduled && len(p.queue) > 0 {
		p.recovery = true
		if p.troubled.IsZero() {
			p.troubled = time.Now()
		}
		p.s.spawn(p.recover)
	}
}

// take hands the lane the next batch. again tells that there are more. The
// partition's place in the lane's list is given up with again = false.
func (p *partition) take(l *lane, c *call) (e *entry, again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scheduled = false
	if p.lane != l || p.laneTurn != l.turn.Load() || p.lookAgain.Swap(false) {
		// The connection was lost since: who leads now, and whether its log still has
		// all that was acknowledged, has to be asked first.
		p.lane = nil
	}
	if c != nil && p.last == c {
		// An append came while this very request is being made. A broker that finds
		// a partition twice in a request appends one of the two batches, and its
		// one answer would stand for both.
		p.scheduled = true
		return nil, true
	}
	if p.lane == nil || p.blocked || p.next >= len(p.queue) {
		p.kick()
		if p.blocked {
			p.block()
		}
		return nil, false
	}
	e = p.queue[p.next]
	p.next++
	p.flying++
	e.call, p.last = c, c
	e.sure = p.sure
	p.scheduled = p.next < len(p.queue)
	return e, p.scheduled
}

// hasLost tells whether the log was found to have gone back.
func (p *partition) hasLost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost != nil
}

// forget is Store.Forget for this partition.
func (p *partition) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost, p.sure, p.acked = nil, 0, ackedBatch{}
	p.lastReads = [4]readMark{}
}
