package gateway

import (
	"sync"

	"github.com/braidstream/braid/catalog"
)

// view is the fleet and the topics as the clients of one listener see them at
// one snapshot. It is immutable but for the answers that it keeps.
type view struct {
	snapshot *catalog.Snapshot
	brokers  *brokers

	// whole is shared with the views before and after that differ in neither
	// topics nor gateways.
	whole *wholeAnswers
}

// wholeAnswers are encoded answers to "all topics", by tenant and version: with
// ten thousand topics they take milliseconds to make and many clients ask. Votes,
// shards and leases change the catalog all the time and none of this.
type wholeAnswers struct {
	mu sync.Mutex
	by map[wholeKey][]byte
	// size is about what an answer takes: the largest one before the last change.
	size int
}

// next gives room for the answers after a change.
func (w *wholeAnswers) next() *wholeAnswers {
	n := &wholeAnswers{by: map[wholeKey][]byte{}}
	if w == nil {
		return n
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.by) == 0 {
		n.size = w.size
	}
	for _, b := range w.by {
		n.size = max(n.size, len(b)+len(b)/16)
	}
	return n
}

type wholeKey struct {
	tenant  string
	version int16
	flags   byte
}

// views keeps the latest view of each listener; of each of its tenants, where they
// are told apart by the server's name.
type views struct {
	mu sync.Mutex
	by map[viewKey]*view
}

type viewKey struct {
	l      *listener
	tenant string // "" unless the client's server name said it
}

// view is what the connection's client sees of the latest snapshot.
func (c *conn) view() *view { return c.g.viewOf(viewKey{c.l, c.label}) }

// view returns the listener's view of the latest snapshot.
func (g *Gateway) view(l *listener) *view { return g.viewOf(viewKey{l: l}) }

func (g *Gateway) viewOf(k viewKey) *view {
	l, s := k.l, g.watcher.Snapshot()
	g.views.mu.Lock()
	defer g.views.mu.Unlock()
	v := g.views.by[k]
	if v != nil && v.snapshot == s {
		return v
	}
	old := v
	v = &view{snapshot: s, brokers: newBrokers(s.Gateways(), l.cfg.Name, firstOf(l.cfg.Zone, g.opts.Zone), l.self)}
	v.brokers.called(k.tenant, l.cfg.ServerNames)
	if old != nil && s.SameTopics(old.snapshot) && s.SameGateways(old.snapshot) {
		v.whole = old.whole
	} else {
		var before *wholeAnswers
		if old != nil {
			before = old.whole
		}
		v.whole = before.next()
	}
	g.views.by[k] = v
	return v
}
