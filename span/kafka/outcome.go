package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// answered handles the answer to one entry and calls Done where that ended something.
func (p *partition) answered(e *entry, r *wire.ProduceResult, took time.Duration) {
	var ended []*entry
	b := e.call.lane.b
	p.mu.Lock()
	p.flying--
	p.over(e)
	code := r.Code
	if code == wire.UnknownServerError && e.a != nil && batch.SoundOf(e.a.Owner, e.a.Batch) != nil {
		// What LogValidator meets in records that do not unpack has no code of its own. The broker will
		// never take them. This is rare, and nobody but the partition's own appends waits for the lock.
		code = wire.InvalidRecord
	}
	e.code = code
	what := kindOf(code)
	if (what == kindMoved || what == kindRetry) && r.BaseOffset >= 0 {
		// It was appended, and then the leader was deposed (or its replicas became
		// too few) while it waited for them: DelayedProduce keeps the offset.
		what = kindMaybe
	}
	switch what {
	case kindRetry, kindMoved, kindMaybe, kindGone, kindRange:
	default:
		p.troubled = time.Time{} // its leader leads, whatever it thinks of the batch
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
		switch {
		case p.blocked:
			p.keep(e)
		case e.pid && e.a != nil:
			p.look(b, e)
		default:
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
	repeated := r.BaseOffset >= 0 && r.BaseOffset < max(e.sure, p.acked.end)
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
	p.drop(e)
	p.outstanding.Add(-1)
	p.s.stats.leave(e.a)
	if err != nil && (e.maybe || e.held && e.p.lost == nil) && !errors.Is(err, span.ErrUnknownOutcome) {
		// What is held lies in the log, if the log is what it was.
		err = fmt.Errorf("%w: %w", span.ErrUnknownOutcome, err)
	}
	e.a.Err = err
	if err != nil {
		e.a.BaseOffset, e.a.LogAppendTime, e.a.Duplicate = -1, -1, false
	}
	return &entry{a: e.a, p: p, call: e.call}
}

// drop needs p.mu: e leaves the queue.
func (p *partition) drop(e *entry) {
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
	if len(p.queue) == 0 && !p.troubled.IsZero() {
		p.idle = time.Now()
	}
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
