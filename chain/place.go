package chain

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// place deals with a batch of a producer that this gateway has not seen
// acknowledged on the open span yet.
func (p *Partition) place(f *flight) {
	t := p.cur
	if pl := t.placing[f.producer]; pl != nil {
		pl.waiting = append(pl.waiting, f)
		p.await(f)
		return
	}
	if t.placing == nil {
		t.placing = make(map[int64]*placement)
	}
	pl := &placement{}
	t.placing[f.producer] = pl
	p.judge(pl, f)
}

// await makes sure that a flight that waits here is not forgotten.
func (p *Partition) await(f *flight) {
	if f.since.IsZero() {
		f.since = time.Now()
	}
	p.l.holding(p)
}

// judge decides on a producer's first batch by the sealed state.
func (p *Partition) judge(pl *placement, f *flight) {
	t := p.cur
	if f.a.Txn != nil {
		p.enlist(pl, f)
		return
	}
	if !t.stateReady {
		pl.judged = f
		p.await(f)
		p.loadState(t)
		return
	}
	pl.judged = nil
	state := FindProducer(t.state, f.producer)
	r, offset := Judge(state, f.epoch, f.first, f.last)
	early := r == RuleAppend && (state == nil || state.Jump) && p.tooEarly(f, state)
	if early {
		r = RuleMissing
	}
	switch r {
	case RuleAppend:
		p.submit(f)
	case RuleDuplicate:
		if offset >= 0 {
			p.duplicate(f, offset)
			p.nextPlacement(t, f.producer)
			return
		}
		pl.judged = f
		p.await(f)
		id, epoch, first, last := f.producer, f.epoch, f.first, f.last
		p.ask(t, pl, func(ctx context.Context) func() {
			offset, err := p.findBatch(ctx, id, epoch, first, last)
			return func() {
				if err != nil {
					p.l.log.Debug("a duplicate's offset was not found", "err", err)
				}
				pl.judged = nil
				p.duplicate(f, offset)
				p.nextPlacement(t, id)
			}
		})
	case RuleMissing:
		pl.judged = f
		p.await(f)
		id := f.producer
		log, v := t.log, p.view.Load()
		p.ask(t, pl, func(ctx context.Context) func() {
			producers, err := log.Producers(ctx)
			known := holds(producers, id)
			if err == nil && !known {
				// Missing here, and maybe placed on a span that this gateway has not
				// heard of yet: the answer must not come from a chain that is past.
				err = p.prove(ctx, v, OpenSpan(v.chain))
			}
			return func() {
				pl.judged = nil
				switch {
				case errors.Is(err, errChanged):
					p.judge(pl, f)
				case err != nil:
					p.sentBack(f, t, p.lateError(f, because(ErrUnavailable, err)))
				case known:
					// Another gateway placed it: from here on the copy judges. What is expected
					// stays so until it lands: the copy may refuse f for the lack of it.
					t.remember(id, time.Now().Unix())
					p.submit(f)
					p.placed(f, t)
				case early || p.missesOne(f):
					p.sentBack(f, t, p.lateError(f, ErrUnavailable))
				default:
					p.fail(f, p.lateError(f, ErrOutOfOrder))
					p.nextPlacement(t, id)
				}
			}
		})
	case RuleOldEpoch:
		p.fail(f, ErrOldProducerEpoch)
		p.nextPlacement(t, f.producer)
	}
}

func holds(producers []span.Producer, id int64) bool {
	for i := range producers {
		if producers[i].ID == id {
			return true
		}
	}
	return false
}

// ask does I/O for a placement in the background; what it returns is called with
// mu held, if the placement still stands. The target may have been stopped
// meanwhile: then the flight has joined the line, and is not touched.
func (p *Partition) ask(t *target, pl *placement, work func(context.Context) func()) {
	f := pl.judged
	id := f.producer
	p.l.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		decide := work(ctx)
		p.mu.Lock()
		defer p.unlock()
		if p.standing(t, pl, id, f) {
			decide()
		}
	})
}

// standing tells whether a placement still waits for its answer. Needs mu.
func (p *Partition) standing(t *target, pl *placement, producer int64, f *flight) bool {
	return p.dead == nil && p.cur == t && t.stop == flowing && t.placing[producer] == pl && pl.judged == f
}

// stands is standing for those who do not hold mu; id is the flight's producer.
func (p *Partition) stands(t *target, pl *placement, id int64, f *flight) bool {
	p.mu.Lock()
	defer p.unlock()
	return p.standing(t, pl, id, f)
}

// placed lets those that waited behind a producer's first batch go. It is called
// when a flight of the producer has been answered by the copy.
func (p *Partition) placed(f *flight, t *target) {
	if !f.hasProducer() {
		return
	}
	pl := t.placing[f.producer]
	if pl == nil || pl.judged != nil {
		return
	}
	if _, ok := t.known[f.producer]; !ok {
		p.nextPlacement(t, f.producer)
		return
	}
	delete(t.placing, f.producer)
	for _, w := range pl.waiting {
		p.route(w)
	}
}

// nextPlacement judges the next of those that wait, after the one before was
// answered without being appended.
func (p *Partition) nextPlacement(t *target, producer int64) {
	for {
		pl := t.placing[producer]
		if pl == nil || pl.judged != nil {
			return
		}
		if len(pl.waiting) == 0 {
			delete(t.placing, producer)
			return
		}
		f := pl.waiting[0]
		pl.waiting = pl.waiting[1:]
		if f.a.Txn != nil {
			p.judge(pl, f)
			return
		}
		// Not by way of judge's own call of this, so that a long line of
		// duplicates does not nest.
		state := FindProducer(t.state, producer)
		if r, offset := Judge(state, f.epoch, f.first, f.last); r == RuleDuplicate && offset >= 0 {
			p.duplicate(f, offset)
			continue
		} else if r == RuleOldEpoch {
			p.fail(f, ErrOldProducerEpoch)
			continue
		}
		p.judge(pl, f)
		return
	}
}

// duplicate answers a batch that is in the chain; offset -1 is unknown.
func (p *Partition) duplicate(f *flight, offset int64) {
	p.l.metrics.Duplicates.Inc()
	if offset < 0 {
		p.fail(f, ErrDuplicate)
		return
	}
	v := p.view.Load()
	f.a.BaseOffset, f.a.LogAppendTime, f.a.LogStart, f.a.Epoch, f.a.Duplicate = offset, -1, v.chain.Start, LeaderEpoch(v.chain), true
	p.finish(f)
}

// judgeLate asks the sealed state about a batch whose sequence the open copy
// refused: its producer was placed there already, and this may be a retry of
// what came before. rejected is what is answered if it is not.
func (p *Partition) judgeLate(f *flight, t *target) {
	id, epoch, first, last := f.producer, f.epoch, f.first, f.last
	ref, state, ready := t.stateRef, t.state, t.stateReady
	p.l.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var err error
		if !ready {
			state, err = p.l.readState(ctx, ref)
		}
		offset, dup := int64(-1), false
		if err == nil {
			var r Ruling
			r, offset = Judge(FindProducer(state, id), epoch, first, last)
			if dup = r == RuleDuplicate; dup && offset < 0 {
				offset, err = p.findBatch(ctx, id, epoch, first, last)
			}
		}
		if err != nil {
			p.l.log.Debug("a refused sequence was not looked up", "err", err)
		}
		p.mu.Lock()
		defer p.unlock()
		switch {
		case dup:
			p.duplicate(f, offset)
		case err != nil:
			// It may be in the chain: a definite refusal would be a lie.
			p.fail(f, because(ErrTimedOut, err))
		default:
			p.fail(f, p.lateError(f, f.rejected))
		}
	})
}

// loadState reads the sealed producers' state in the background, and judges
// what waited for it.
func (p *Partition) loadState(t *target) {
	if t.loading || t.stateReady {
		return
	}
	t.loading = true
	p.l.run(func(ctx context.Context) {
		for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
			state, err := p.l.readState(ctx, t.stateRef)
			p.mu.Lock()
			if err == nil {
				t.state, t.stateReady, t.loading = state, true, false
				if p.cur == t && t.stop == flowing {
					for id, pl := range t.placing {
						if f := pl.judged; f != nil {
							pl.judged = nil
							p.judge(t.placing[id], f)
						}
					}
				}
				p.unlock()
				return
			}
			if ctx.Err() != nil || p.dead != nil || p.cur != t || len(t.placing) == 0 {
				t.loading = false
				p.unlock()
				return
			}
			p.unlock()
			p.l.log.Warn("producers' state cannot be read", "topic", p.topic, "partition", p.index, "ref", t.stateRef, "err", err)
			if !sleep(ctx, wait) {
				p.mu.Lock()
				t.loading = false
				p.unlock()
				return
			}
		}
	})
}

// tooEarly tells whether a batch must wait for an earlier one of its producer
// that was sent back; see expectation. What the sealed state holds need not come
// again, since it was read back or landed after all; what follows on it must.
func (p *Partition) tooEarly(f *flight, state *ProducerState) bool {
	if len(p.expect) == 0 {
		return false
	}
	e, ok := p.expect[f.producer]
	if !ok {
		return time.Now().Before(p.expectFull) && !follows(state, f.epoch, f.first)
	}
	if e.epoch == f.epoch && time.Now().Before(e.until) {
		if Early(state, f.epoch, e.first, f.first) {
			return true
		}
	}
	delete(p.expect, f.producer)
	return false
}

// missesOne tells whether a batch lies behind one of its producer that was sent back and has
// not come again. A copy that was away takes appends again in the midst of what a client has
// under way: the first of those are refused, for the lack of an answer, the next ones for the lack
// of the first. That gap is not the client's.
func (p *Partition) missesOne(f *flight) bool {
	e, ok := p.expect[f.producer]
	if !ok || e.epoch != f.epoch || !time.Now().Before(e.until) {
		return false
	}
	d, after := ahead(e.first, f.first)
	return after && d > 0
}

// Early tells whether a batch that begins with sequence first lies behind one that
// must come before: the batch awaited, or what follows on the state's last.
func Early(state *ProducerState, epoch int16, awaited, first int32) bool {
	if state != nil && state.Epoch == epoch && state.LastSequence != batch.NoSequence {
		if _, held := ahead(awaited, state.LastSequence); held {
			awaited = batch.IncrementSequence(state.LastSequence, 1)
		}
	}
	d, after := ahead(awaited, first)
	return after && d > 0
}

// follows tells whether a batch that begins with sequence first is for certain the next of its
// producer, as far as the state knows it.
func follows(state *ProducerState, epoch int16, first int32) bool {
	if state == nil || state.Epoch != epoch || state.LastSequence == batch.NoSequence {
		return first == 0
	}
	return first == batch.IncrementSequence(state.LastSequence, 1)
}

// cameAgain forgets an expectation that f, which landed, has met.
func (p *Partition) cameAgain(f *flight) {
	if len(p.expect) == 0 {
		return
	}
	if e, ok := p.expect[f.producer]; ok {
		if _, after := ahead(e.first, f.first); after || e.epoch != f.epoch {
			delete(p.expect, f.producer)
		}
	}
}

// maxExpected bounds the memory of expectations per partition.
const maxExpected = 4096

func (p *Partition) expectAgain(f *flight) {
	if p.expect == nil {
		p.expect = make(map[int64]expectation)
	}
	now := time.Now()
	if e, ok := p.expect[f.producer]; ok && e.epoch == f.epoch && now.Before(e.until) {
		if d, after := ahead(e.first, f.first); after {
			if d == 0 { // the very one, once more; later ones do not prolong the time
				e.until = now.Add(p.l.holdTime)
				p.expect[f.producer] = e
			}
			return
		}
	}
	if len(p.expect) >= maxExpected {
		for id, e := range p.expect {
			if now.After(e.until) {
				delete(p.expect, id)
			}
		}
		if len(p.expect) >= maxExpected {
			p.expectMore(now)
			return
		}
	}
	p.expect[f.producer] = expectation{f.epoch, f.first, now.Add(p.l.holdTime)}
}

// expectMore notes that a batch is expected whose producer there is no room for. For the time of
// a hold any producer may be the one: what does not follow for certain on what is known of its
// producer is sent back too. What is sent back so does not prolong that time, or it would never end.
func (p *Partition) expectMore(now time.Time) {
	p.l.metrics.ExpectedFull.Inc()
	if now.Before(p.expectFull) {
		return
	}
	p.expectFull = now.Add(p.l.holdTime)
	p.l.log.Warn("more producers had batches sent back than are kept in mind: batches that may have to wait for one of them are sent back for a while",
		"topic", p.topic, "partition", p.index, "bound", maxExpected, "until", p.expectFull)
}
