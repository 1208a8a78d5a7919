package gateway

import (
	"time"

	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

// Memory of requests on their way in. What a frame needs beyond wire.FreeFrame is taken from the gateway's budget
// of arriving requests before it is allocated, all at once, and until then the socket is not
// read: its client is pushed back by TCP. A Produce request moves to the budget of those in flight when
// it is whole, any other one stays where it is until it is done. Nobody who waits for the first
// holds any of it, and what is in flight ends without it, so none waits for another for ever; and a
// frame that does not come at FrameRate gives its share back with its connection.

// arrival is what a connection's frame has of the budget. Only the reader uses it.
type arrival struct {
	n  int64
	of *usage.Account // whose it is: the connection may become another's meanwhile
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
	c.arrived = arrival{int64(n), of}
	c.in.waited(time.Since(began))
	return nil
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
		c.arrived = arrival{}
	}
}
