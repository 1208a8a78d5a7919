package chain

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

const (
	// graceAfterEnd is how long a store may take to answer for a span that has ended
	// before its appends go on without it.
	graceAfterEnd = time.Second
	// probeAfter is how long a refused partition waits for the chain to change
	// before it asks whether the seal was undone.
	probeAfter = 50 * time.Millisecond
	// learnFirst is the first interval between two questions whether the chain was
	// extended; where an extend is known to work on it, none is asked for learnHeard.
	learnFirst = 2 * time.Millisecond
	learnHeard = 25 * time.Millisecond
)

// startLearning makes sure that somebody finds out how to go on. Needs mu.
func (p *Partition) startLearning() {
	if p.learning || p.dead != nil {
		return
	}
	p.learning = true
	p.l.run(p.learn)
}

// learn finds out how a partition that does not flow goes on: it asks the
// catalog, at short intervals besides listening to the watch, whether the chain
// was extended; and the copy, whether it takes appends after all.
//
// The events that it must get right, for a gateway that has not heard of a move:
//
//	gateway          controller        copy
//	append 7    →                      landed
//	                 seal         →    sealed
//	append 8    →                      refused: hold 8 and all that follow
//	refresh: chain as before
//	                 commit chain
//	watch or refresh: span ended, next one is open
//	7 is answered; 8 and the rest go to the next span, in order
//
// and where the seal did not stand (a store took it back for an open transaction, a
// leader was refusing for another reason): no extend is under way, a probe finds the
// copy open, 8 goes there.
func (p *Partition) learn(ctx context.Context) {
	wait := learnFirst
	for {
		p.mu.Lock()
		t := p.cur
		if p.dead != nil || t != nil && t.stop == flowing || t == nil && len(p.held) == 0 || ctx.Err() != nil {
			p.learning = false
			p.unlock()
			return
		}
		// Where only an outcome is unknown the copy alone can tell: found open, it
		// is still the chain's, whether the catalog can be asked or not.
		ask := t == nil || t.stop != stopUnknown
		p.unlock()
		if t != nil && extending(p.l.source.Extend(p.topic)) && p.stoppedFor() < learnHeard {
			// This gateway has heard of the move, so it will hear of its end: questions
			// in the meantime would only hold up those who work on it.
			ask, wait = false, learnHeard
		}

		var err error
		if ask {
			err = p.refresh(ctx)
		}
		if t == nil {
			p.mu.Lock()
			if p.cur == nil && p.dead == nil {
				if p.open(); p.cur != nil && p.cur.stop == flowing {
					p.release()
				}
			}
			p.unlock()
		} else {
			p.findOut(ctx, t, err)
		}

		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.poke:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
		limit := 50 * time.Millisecond
		switch d := p.stoppedFor(); {
		case d > 10*time.Second:
			limit = time.Second
		case d > 2*time.Second:
			limit = 250 * time.Millisecond
		}
		wait = min(2*wait, limit)
	}
}

func (p *Partition) stoppedFor() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cur == nil || p.cur.stop == flowing {
		return 0
	}
	return time.Since(p.cur.stoppedAt)
}

// refreshWait bounds one linearizable read. While the catalog is known to be
// away only a short look is taken, since readers wait for it.
const (
	refreshWait     = 2 * time.Second
	refreshWaitAway = 200 * time.Millisecond
	awayFor         = 10 * time.Second
)

// refresh reads the chain linearizably.
func (p *Partition) refresh(ctx context.Context) error {
	p.l.metrics.Refreshes.Inc()
	wait := refreshWait
	if away := p.l.away.Load(); away != 0 && time.Since(time.Unix(0, away)) < awayFor {
		wait = refreshWaitAway
	}
	rctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := p.l.source.Refresh(rctx, p.topic)
	switch {
	case err == nil:
		p.l.away.Store(0)
	case ctx.Err() == nil && !errors.Is(err, ErrUnknownTopic):
		p.l.away.Store(time.Now().UnixNano())
	}
	p.update()
	return err
}

// findOut takes one step for a stopped target; catalogErr is what the refresh just before gave.
func (p *Partition) findOut(ctx context.Context, t *target, catalogErr error) {
	p.mu.Lock()
	if p.cur != t || t.stop == flowing {
		p.unlock()
		return
	}
	stop, fence, stopped, flying, alarm := t.stop, t.fencedBy, time.Since(t.stoppedAt), t.flying.n, t.alarm
	if t.end >= 0 && flying > 0 && (t.lossy || stopped > graceAfterEnd) || t.fencedBy != "" && flying > 0 && (t.gone || stopped > graceAfterEnd) {
		p.giveUp(t)
		p.unlock()
		return
	}
	log := t.log
	p.unlock()

	if alarm != nil {
		if err := p.l.source.Alarm(ctx, *alarm); err != nil {
			p.l.log.Warn("the alarm of a log that went back was not raised", "topic", p.topic, "partition", p.index, "err", err)
		} else {
			p.l.log.Error("a physical log went back below what was acknowledged", "topic", p.topic, "partition", p.index,
				"acknowledged", alarm.Acknowledged, "end", alarm.End)
			p.mu.Lock()
			if t.alarm == alarm {
				t.alarm = nil
			}
			p.unlock()
		}
	}
	if flying > 0 {
		return
	}
	goOn := func() { p.goOn(t, stop, fence) }
	switch stop {
	case stopUnknown:
		p.probe(ctx, t, log, catalogErr, goOn)
	case stopSealed:
		if stopped < probeAfter {
			return
		}
		// While an extend works on the topic the seal stands, whatever one
		// partition leader says: a new one may not have applied it yet.
		if catalogErr == nil {
			e, err := p.l.source.ReadExtend(ctx, p.topic)
			// In this order: an extend that is gone was undone, unless the chain as it is
			// read now says that it was committed.
			if err != nil || extending(e) || p.refresh(ctx) != nil {
				return
			}
		}
		p.probe(ctx, t, log, catalogErr, goOn)
	case stopFenced:
		e, err := p.l.source.ReadExtend(ctx, p.topic)
		if err != nil || fences(e, t.copy.TopicID) || p.refresh(ctx) != nil {
			return
		}
		goOn()
	}
}

// extending tells whether an extend may have sealed the topic.
func extending(e *catalog.Extend) bool {
	if e == nil {
		return false
	}
	switch e.Step {
	case catalog.StepUndo, catalog.StepUndone, catalog.StepDone, catalog.StepCertify, catalog.StepPrepare:
		// Before the seal, or past the point where the chain could change.
		return false
	}
	return true
}

// asksToStop tells whether an extend waits for gateways to stop: its copies
// grant no seal, or are gone, and end at what the gateways say they saw.
func asksToStop(e *catalog.Extend) bool {
	return e != nil && (e.Mode == catalog.ModeFence || e.Unreadable)
}

// fences tells whether an extend asks gateways to stop for a physical topic.
func fences(e *catalog.Extend, id catalog.ID) bool {
	if !asksToStop(e) {
		return false
	}
	switch e.Step {
	case catalog.StepSeal, catalog.StepRead, catalog.StepCommit:
	default:
		return false
	}
	for i := range e.Old {
		if e.Old[i].TopicID == id {
			return true
		}
	}
	return false
}

// probe asks the copy whether it takes appends, and goes on if it does.
func (p *Partition) probe(ctx context.Context, t *target, log span.Log, catalogErr error, goOn func()) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := log.Probe(ctx)
	var truncated *span.TruncatedError
	switch {
	case err == nil:
		goOn()
	case errors.Is(err, span.ErrSealed), errors.Is(err, span.ErrGone):
		p.mu.Lock()
		switch {
		case p.cur == t && t.stop == stopUnknown:
			p.halt(t, stopSealed)
		case p.cur == t && t.stop == stopSealed && errors.Is(err, span.ErrGone):
			// Nobody has sealed it, and the chain goes on nowhere else: it was deleted behind the fleet's back, and
			// it takes a while until the controller is certain of that.
			p.sendAllBack(because(ErrUnavailable, err))
		}
		p.unlock()
	case errors.As(err, &truncated):
		p.mu.Lock()
		if p.cur == t {
			p.raise(t, truncated, time.Now())
		}
		p.unlock()
	default:
		p.mu.Lock()
		if p.cur == t && t.stop == stopUnknown {
			// Nobody knows and nobody can be asked. Waiting would hold up the other
			// partitions of the callers' connections.
			p.sendAllBack(because(ErrUnavailable, err))
			p.resume(t)
		}
		p.unlock()
	}
	if err != nil && catalogErr != nil {
		p.l.log.Debug("neither catalog nor copy tell how to go on", "topic", p.topic, "partition", p.index, "catalog", catalogErr, "copy", err)
	}
}

// goOn lets a target flow again that was stopped for this reason by this fence. One
// that was fenced while the answer was on its way stays stopped: the controller has
// its word.
func (p *Partition) goOn(t *target, stop stopReason, fence string) {
	p.mu.Lock()
	if t.stop == stop && t.fencedBy == fence {
		p.resume(t)
	}
	p.unlock()
}

// sendAllBack answers everything in the line with an error that makes clients come again.
func (p *Partition) sendAllBack(err error) {
	held := p.held
	p.held = nil
	for _, f := range held {
		if f.hasProducer() {
			p.expectAgain(f)
		}
		p.waits(f)
		p.fail(f, p.lateError(f, err))
	}
}

// expire answers what has waited for too long. It tells whether anything still waits.
func (p *Partition) expire(now time.Time) (waiting bool) {
	p.mu.Lock()
	defer p.unlock()
	late := func(f *flight) bool {
		return now.After(f.deadline) || now.Sub(f.since) > p.l.holdTime
	}
	// With a batch of a producer go all later ones: they could only be refused.
	var gone map[int64]struct{}
	expired := func(f *flight) bool {
		if f.hasProducer() {
			if _, ok := gone[f.producer]; ok {
				return true
			}
		}
		if !late(f) {
			return false
		}
		if f.hasProducer() {
			if gone == nil {
				gone = map[int64]struct{}{}
			}
			gone[f.producer] = struct{}{}
			p.expectAgain(f)
		}
		return true
	}
	kept := p.held[:0]
	for _, f := range p.held {
		if !expired(f) {
			kept = append(kept, f)
			continue
		}
		p.l.metrics.HoldsExpired.Inc()
		p.waits(f)
		p.fail(f, p.lateError(f, ErrHeldTooLong))
	}
	clear(p.held[len(kept):])
	p.held = kept
	waiting = len(kept) > 0
	if t := p.cur; t != nil {
		for id, pl := range t.placing {
			f := pl.judged
			if f != nil && expired(f) {
				delete(t.placing, id)
				p.waits(f)
				p.fail(f, p.lateError(f, ErrHeldTooLong))
				for _, w := range pl.waiting {
					p.fail(w, p.lateError(w, ErrHeldTooLong))
				}
				continue
			}
			waiting = waiting || f != nil || len(pl.waiting) > 0
		}
	}
	return waiting
}
