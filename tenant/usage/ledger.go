package usage

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Account counts what one tenant uses of one gateway. Its counters begin with the
// process and only grow. All methods may be called concurrently, on nil too: that is
// a connection that is nobody's yet.
type Account struct {
	received, sent, requests, opened atomic.Int64
	open, inflight, answering        atomic.Int64
	arriving                         atomic.Int64
	waits, waited                    atomic.Int64 // for turns; ns

	mu      sync.Mutex
	seconds float64 // connections times the time that they were open
	at      time.Time
}

// Received counts bytes that came from clients.
func (a *Account) Received(n int) {
	if a != nil {
		a.received.Add(int64(n))
	}
}

// Sent counts bytes that went to clients.
func (a *Account) Sent(n int64) {
	if a != nil {
		a.sent.Add(n)
	}
}

// Request counts a request.
func (a *Account) Request() {
	if a != nil {
		a.requests.Add(1)
	}
}

// Open counts a connection that is opened, unless most or more are open already; it tells
// whether it did.
func (a *Account) Open(most int64) bool {
	if a == nil {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open.Load() >= most {
		return false
	}
	a.pass(time.Now())
	a.open.Add(1)
	a.opened.Add(1)
	return true
}

// Close counts a connection that ends.
func (a *Account) Close() {
	if a != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pass(time.Now())
		a.open.Add(-1)
	}
}

// pass adds up the time that connections were open. Needs a.mu.
func (a *Account) pass(now time.Time) {
	if n := a.open.Load(); n > 0 && !a.at.IsZero() {
		a.seconds += float64(n) * now.Sub(a.at).Seconds()
	}
	a.at = now
}

// Taken counts bytes of requests that are being worked on, and returns how many there are; a
// negative number gives them back.
func (a *Account) Taken(n int64) int64 {
	if a == nil {
		return 0
	}
	return a.inflight.Add(n)
}

// InFlight is how many bytes of requests are being worked on.
func (a *Account) InFlight() int64 { return a.Taken(0) }

// Answering is [Account.Taken] for records on their way to consumers.
func (a *Account) Answering(n int64) int64 {
	if a == nil {
		return 0
	}
	return a.answering.Add(n)
}

// Arriving is [Account.Taken] for large requests of which not all is there yet.
func (a *Account) Arriving(n int64) int64 {
	if a == nil {
		return 0
	}
	return a.arriving.Add(n)
}

// Waited counts the time that a request has waited for its turn, if it has.
func (a *Account) Waited(d time.Duration) {
	if a != nil && d > 0 {
		a.waits.Add(1)
		a.waited.Add(int64(d))
	}
}

// Connections is how many are open.
func (a *Account) Connections() int64 { return a.open.Load() }

// Counts are what was used up to a moment.
func (a *Account) Counts(now time.Time) Counts {
	a.mu.Lock()
	a.pass(now)
	seconds := a.seconds
	a.mu.Unlock()
	return Counts{Received: a.received.Load(), Sent: a.sent.Load(), Requests: a.requests.Load(),
		Connections: a.opened.Load(), ConnectionSeconds: seconds}
}

// Ledger holds the accounts of one gateway. The zero value is ready.
type Ledger struct {
	mu      sync.RWMutex
	by      map[string]*Account
	several atomic.Bool
}

// Several tells whether more than one tenant has an account.
func (l *Ledger) Several() bool { return l.several.Load() }

// Account returns a tenant's, made when it is first asked for. Whoever asks makes sure
// that there is such a tenant: accounts are kept.
func (l *Ledger) Account(tenant string) *Account {
	l.mu.RLock()
	a := l.by[tenant]
	l.mu.RUnlock()
	if a != nil {
		return a
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if a = l.by[tenant]; a != nil {
		return a
	}
	if l.by == nil {
		l.by = map[string]*Account{}
	}
	a = &Account{}
	l.by[tenant] = a
	l.several.Store(len(l.by) > 1)
	return a
}

// Find returns a tenant's account if there is one.
func (l *Ledger) Find(tenant string) *Account {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.by[tenant]
}

// Tenants names those that have an account, sorted.
func (l *Ledger) Tenants() []string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(l.by), strings.Compare)
}
