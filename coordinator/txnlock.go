package coordinator

import (
	"context"
	"sync"

	"github.com/braidstream/braid/wire"
)

// txnLocks lets one request at a time work on a transactional id, as long as it
// needs others for that: clusters, markers. Requests that only take a partition into the transaction go side by
// side, one for each partition. Clients end a transaction when they have all answers, so nobody
// else waits but for a timeout or a second incarnation.
type txnLocks struct {
	mu   sync.Mutex
	held map[groupKey]*txnLock
}

type txnLock struct {
	refs    int
	whole   bool              // held by one that has the id for itself
	wanted  int               // that wait for this: no other part's turn begins meanwhile
	by      map[lockPart]bool // parts whose turn it is
	changed chan struct{}     // closed when a turn is over
}

// lockPart is a partition of a transaction, or all that is to begin on a cluster.
type lockPart struct {
	partition partKey
	cluster   string
}

// take waits for the key's turn, to have it alone. unlock is to be called once if the code is None.
func (l *txnLocks) take(ctx context.Context, key groupKey) (unlock func(), code wire.Code) {
	return l.turn(ctx, key, func(k *txnLock) bool {
		if k.whole || len(k.by) > 0 {
			return false
		}
		k.whole = true
		return true
	}, func(k *txnLock) { k.whole = false }, true)
}

// takePart waits for the turn of a part. Who has one may wait for a second, with more set: whoever wants the id for
// itself then waits for both.
func (l *txnLocks) takePart(ctx context.Context, key groupKey, part lockPart, more bool) (unlock func(), code wire.Code) {
	return l.turn(ctx, key, func(k *txnLock) bool {
		if k.whole || k.wanted > 0 && !more || k.by[part] {
			return false
		}
		if k.by == nil {
			k.by = map[lockPart]bool{}
		}
		k.by[part] = true
		return true
	}, func(k *txnLock) { delete(k.by, part) }, false)
}

// turn waits until try succeeds; end undoes that. Both are called with mu held.
func (l *txnLocks) turn(ctx context.Context, key groupKey, try func(*txnLock) bool, end func(*txnLock), whole bool) (unlock func(), code wire.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[groupKey]*txnLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &txnLock{changed: make(chan struct{})}
		l.held[key] = k
	}
	k.refs++
	if whole {
		k.wanted++
		defer func() { k.wanted-- }()
	}
	leave := func() {
		if k.refs--; k.refs == 0 {
			delete(l.held, key)
		}
		close(k.changed)
		k.changed = make(chan struct{})
	}
	for !try(k) {
		changed := k.changed
		l.mu.Unlock()
		select {
		case <-changed:
			l.mu.Lock()
		case <-ctx.Done():
			l.mu.Lock()
			leave() // also for those that waited only since this one wanted the id for itself
			return nil, wire.ConcurrentTransactions
		}
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		end(k)
		leave()
	}, wire.None
}

// ask runs fn in the machine that holds the key, and returns what it said once
// everything that it had written is durable.
func ask[T any](ctx context.Context, c *Coordinator, key groupKey, fn func(m *machine) (T, wire.Code)) (T, wire.Code) {
	return askFor(ctx, c, key, fn, func(T) bool { return true })
}

// askFor is ask, but for results that promise nothing: those are returned at once.
func askFor[T any](ctx context.Context, c *Coordinator, key groupKey, fn func(m *machine) (T, wire.Code), promises func(T) bool) (T, wire.Code) {
	type result struct {
		value T
		code  wire.Code
	}
	var zero T
	r := await(ctx, func(done func(result)) {
		code := c.within(key.tenant, key.group, func(m *machine) {
			value, code := fn(m)
			if code == wire.None && !promises(value) {
				m.reply(func() { done(result{value, code}) })
				return
			}
			m.durably(func() { done(result{value, code}) }, func(code wire.Code) { done(result{zero, code}) })
		})
		if code != wire.None {
			done(result{zero, code})
		}
	}, func() result { return result{zero, wire.RequestTimedOut} })
	return r.value, r.code
}
