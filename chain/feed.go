package chain

import (
	"context"
	"math"
	"time"

	"github.com/braidstream/braid/span"
)

// waiter is a reader at the end of the log.
type waiter struct {
	offset int64
	wake   func()
}

// Notify calls wake once, when records at or past offset may be had or the chain
// has changed; maybe before Notify returns. It keeps the partition listening for
// records of other gateways. cancel ends it; wake may still come once after.
// wake must not block and must not call this partition.
func (p *Partition) Notify(offset int64, wake func()) (cancel func()) {
	p.lastUse.Store(time.Now().UnixNano())
	p.mu.Lock()
	defer p.unlock()
	v := p.view.Load()
	pl, err := Locate(v.chain, offset)
	open := pl.Span >= 0 && v.chain.Spans[pl.Span].IsOpen()
	if open {
		offset = pl.Offset // who stands in a gap waits for what is behind it
	}
	switch {
	case p.dead != nil, err != nil:
		p.wakes = append(p.wakes, wake)
		return nothing
	case pl.Span < 0:
		// Only another version of the chain can bring something.
	case open && p.mute == p.hwSeq && offset >= p.tail.end():
		// Nothing of the span is served now; the next version of the chain wakes, or
		// the end of the seal.
	case open && offset < p.lso:
		p.wakes = append(p.wakes, wake)
		return nothing
	case !open || offset < p.hw:
		// There is something, and maybe not for this reader: one of committed records
		// may stand here for as long as a transaction is open, and of a compacted span
		// nothing may be left. It looks again, but not in a tight loop.
		t := time.AfterFunc(2*time.Millisecond, wake)
		return func() { t.Stop() }
	}
	w := &waiter{offset, wake}
	p.waiters[w] = struct{}{}
	p.startFollowing()
	return func() {
		p.mu.Lock()
		delete(p.waiters, w)
		p.unlock()
	}
}

// wakeUpTo wakes readers that wait for an offset below next. Needs mu.
func (p *Partition) wakeUpTo(next int64) {
	for w := range p.waiters {
		if w.offset < next {
			delete(p.waiters, w)
			p.wakes = append(p.wakes, w.wake)
		}
	}
}

func (p *Partition) wakeAll() { p.wakeUpTo(math.MaxInt64) }

const (
	// feedWait is one long poll of the follower.
	feedWait = 500 * time.Millisecond
	feedMax  = 1 << 20
	// ownQuiet is how long after an own append the follower keeps still: while
	// appends through this gateway follow each other without a gap, nobody else
	// appends, and a poll would only fetch what is here already.
	ownQuiet = 20 * time.Millisecond
	// feedLinger is how long the follower goes on without a waiting reader.
	feedLinger = 3 * time.Second
	// feedChase is how many reads the follower takes to catch up before it
	// jumps to the end; who is behind reads by itself.
	feedChase = 8
)

// startFollowing makes sure that one follower listens. Needs mu.
func (p *Partition) startFollowing() {
	if p.following || p.dead != nil {
		return
	}
	p.following = true
	p.l.run(p.followEnd)
}

// followEnd is the partition's one reader at the copy: however many consumers
// wait, their records are fetched once.
func (p *Partition) followEnd(ctx context.Context) {
	var idle time.Time
	wait := 50 * time.Millisecond
	chase := 0
	for {
		p.mu.Lock()
		v := p.view.Load()
		s := OpenSpan(v.chain)
		now := time.Now()
		if len(p.waiters) > 0 {
			idle = time.Time{}
		} else if idle.IsZero() {
			idle = now
		}
		if p.dead != nil || ctx.Err() != nil || !idle.IsZero() && now.Sub(idle) > feedLinger {
			p.following = false
			p.dropEarly()
			p.unlock()
			return
		}
		if s == nil || p.mute == s.Seq {
			// The chain will change, or the extend is undone before it seals; both poke.
			p.unlock()
			p.pause(ctx, feedWait)
			continue
		}
		end := p.tail.end()
		if quiet := now.Sub(p.ownAck); quiet < ownQuiet && end == p.hw {
			p.heardAt = now
			p.unlock()
			p.pause(ctx, ownQuiet-quiet)
			continue
		}
		pos := p.hw
		switch {
		case end >= 0 && end < p.hw && chase < feedChase && p.l.cache.limit > 0:
			pos = max(end, s.Start)
			chase++
		case end >= 0 && end < p.hw:
			p.dropEarly()
			p.l.cache.shrink(p, p.tail.clear())
			chase = 0
		default:
			chase = 0
		}
		h, err := p.logOf(s)
		p.unlock()
		if err == nil {
			err = p.followOnce(ctx, v, s.Seq, h, pos)
		}
		if err != nil {
			p.mu.Lock()
			p.heardAt = time.Time{}
			p.forgetHandle(s.Seq)
			p.unlock()
			p.pause(ctx, wait)
			wait = min(2*wait, time.Second)
			continue
		}
		wait = 50 * time.Millisecond
	}
}

func (p *Partition) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.follow:
	case <-ctx.Done():
	}
}

// followOnce reads the open span once from pos on.
func (p *Partition) followOnce(ctx context.Context, v *view, seq int32, h handle, pos int64) error {
	lease := p.l.lease()
	rr, err := h.log.Read(ctx, span.ReadRequest{Offset: ToPhysical(h.copy, pos), MaxBytes: feedMax, MaxWait: feedWait})
	if err != nil {
		s := OpenSpan(v.chain)
		if e := p.readFailed(ctx, v, s, err); e == errChanged {
			return nil
		}
		return err
	}
	p.l.metrics.FeedBytes.Add(float64(len(rr.Batches)))
	alive := p.l.source.CanSeal(h.copy.Cluster) || p.mayServe(lease, h.copy)
	p.mu.Lock()
	defer p.unlock()
	s := OpenSpan(p.view.Load().chain)
	if s == nil || s.Seq != seq || p.mute == seq || !alive || p.dead != nil {
		// Received after the seal was heard of: not served, see readOpen.
		p.wakes = append(p.wakes, rr.Release)
		return nil
	}
	res := ReadResult{}
	if err := patch(&res, &rr, h.copy, s, math.MaxInt64); err != nil {
		p.wakes = append(p.wakes, rr.Release)
		return err
	}
	// Into the cache first: who is woken finds it there.
	p.cacheRead(res.Batches, max(rr.Held, len(res.Batches)), rr.Release, pos, seq)
	p.heard(s, h.copy, &rr)
	return nil
}
