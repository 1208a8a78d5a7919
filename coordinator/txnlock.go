package coordinator

import (
	"context"
	"sync"

	"github.com/braidstream/braid/wire"
)

// txnLocks lets one request at a time work on a transactional id, as long as it
// needs others for that: clusters, markers. Clients send one at a time, so
// nobody waits but for a timeout or a second incarnation.
type txnLocks struct {
	mu   sync.Mutex
	held map[groupKey]*txnLock
}

type txnLock struct {
	turn chan struct{}
	refs int
}

// take waits for the key's turn. unlock is to be called once if the code is None.
func (l *txnLocks) take(ctx context.Context, key groupKey) (unlock func(), code wire.Code) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[groupKey]*txnLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &txnLock{turn: make(chan struct{}, 1)}
		l.held[key] = k
	}
	k.refs++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		if k.refs--; k.refs == 0 {
			delete(l.held, key)
		}
		l.mu.Unlock()
	}
	select {
	case k.turn <- struct{}{}:
		return func() {
			<-k.turn
			leave()
		}, wire.None
	case <-ctx.Done():
		leave()
		return nil, wire.ConcurrentTransactions
	}
}

// ask runs fn in the machine that holds the key, and returns what it said once
// everything that it had written is durable.
func ask[T any](ctx context.Context, c *Coordinator, key groupKey, fn func(m *machine) (T, wire.Code)) (T, wire.Code) {
	type result struct {
		value T
		code  wire.Code
	}
	var zero T
	r := await(ctx, func(done func(result)) {
		code := c.within(key.tenant, key.group, func(m *machine) {
			value, code := fn(m)
			m.durably(func() { done(result{value, code}) }, func(code wire.Code) { done(result{zero, code}) })
		})
		if code != wire.None {
			done(result{zero, code})
		}
	}, func() result { return result{zero, wire.RequestTimedOut} })
	return r.value, r.code
}
