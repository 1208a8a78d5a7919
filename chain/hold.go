package chain

import (
	"time"

	"github.com/braidstream/braid/span"
)

// hold keeps a flight until the target flows again. Room for that is bounded.
func (p *Partition) hold(f *flight) {
	if t := p.cur; t != nil && t.stop != flowing && time.Since(t.stoppedAt) > p.l.holdTime && !p.behind() {
		// What was held since has run out of time already: whoever comes now would too.
		p.waits(f)
		p.fail(f, p.lateError(f, because(ErrUnavailable, ErrHeldTooLong)))
		return
	}
	if !p.l.takeHold(p, int64(f.size)) {
		p.l.metrics.HoldsExpired.Inc()
		p.waits(f)
		p.fail(f, p.lateError(f, ErrHeldTooLong))
		return
	}
	p.keep(f)
}

// behind tells whether the source has a newer version than this partition, which
// is about to hear of it.
func (p *Partition) behind() bool {
	_, revision, err := p.l.source.Chain(p.topic, p.index)
	return err == nil && revision > p.view.Load().revision
}

// keep puts a flight into the line.
func (p *Partition) keep(f *flight) {
	if f.since.IsZero() {
		f.since = time.Now()
	}
	f.held = true
	p.l.metrics.HeldAppends.Inc()
	p.held = append(p.held, f)
	p.l.holding(p)
	p.startLearning()
}

// unhold takes a flight out of the accounts of what is held.
func (p *Partition) unhold(f *flight) {
	if f.held {
		f.held = false
		p.l.putHold(p, int64(f.size))
		p.l.metrics.HeldAppends.Dec()
		p.l.metrics.HeldSeconds.Observe(time.Since(f.since).Seconds())
	}
}

// halt stops submissions to a target. What waits for a placement joins the line.
func (p *Partition) halt(t *target, why stopReason) {
	if t.stop == flowing {
		t.stoppedAt = time.Now()
	}
	if why > t.stop || t.stop == flowing {
		t.stop = why
	}
	if why != stopUnknown && why != stopEnded {
		// Until the end is committed nothing that arrives from now on is served:
		// a late record may lie where the next span will begin.
		p.mute = t.seq
	}
	n := len(p.held)
	for id, pl := range t.placing {
		delete(t.placing, id)
		if pl.judged != nil {
			p.rejoin(pl.judged)
		}
		for _, f := range pl.waiting {
			p.rejoin(f)
		}
	}
	if len(p.held) != n {
		byTicket(p.held)
	}
	p.startLearning()
}

// rejoin puts a flight that was under way into the line, whatever is held already.
func (p *Partition) rejoin(f *flight) {
	p.l.forceHold(p, int64(f.size))
	p.keep(f)
}

// settle goes on when everything that was submitted to a stopped target is back:
// to the chain's next span, if it is known.
func (p *Partition) settle(t *target) {
	if p.cur != t || t.stop == flowing || t.flying.n > 0 {
		return
	}
	if p.dead != nil {
		for _, f := range t.returned {
			p.fail(f, p.lateError(f, p.dead))
		}
		t.returned = nil
		return
	}
	if len(t.returned) > 0 {
		for _, f := range t.returned {
			p.rejoin(f)
		}
		t.returned = nil
		byTicket(p.held)
	}
	v := p.view.Load()
	s := OpenSpan(v.chain)
	if s == nil || s.Seq == t.seq {
		if t.fencedBy != "" {
			p.l.pokeFences()
		}
		return
	}
	p.retire(t)
	p.cur = nil
	p.open()
	if p.cur != nil && p.cur.stop == flowing {
		p.release()
	}
}

// release routes what was held, in order.
func (p *Partition) release() {
	held := p.held
	p.held = nil
	for i, f := range held {
		p.unhold(f)
		p.l.metrics.Reroutes.Inc()
		held[i] = nil
		p.route(f)
	}
}

// resume lets a stopped target flow again.
func (p *Partition) resume(t *target) {
	if p.cur != t || t.stop == flowing || t.flying.n > 0 || t.end >= 0 {
		return
	}
	p.settle(t)
	if p.cur != t {
		return
	}
	p.renew(t)
	t.stop, t.fencedBy, t.gone = flowing, "", false
	if p.mute == t.seq {
		p.mute = -1
		p.wakeAll()
		poke(p.follow)
	}
	p.release()
}

// renew takes the store that the cluster has by now, if it is another one: that of a process which came back at another
// address, say. The former one is closed and will answer nothing else for ever. Needs mu.
func (p *Partition) renew(t *target) {
	if p.cur != t || t.flying.n > 0 {
		return
	}
	if st, err := p.l.stores.Store(t.copy.Cluster); err == nil && st != t.store {
		p.wakes = append(p.wakes, t.log.Release)
		t.store, t.log = st, st.Log(span.Topic{Name: t.copy.Topic, ID: t.copy.TopicID}, t.copy.Partition)
	}
}

// giveUp stops waiting for a store that does not answer for a span that has
// ended. What has a producer id goes on: the sealed state tells whether it
// landed. The rest is answered as unknown.
func (p *Partition) giveUp(t *target) {
	for f := t.flying.head; f != nil; {
		next := f.next
		t.flying.remove(f)
		p.detach(f, t)
		f = next
	}
	p.settle(t)
}

// detach separates an append from the flight that the store still has.
func (p *Partition) detach(f *flight, t *target) {
	g := flightPool.Get().(*flight)
	// All but sa, which is the store's until it has called Done.
	g.a, g.p, g.t, g.ticket = f.a, f.p, f.t, f.ticket
	g.chunk, g.at, g.size = f.chunk, f.at, f.size
	g.lease = f.lease
	g.deadline, g.since, g.came, g.held, g.rejected = f.deadline, f.since, f.came, f.held, f.rejected
	g.txn, g.rewritten = f.txn, f.rewritten
	g.producer, g.epoch, g.records, g.first, g.last = f.producer, f.epoch, f.records, f.first, f.last
	g.chunk.retain()
	g.shared, g.unknown, g.floor = true, true, f.floor
	t.doubt(g, time.Now())
	f.abandoned, f.a = true, nil
	if g.hasProducer() && time.Now().Before(g.deadline) {
		t.returned = append(t.returned, g)
		return
	}
	t.acks.lostSight(g)
	p.sentBack(g, t, ErrTimedOut)
}
