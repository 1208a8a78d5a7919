package catalog

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
)

// Patience of a process that ends: with a catalog that is connected, with the first request while it is not, and
// with each after one that had no answer.
const (
	lastAnswer = 5 * time.Second
	lastTry    = time.Second
	nextTries  = 200 * time.Millisecond
)

// leaving is what a client knows of its process's end. Until then a request waits for the catalog as long as its
// caller does: it may come back. A process that ends has no use for that, and several requests one after
// the other to make: what they would give back ends by itself with the lease.
type leaving struct {
	begun atomic.Bool
	away  atomic.Bool // a request had no answer since
}

// Leave says that the process ends: what it still asks of a catalog that does not answer is given up soon.
func (c *Catalog) Leave() { c.begun.Store(true) }

// bounded gives a request its time limit, since the etcd client waits for a
// server without end.
func (c *Catalog) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if !c.begun.Load() {
		return context.WithTimeout(ctx, c.answer)
	}
	patience := min(lastAnswer, c.answer)
	switch {
	case c.away.Load():
		patience = min(nextTries, patience)
	case c.cli.ActiveConnection().GetState() != connectivity.Ready:
		patience = min(lastTry, patience)
	}
	call, cancel := context.WithTimeout(ctx, patience)
	return call, func() {
		if call.Err() != nil && ctx.Err() == nil {
			c.away.Store(true)
		}
		cancel()
	}
}
