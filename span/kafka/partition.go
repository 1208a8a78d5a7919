package kafka

import (
	"errors"
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
	sealing   bool // entries are being ended with ErrSealed
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
	// held: it landed at an offset that was seen committed before, which only a
	// duplicate may. It is acknowledged when the log has been compared.
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
	a.BaseOffset, a.LogAppendTime, a.LogStart, a.Duplicate, a.Err = -1, -1, -1, false, nil
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
	case h.IsTransactional():
		// Its request would need the transactional id, and a refusal of it would
		// hit all that share the request.
		p.refuse(a, &span.RejectedError{Code: wire.InvalidTxnState, Detail: "transactional batch outside a transaction"})
		return
	}
	if !p.s.stats.admit(int64(size), p.s.opts.QueueBytes) {
		p.refuse(a, fmt.Errorf("%w: %d bytes of appends are waiting already", span.ErrUnavailable, p.s.opts.QueueBytes))
		return
	}
	e := &entry{p: p, a: a, records: h.LastOffsetDelta + 1, size: size, pid: h.HasProducer(),
		producer: h.ProducerID, sequence: h.BaseSequence, crc: h.CRC}
	p.mu.Lock()
	if lost := p.lost; lost != nil {
		p.mu.Unlock()
		p.s.stats.leave(int64(size))
		p.refuse(a, lost)
		return
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
	if lane != nil {
		lane.add(p)
	}
}

// refuse ends an append that was never queued, not from the caller's goroutine.
// After Close there is nobody to wait for it, nor need: Done does not block.
func (p *partition) refuse(a *span.Append, err error) {
	a.Err = err
	go a.Done(a)
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
	p.scheduled = p.next < len(p.queue)
	return e, p.scheduled
}

// answered handles the answer to one entry and calls Done where that ended something.
func (p *partition) answered(e *entry, r *wire.ProduceResult, took time.Duration) {
	var ended []*entry
	p.mu.Lock()
	p.flying--
	p.over(e)
	code := r.Code
	e.code = code
	what := kindOf(code)
	if (what == kindMoved || what == kindRetry) && r.BaseOffset >= 0 {
		// It was appended, and then the leader was deposed (or its replicas became
		// too few) while it waited for them: DelayedProduce keeps the offset.
		what = kindMaybe
	}
	switch what {
	case kindNone:
		ended = p.landed(e, r, ended)
	case kindDuplicate:
		if e.a != nil {
			e.a.Duplicate, e.a.LogStart = true, r.LogStart
			ended = p.end(e, nil, ended)
		}
	case kindDenied:
		ended = p.end(e, fmt.Errorf("%w: %w", span.ErrDenied, code), ended)
	case kindRejected:
		ended = p.end(e, &span.RejectedError{Code: code}, ended)
	case kindOrder:
		// If something before it in this flight has to be sent again, or the like
		// was found out before its own turn, this one only missed that.
		if p.blocked {
			p.keep(e)
		} else {
			ended = p.end(e, &span.RejectedError{Code: code}, ended)
		}
	case kindMaybe:
		if kindOf(code) != kindMoved {
			p.blame()
		}
		if e.pid {
			e.maybe = true
			p.keep(e)
		} else {
			ended = p.overtaken(e, ended)
			ended = p.end(e, fmt.Errorf("%w: %w", span.ErrUnknownOutcome, code), ended)
			if kindOf(code) == kindMoved {
				p.lane = nil // those behind it must ask who leads
			}
		}
	default: // kindRetry, kindMoved, kindTooLarge, kindGone, kindRange
		if what == kindRetry {
			p.blame()
		}
		p.keep(e)
	}
	p.judge(took, what == kindNone || what == kindDuplicate)
	lane := p.settle()
	p.mu.Unlock()
	p.finish(ended)
	if lane != nil {
		lane.add(p)
	}
}

// over needs p.mu: e's request is answered or lost. It must not keep its batches
// alive; another that is being made meanwhile stays the last.
func (p *partition) over(e *entry) {
	if p.last == e.call {
		p.last = nil
	}
	e.call = nil
}

// landed needs p.mu: the broker has the batch.
func (p *partition) landed(e *entry, r *wire.ProduceResult, ended []*entry) []*entry {
	end := r.BaseOffset + int64(e.records)
	repeated := r.BaseOffset >= 0 && r.BaseOffset < max(p.sure, p.acked.end)
	if !repeated && r.BaseOffset >= 0 {
		p.acked = ackedBatch{base: r.BaseOffset, end: end, producer: e.producer, sequence: e.sequence, crc: e.crc}
	}
	ended = p.overtaken(e, ended)
	if e.a == nil {
		return ended // ended by its deadline; it is there all the same
	}
	e.a.BaseOffset, e.a.LogAppendTime, e.a.LogStart = r.BaseOffset, r.LogAppendTime, r.LogStart
	if p.lost != nil {
		return p.end(e, p.lost, ended)
	}
	if repeated {
		e.held = true
		e.a.Duplicate = true
		p.keep(e)
		return ended
	}
	p.tries = 0
	return p.end(e, nil, ended)
}

// overtaken needs p.mu: e has landed, or may have. Older batches without producer
// id that were refused would come to lie behind it: they are not sent again.
func (p *partition) overtaken(e *entry, ended []*entry) []*entry {
	for i := 0; p.blocked && i < len(p.queue) && p.queue[i].number < e.number; {
		older := p.queue[i]
		if older.call != nil || older.pid || older.held {
			i++
			continue
		}
		err := fmt.Errorf("%w: %w, and a later append may have landed", span.ErrUnavailable, older.code)
		ended = append(ended, p.unqueue(older, err))
	}
	return ended
}

// keep needs p.mu: e stays queued, to be sent again or found out after the drain.
func (p *partition) keep(e *entry) {
	if !p.blocked {
		p.blocked = true
		p.since = time.Now()
	}
	if e.a != nil {
		p.s.stats.retries.Add(1)
	}
}

// lostConn handles an entry whose answer will never come. sent is false when the
// request cannot have reached the broker whole.
func (p *partition) lostConn(e *entry, sent bool, err error) {
	var ended []*entry
	p.mu.Lock()
	p.flying--
	p.over(e)
	e.code = wire.NetworkException
	p.lane = nil
	switch {
	case !sent || e.pid:
		e.maybe = e.maybe || sent
		p.keep(e)
	default:
		ended = p.overtaken(e, ended)
		ended = p.end(e, fmt.Errorf("%w: %w", span.ErrUnknownOutcome, err), ended)
	}
	lane := p.settle()
	p.mu.Unlock()
	p.finish(ended)
	if lane != nil {
		lane.add(p)
	}
}

// settle needs p.mu: what to do next after an answer. The caller adds p to the lane.
func (p *partition) settle() *lane {
	if p.blocked {
		p.block()
		if len(p.queue) == 0 && p.flying == 0 && !p.recovery {
			// Nobody waits; the next append finds out who leads.
			p.blocked, p.lane = false, nil
		}
		return nil
	}
	return p.kick()
}

// indexOf needs p.mu. Entries are ended mostly from the front.
func (p *partition) indexOf(e *entry) int {
	for i, q := range p.queue {
		if q == e {
			return i
		}
	}
	return len(p.queue)
}

// end needs p.mu: e's append is over. Its Done is called by finish after the lock.
func (p *partition) end(e *entry, err error, ended []*entry) []*entry {
	if e.a == nil {
		return ended
	}
	return append(ended, p.unqueue(e, err))
}

// unqueue takes e from the queue and sets its error. What cannot be said any
// more is corrected here: of an append that may have landed, only that.
func (p *partition) unqueue(e *entry, err error) *entry {
	i := p.indexOf(e)
	if i == 0 {
		p.queue[0] = nil
		p.queue = p.queue[1:]
	} else {
		p.queue = append(p.queue[:i], p.queue[i+1:]...)
	}
	if i < p.next {
		p.next--
	}
	p.outstanding.Add(-1)
	p.s.stats.leave(int64(e.size))
	if err != nil && e.maybe && !errors.Is(err, span.ErrUnknownOutcome) {
		err = fmt.Errorf("%w: %w", span.ErrUnknownOutcome, err)
	}
	e.a.Err = err
	if err != nil {
		e.a.BaseOffset, e.a.LogAppendTime, e.a.Duplicate = -1, -1, false
	}
	return &entry{a: e.a, p: p, call: e.call}
}

// finish calls Done in the queue's order. No lock is held.
func (p *partition) finish(ended []*entry) {
	for _, e := range ended {
		e.a.Done(e.a)
	}
}

// expire ends entries whose deadline has passed.
func (p *partition) expire(now time.Time) {
	var ended []*entry
	var stuck *call
	p.mu.Lock()
	for i := 0; i < len(p.queue); {
		e := p.queue[i]
		if now.Before(e.a.Deadline) {
			i++
			continue
		}
		switch {
		case e.call == nil:
			err := fmt.Errorf("%w: deadline passed", span.ErrUnavailable)
			if e.code != wire.None {
				err = fmt.Errorf("%w: %w: deadline passed", span.ErrUnavailable, e.code)
			}
			ended = append(ended, p.unqueue(e, err))
		case !e.call.isWritten():
			// The socket is still reading the caller's bytes: they are not given
			// back before it has let go of them.
			stuck = e.call
			i++
		default:
			ended = append(ended, p.unqueue(e, fmt.Errorf("%w: no answer before the deadline", span.ErrUnknownOutcome)))
			e.a = nil
		}
	}
	p.mu.Unlock()
	p.finish(ended)
	if stuck != nil {
		stuck.lane.abort(errors.New("the broker takes no bytes"))
	}
}

// failAll ends all that is not under way, for good.
func (p *partition) failAll(err error) {
	var ended []*entry
	p.mu.Lock()
	for i := 0; i < len(p.queue); {
		if p.queue[i].call != nil {
			i++
			continue
		}
		ended = append(ended, p.unqueue(p.queue[i], err))
	}
	p.mu.Unlock()
	p.finish(ended)
}

// forget is Store.Forget for this partition.
func (p *partition) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost, p.sure, p.acked = nil, 0, ackedBatch{}
	p.lastReads = [4]readMark{}
}

// blame needs p.mu: the partition's own replicas are slow or too few. It goes by
// a lane of its own from now on.
func (p *partition) blame() {
	p.good = 0
	if !p.suspect {
		p.suspect = true
		p.block()
	}
}

// judge needs p.mu. A request of many partitions that was slow makes each of them
// a suspect; on its own lane each shows whether it was the one.
func (p *partition) judge(took time.Duration, ok bool) {
	const enough = 16
	switch {
	case p.lane == nil:
	case took > p.s.opts.SlowRequest:
		p.blame()
	case p.suspect && ok && took < p.s.opts.SlowRequest/4:
		if p.good++; p.good >= enough {
			p.suspect, p.good = false, 0
			p.block()
		}
	}
}
