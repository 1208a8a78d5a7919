package fair

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Gate lets a number of pieces of work go on at the same time. While there is a free place,
// who comes goes through at once, which costs two atomic operations. Once there is none, owners
// take turns by the time that they have used (see [Line]).
//
// What is done within is work, and waits for nothing. Should all who are within wait for
// something all the same, others are let in one after the other, so that they do not stand
// still: see [NewGate].
type Gate struct {
	places int64
	stall  time.Duration

	// state is how many are within and, from bit 32 on, how many wait. Who comes counts
	// itself as waiting before it looks for a place again, who leaves gives its place back before it
	// looks for those who wait: one of the two sees the other.
	state atomic.Int64
	usual atomic.Int64 // cost of a turn, ns

	mu      sync.Mutex
	line    Line[*waiter]
	turns   uint64 // how many were given
	seen    uint64 // of turns, when the timer was set
	timer   *time.Timer
	watched bool // the timer runs
}

type waiter struct {
	turn chan struct{} // closed when it is given
	had  bool          // under Gate.mu
	gone bool          // it does not wait any more
	paid int64
}

const aWaiter = int64(1) << 32

// NewGate makes a gate with a number of places. When no turn ended for as long as stall
// while somebody waits, one more is let in: those within wait for something, or have been kept
// from working by the machine.
func NewGate(places int, stall time.Duration) *Gate {
	return &Gate{places: int64(max(places, 1)), stall: stall}
}

// Pass is a place within a gate, to be given back by Leave. The zero value is none.
type Pass struct {
	g      *Gate
	owner  string
	paid   int64
	began  time.Time
	waited time.Duration
}

// Held tells whether there is a place to give back.
func (p *Pass) Held() bool { return p.g != nil }

// Waited is for how long the turn was waited for.
func (p *Pass) Waited() time.Duration { return p.waited }

// Enter waits for a turn. An error is that of the context, which ended while it waited; no place
// is held then.
func (g *Gate) Enter(ctx context.Context, owner string) (Pass, error) {
	for {
		s := g.state.Load()
		if s >= g.places { // somebody waits, or all places are taken
			break
		}
		if g.state.CompareAndSwap(s, s+1) {
			return Pass{g: g, owner: owner, began: time.Now()}, nil
		}
	}
	came := time.Now()
	w := &waiter{turn: make(chan struct{})}
	g.mu.Lock()
	g.state.Add(aWaiter)
	g.line.Push(owner, w)
	g.let(g.places) // a place may have become free since
	if w.had {
		g.mu.Unlock()
		return Pass{g: g, owner: owner, paid: w.paid, began: came}, nil
	}
	g.watch()
	g.mu.Unlock()
	select {
	case <-w.turn:
	case <-ctx.Done():
		g.mu.Lock()
		if !w.had {
			w.gone = true
			g.state.Add(-aWaiter)
			g.mu.Unlock()
			return Pass{}, ctx.Err()
		}
		g.mu.Unlock()
		p := Pass{g: g, owner: owner, paid: w.paid, began: time.Now()}
		p.Leave(0)
		return Pass{}, ctx.Err()
	}
	now := time.Now()
	return Pass{g: g, owner: owner, paid: w.paid, began: now, waited: now.Sub(came)}, nil
}

// Leave gives the place back, and counts the time since it was taken and what else is
// said, ns, for what the owner has used.
func (p *Pass) Leave(more int64) {
	g := p.g
	if g == nil {
		return
	}
	p.g = nil
	cost := min(int64(time.Since(p.began))+more, mostCost)
	// A moving mean that loses updates now and then is as good.
	g.usual.Store(g.usual.Load() + (cost-g.usual.Load())/16)
	if s := g.state.Add(-1); s < aWaiter && p.paid == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.paid != 0 || g.line.Len() > 0 {
		g.line.Pay(p.owner, cost-p.paid)
	}
	g.let(g.places)
}

// Pay counts time, ns, that an owner has used outside of the gate, if anybody waits.
func (g *Gate) Pay(owner string, cost int64) {
	if cost <= 0 || g.state.Load() < aWaiter {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.line.Len() > 0 {
		g.line.Pay(owner, min(cost, mostCost))
	}
}

// mostCost bounds what one turn counts for, ns: what took longer was kept waiting.
const mostCost = int64(20 * time.Millisecond)

// let gives turns while there are fewer than most within. Needs mu.
func (g *Gate) let(most int64) {
	for g.line.Len() > 0 && g.state.Load()%aWaiter < most {
		owner, w, _ := g.line.Pop()
		if w.gone {
			continue
		}
		w.had = true
		// What it will cost is not known yet. It is paid for now, so that an owner does
		// not get all places by the same clock.
		w.paid = max(g.usual.Load(), 1)
		g.line.Pay(owner, w.paid)
		g.turns++
		g.state.Add(1 - aWaiter)
		close(w.turn)
	}
}

// watch looks, while somebody waits, whether turns are given. Needs mu.
func (g *Gate) watch() {
	if g.watched {
		return
	}
	g.watched, g.seen = true, g.turns
	if g.timer == nil {
		g.timer = time.AfterFunc(g.stall, g.stalled)
		return
	}
	g.timer.Reset(g.stall)
}

func (g *Gate) stalled() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.line.Len() > 0 && g.turns == g.seen {
		g.let(g.state.Load()%aWaiter + 1)
	}
	g.watched = false
	if g.line.Len() > 0 {
		g.watch()
	}
}

// Waiting is how many wait.
func (g *Gate) Waiting() int { return int(g.state.Load() / aWaiter) }
