package gateway

import (
	"context"
	"net/netip"
	"runtime"
	"time"

	"github.com/braidstream/braid/fair"
)

// Turns of tenants at the gateway's processors. Go knows no priorities: what a thousand
// connections have ready to run is run in the order in which it became ready, and a
// connection that has little to ask for waits for all of it. So no more requests are worked on at
// once than there are processors, and while more than that want to be, tenants take turns by the
// time that they have used. That is felt where work is long enough to be interrupted: large requests,
// records that have to be unpacked, metadata of many topics. Who comes with a small request mostly
// has a processor already, and so a place. Only work is done within a turn, and nothing is waited for: the waits
// of requests, for records, a cluster or the catalog, are outside of it, and so are writes to
// clients. With one tenant there are no turns.

// stallAfter is how long requests may be within their turns, all of them, before another
// goes on as well: work takes much less, so they wait for something all the same.
const stallAfter = 20 * time.Millisecond

// sendCost is what a byte sent costs of a processor, ns: about 0.25 s/GiB on a common machine.
const sendCost = 0.25

func newTurns() (work, signing *fair.Gate) {
	n := runtime.GOMAXPROCS(0)
	// TLS handshakes and passwords may have half of the processors: those who are signed on
	// go on while thousands come.
	return fair.NewGate(n, stallAfter), fair.NewGate(max(1, n/2), stallAfter)
}

// begin waits for the turn of the connection's tenant. Only the reader calls it and finish.
func (c *conn) begin() error {
	if c.pass.Held() || c.account == nil || !c.g.usage.Several() {
		return nil
	}
	var err error
	if c.pass, err = c.g.work.Enter(c.ctx, c.tenant); err != nil {
		return context.Cause(c.ctx)
	}
	c.queued += c.pass.Waited()
	c.account.Waited(c.pass.Waited())
	return nil
}

// finish ends the turn, if there is one.
func (c *conn) finish() { c.pass.Leave(0) }

// aside does what may wait outside of the turn.
func (c *conn) aside(f func()) {
	held := c.pass.Held()
	c.finish()
	f()
	if held {
		// It fails with the connection, whose request is ended soon enough.
		_ = c.begin()
	}
}

// worked counts work that was done outside of turns against the tenant's next ones.
func (c *conn) worked(d time.Duration) {
	if c.account != nil && c.g.usage.Several() {
		c.g.work.Pay(c.tenant, int64(d))
	}
}

// signing is a connection that shakes hands by TLS: it needs a turn for what it computes, and none
// while it waits for the client. Addresses take turns, and those of one come in the order of
// their arrival.
type signing struct {
	g    *Gateway
	ctx  context.Context
	from netip.Prefix
	pass fair.Pass
}

// read reads outside of the turn.
func (s *signing) read(from func([]byte) (int, error), b []byte) (int, error) {
	s.pass.Leave(0)
	n, err := from(b)
	if err != nil {
		return n, err
	}
	if s.pass, err = s.g.signing.Enter(s.ctx, s.from.String()); err != nil {
		return n, err
	}
	return n, nil
}
