package kafka

import (
	"context"
	"sync"
	"time"
)

// gather joins questions of many callers into few requests: the first goes at
// once, and what comes while a request is under way goes together in the next. A
// broker serves one request of a connection at a time, and a change of the cluster
// costs its controller about as much for one topic as for many.
type gather[Q, A any] struct {
	s *Store
	// most bounds the questions of one request.
	most int
	// key, if set, tells questions that must not share a request: those of equal keys.
	key func(Q) string
	// send asks them all; one answer each.
	send func(ctx context.Context, qs []Q) ([]A, error)

	mu      sync.Mutex
	waiting []*gathered[Q, A]
	running bool
}

type gathered[Q, A any] struct {
	q    Q
	a    A
	err  error
	done chan struct{}
}

// do asks. When the caller's context ends first the question may be asked all the same.
func (g *gather[Q, A]) do(ctx context.Context, q Q) (A, error) {
	w := &gathered[Q, A]{q: q, done: make(chan struct{})}
	var none A
	g.s.closeMu.RLock()
	if g.s.closed {
		g.s.closeMu.RUnlock()
		return none, unavailable(errClosed)
	}
	g.mu.Lock()
	g.waiting = append(g.waiting, w)
	if !g.running {
		g.running = true
		g.s.spawn(g.run)
	}
	g.mu.Unlock()
	g.s.closeMu.RUnlock()
	select {
	case <-w.done:
		return w.a, w.err
	case <-ctx.Done():
		return none, unavailable(ctx.Err())
	}
}

// run asks until nobody waits.
func (g *gather[Q, A]) run() {
	for {
		g.mu.Lock()
		var now, later []*gathered[Q, A]
		seen := map[string]bool{}
		for _, w := range g.waiting {
			k := ""
			if g.key != nil {
				k = g.key(w.q)
			}
			if len(now) >= g.most || g.key != nil && seen[k] {
				later = append(later, w)
				continue
			}
			seen[k] = true
			now = append(now, w)
		}
		g.waiting = later
		if len(now) == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		qs := make([]Q, len(now))
		for i, w := range now {
			qs[i] = w.q
		}
		ctx, cancel := context.WithTimeout(g.s.closing, gatherTime)
		as, err := g.send(ctx, qs)
		cancel()
		for i, w := range now {
			if w.err = err; err == nil {
				w.a = as[i]
			}
			close(w.done)
		}
	}
}

// gatherTime bounds one request with its retries: a caller's own time is not that
// of those who share its request.
const gatherTime = 30 * time.Second
