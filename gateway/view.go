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

	mu sync.Mutex
	// whole holds encoded answers to "all topics", by tenant and version: with
	// ten thousand topics they take milliseconds to make and many clients ask.
	whole map[wholeKey][]byte
}

type wholeKey struct {
	tenant  string
	version int16
	flags   byte
}

// views keeps the latest view of each listener.
type views struct {
	mu sync.Mutex
	by map[*listener]*view
}

// view returns the listener's view of the latest snapshot.
func (g *Gateway) view(l *listener) *view {
	s := g.watcher.Snapshot()
	g.views.mu.Lock()
	defer g.views.mu.Unlock()
	v := g.views.by[l]
	if v != nil && v.snapshot == s {
		return v
	}
	v = &view{snapshot: s, brokers: newBrokers(s.Gateways(), l.cfg.Name, firstOf(l.cfg.Zone, g.opts.Zone), l.self)}
	g.views.by[l] = v
	return v
}
