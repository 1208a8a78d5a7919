package chain

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Partition is one logical partition, as this gateway serves it. All methods may
// be called concurrently. Handles are shared and need not be given back.
type Partition struct {
	l      *Logs
	topic  catalog.ID
	index  int32
	tenant string

	view    atomic.Pointer[view]
	lastUse atomic.Int64 // coarse clock, for the cache

	mu   sync.Mutex
	dead error // the topic is gone, or the Logs are closed

	// Appends.
	cur      *target
	tickets  uint64
	fill     filler
	held     []*flight // by ticket; what cannot be submitted now
	out      []*flight // to be submitted, in order, by whoever is in unlock
	spare    []*flight
	sending  bool      // somebody is calling the store
	done     []*flight // to be answered after unlock
	spare2   []*flight
	wakes    []func() // to be called after unlock
	learning bool
	poke     chan struct{} // wakes the learner
	expect   map[int64]expectation
	// expectFull: until then there may be more expectations than expect holds.
	expectFull time.Time
	asked      asking
	ended      []*endedSpan // spans that ended here and are to be reported
	warm       *warmed      // the copy that comes next; nil if none is known

	// Reads.
	handles map[int32]handle // by Span.Seq
	tail    tail
	early   []early // by offset; acknowledged, and not yet joined to the tail
	// hw and lso are lower bounds for the open span hwSeq; -1 unknown.
	hw, lso int64
	hwSeq   int32
	// mute is the Seq of an open span whose bytes are not served any more if they
	// arrive from now on: it is being sealed, and the end is not known. -1 none.
	mute      int32
	waiters   map[*waiter]struct{}
	following bool
	follow    chan struct{} // wakes the follower
	ownAck    time.Time     // when an own append was last put into the tail
	heardAt   time.Time     // when the copy last told hw, or there was no need to ask it
}

// view is one version of the chain.
type view struct {
	chain    *catalog.Chain
	revision int64
}

type handle struct {
	store span.Store
	log   span.Log
	copy  *catalog.Copy
}

// expectation: a producer unknown to all copies had its batch with sequence
// first sent back, so a later one must not be placed before it comes again.
type expectation struct {
	epoch int16
	first int32
	until time.Time
}

func newPartition(l *Logs, topic catalog.ID, index int32) *Partition {
	t, _ := l.source.Topic(topic) // a topic that is gone has nobody's partitions
	return &Partition{l: l, topic: topic, index: index, tenant: t.Tenant, hw: -1, lso: -1, hwSeq: -1, mute: -1,
		poke: make(chan struct{}, 1), follow: make(chan struct{}, 1),
		handles: map[int32]handle{}, waiters: map[*waiter]struct{}{}}
}

// owner is whose appends they are, as stores are told: those of the system itself are nobody's.
func (p *Partition) owner() string {
	if p.tenant == catalog.SystemTenant {
		return ""
	}
	return p.tenant
}

// unlock does what was left to do outside of the lock: it calls the store for
// what is to be submitted, in order, answers callers, and wakes readers. Every
// path that locked mu leaves through it. One goroutine at a time submits, so
// that the order of out is the order of the store's calls.
func (p *Partition) unlock() {
	for {
		if len(p.out) > 0 && !p.sending {
			p.sending = true
			out := p.out
			p.out, p.spare = p.spare[:0], nil
			p.mu.Unlock()
			for i, f := range out {
				out[i] = nil
				f.t.log.Append(&f.sa)
			}
			p.mu.Lock()
			p.sending = false
			if p.spare = out[:0]; cap(out) > 1024 {
				p.spare = nil
			}
			continue
		}
		if len(p.done) == 0 && len(p.wakes) == 0 {
			p.mu.Unlock()
			return
		}
		done, wakes := p.done, p.wakes
		p.done, p.spare2, p.wakes = p.spare2[:0], nil, nil
		p.mu.Unlock()
		for i, f := range done {
			done[i] = nil
			a := f.a
			f.free()
			a.Done(a)
		}
		for _, wake := range wakes {
			wake()
		}
		p.mu.Lock()
		if p.spare2 = done[:0]; cap(done) > 1024 {
			p.spare2 = nil
		}
	}
}

// update takes over the chain as the source has it. A version older than what is
// known is left alone: watches repeat and lag.
func (p *Partition) update() {
	c, revision, err := p.l.source.Chain(p.topic, p.index)
	p.mu.Lock()
	defer p.unlock()
	if p.dead != nil {
		return
	}
	if err != nil {
		if errors.Is(err, ErrUnknownTopic) {
			p.kill(err)
		}
		return
	}
	v := p.view.Load()
	if v != nil && revision <= v.revision {
		p.reconsider()
		return
	}
	v = &view{c, revision}
	p.view.Store(v)
	open := OpenSpan(c)
	if open == nil || p.mute != open.Seq {
		p.mute = -1
	}
	p.dropHandles(c)
	p.dropLost(c)
	p.wakeAll()
	poke(p.follow)
	if t := p.cur; t != nil && (open == nil || open.Seq != t.seq) {
		if t.end < 0 {
			t.end, t.lossy = endOf(c, t)
			p.halt(t, stopEnded)
		}
	}
	if open != nil && p.hwSeq != open.Seq {
		// A lower bound; the copy tells more when it is asked.
		p.hwSeq, p.hw, p.lso, p.heardAt = open.Seq, open.Start, open.Start, time.Time{}
	}
	p.reconsider()
}

// reconsider moves on if what the partition waited for is there.
func (p *Partition) reconsider() {
	if t := p.cur; t != nil && t.stop != flowing {
		p.settle(t)
	}
	poke(p.poke)
}

// endOf tells where the chain says that a target's span ended.
func endOf(c *catalog.Chain, t *target) (end int64, lossy bool) {
	for i := range c.Spans {
		s := &c.Spans[i]
		if s.Seq == t.seq {
			return s.End, s.Hole
		}
		if s.Seq > t.seq {
			// It vanished empty, or was trimmed since.
			return s.Start, false
		}
	}
	return c.Start, false
}

// kill ends the partition: everything that waits gets err.
func (p *Partition) kill(err error) {
	p.dead = err
	held := p.held
	p.held = nil
	for _, f := range held {
		p.unhold(f)
		p.fail(f, err)
	}
	if t := p.cur; t != nil {
		for _, pl := range t.placing {
			if pl.judged != nil {
				p.fail(pl.judged, err)
			}
			for _, f := range pl.waiting {
				p.fail(f, err)
			}
		}
		t.placing = nil
		for _, f := range t.returned {
			p.fail(f, p.lateError(f, err))
		}
		t.returned = nil
		if t.stop == flowing {
			t.stop = stopEnded
		}
	}
	p.dropEarly()
	p.l.cache.shrink(p, p.tail.clear())
	p.fill.reset()
	for seq, h := range p.handles {
		p.wakes = append(p.wakes, h.log.Release)
		delete(p.handles, seq)
	}
	if w := p.warm; w != nil {
		p.warm = nil
		p.wakes = append(p.wakes, w.log.Release)
	}
	p.wakeAll()
	poke(p.poke)
	poke(p.follow)
}

// logOf returns the handle of a span's readable copy. Needs mu.
func (p *Partition) logOf(s *catalog.Span) (handle, error) {
	if h, ok := p.handles[s.Seq]; ok {
		return h, nil
	}
	i := ReadableCopy(s)
	if i < 0 {
		return handle{}, ErrUnavailable
	}
	c := &s.Copies[i]
	st, err := p.l.stores.Store(c.Cluster)
	if err != nil {
		return handle{}, because(ErrUnavailable, err)
	}
	h := handle{st, st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition), c}
	p.handles[s.Seq] = h
	return h, nil
}

// forgetHandle drops a handle after a failure if the cluster has another store
// by now, so that the next use finds it. Needs mu.
func (p *Partition) forgetHandle(seq int32) {
	h, ok := p.handles[seq]
	if !ok {
		return
	}
	if st, err := p.l.stores.Store(h.copy.Cluster); err == nil && st == h.store {
		return
	}
	delete(p.handles, seq)
	p.wakes = append(p.wakes, h.log.Release)
}

func (p *Partition) dropHandles(c *catalog.Chain) {
next:
	for seq, h := range p.handles {
		for i := range c.Spans {
			s := &c.Spans[i]
			if s.Seq == seq {
				if j := ReadableCopy(s); j >= 0 && s.Copies[j].TopicID == h.copy.TopicID {
					continue next
				}
			}
		}
		delete(p.handles, seq)
		p.wakes = append(p.wakes, h.log.Release)
	}
}

// dropLost takes out of the cache what the chain does not hold: records past the
// end of a span that ended with a loss.
func (p *Partition) dropLost(c *catalog.Chain) {
	if len(p.early) > 0 {
		// Rare, and not worth telling apart: readers fetch what was there.
		p.dropEarly()
	}
	for i := range p.tail.pieces {
		pc := &p.tail.pieces[i]
		for j := range c.Spans {
			if s := &c.Spans[j]; s.Seq == pc.span && !s.IsOpen() && (pc.next > s.End || leavesOut(s, pc.base, pc.next)) {
				p.dropEarly()
				p.l.cache.shrink(p, p.tail.clear())
				return
			}
		}
	}
}
