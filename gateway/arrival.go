package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

// Memory of requests on their way in. What a frame needs beyond wire.FreeFrame is taken from the gateway's budget
// of arriving requests before it is allocated, all at once, and until then the socket is not
// read: its client is pushed back by TCP. A Produce request moves to the budget of those in flight when
// it is whole, any other one stays where it is until it is done. Nobody who waits for the first
// holds any of it, and what is in flight ends without it, so none waits for another for ever; and a
// frame that does not come at FrameRate gives its share back with its connection. While an owner
// waits that has nothing here, frames have to come faster.

// arrival is what a connection's frame has of the budget. Only the reader uses it.
type arrival struct {
	n  int64
	of *usage.Account // whose it is: the connection may become another's meanwhile
	by *coming        // nil: small, or whole
}

// comings are frames over smallRequest that are on their way in.
type comings struct {
	mu  sync.Mutex
	all map[*coming]bool // true: its connection was ended, and its room is on the way
}

type coming struct {
	c     *conn
	of    *usage.Account
	n     int64
	since time.Time // when it had its room
	got   atomic.Int64
}

// hurried is how many times FrameRate a frame has to come at while another owner waits for the room.
const hurried = 16

// hurry ends the connection whose frame would keep the room for longest of those that come slowly, if none is being
// ended. of is the owner that waits. Those that come at a common rate are left alone: they end soon enough.
func (g *Gateway) hurry(of *usage.Account, still func() bool) {
	if of == &g.nobody {
		return // strangers wait
	}
	now := time.Now()
	g.comings.mu.Lock()
	var slow *coming
	longest := 0.0
	for co, ended := range g.comings.all {
		if ended {
			g.comings.mu.Unlock()
			return
		}
		age := now.Sub(co.since)
		if co.of == of || age < g.cfg.RoomPatience {
			continue
		}
		rate := float64(co.got.Load()) / age.Seconds()
		if rate >= hurried*float64(g.cfg.FrameRate) {
			continue
		}
		if left := float64(co.n-co.got.Load()) / max(rate, 1); slow == nil || left > longest {
			slow, longest = co, left
		}
	}
	// A connection that was ended is here until its room is back: then there may be enough.
	if slow != nil && still() {
		g.comings.all[slow] = true
	} else {
		slow = nil
	}
	g.comings.mu.Unlock()
	if slow != nil {
		slow.c.end(errHurried)
	}
}

// owner is whose memory a frame is: what is nobody's yet has one share together.
func (c *conn) owner() *usage.Account {
	if c.account == nil {
		return &c.g.nobody
	}
	return c.account
}

// arrives waits until a frame may have n bytes.
func (c *conn) arrives(n int) error {
	began := time.Now()
	of := c.owner()
	if err := c.g.arriving.acquire(c.ctx, c.g.drained, int64(n), of); err != nil {
		return err
	}
	c.arrived = arrival{n: int64(n), of: of}
	if n > smallRequest {
		co := &coming{c: c, of: of, n: int64(n), since: time.Now()}
		c.arrived.by, c.in.coming = co, co
		c.g.comings.mu.Lock()
		c.g.comings.all[co] = false
		c.g.comings.mu.Unlock()
	}
	c.in.waited(time.Since(began))
	return nil
}

// whole tells that all of the frame is there: it waits for nothing that its client has to do.
func (c *conn) whole() {
	co := c.arrived.by
	if co == nil {
		return
	}
	c.arrived.by, c.in.coming = nil, nil
	c.g.comings.mu.Lock()
	delete(c.g.comings.all, co)
	c.g.comings.mu.Unlock()
}

// enters counts a whole Produce request among those in flight, for which a large one waits until
// there is room. From there on its flight gives it back.
func (c *conn) enters(frame *wire.Buffer) error {
	if c.arrived.n == 0 {
		c.g.budget.take(int64(frame.Cap()), c.account)
		return nil
	}
	if err := c.g.budget.acquire(c.ctx, nil, int64(frame.Cap()), c.account); err != nil {
		return err
	}
	c.leaves()
	return nil
}

// leaves gives back what the frame has.
func (c *conn) leaves() {
	if c.arrived.n > 0 {
		c.g.arriving.put(c.arrived.n, c.arrived.of)
		c.whole() // only now: until its room is back nobody else is hurried
		c.arrived = arrival{}
	}
}
