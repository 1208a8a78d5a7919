package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/tenant/usage"
)

// byteBudget bounds the bytes of requests that are being worked on. It is soft:
// a request that has arrived is taken, and no further one is read until there
// is room, as a broker's queued.max.request.bytes has it.
type byteBudget struct {
	max int64
	// shared tells whether there are several tenants.
	shared func() bool
	used   atomic.Int64

	mu   sync.Mutex
	room chan struct{} // closed when there is room again; nil if nobody waits

	between func() // of tests: happens between the two counts of put
}

func (b *byteBudget) take(n int64, of *usage.Account) {
	b.used.Add(n)
	of.Take(n)
}

func (b *byteBudget) put(n int64, of *usage.Account) {
	// The tenant's count goes down first. A connection that waits needs room in both, and
	// the put that makes the later of the two wakes it: with the whole's first, a put could
	// find the whole still full, then another makes room there and wakes a connection that
	// its tenant's count keeps waiting, and then the first takes that down and wakes nobody.
	mine := of.Take(-n)
	if b.between != nil {
		b.between()
	}
	used := b.used.Add(-n)
	if used >= b.max || used+n < b.max && (mine >= b.max/2 || mine+n < b.max/2) {
		return // nobody may go on now who could not before
	}
	b.mu.Lock()
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	b.mu.Unlock()
}

// full tells whether a tenant has to wait. Beside others it may have half of the room: one
// whose appends are stuck must not keep the others from being read. nil is nobody's
// connection yet.
func (b *byteBudget) full(of *usage.Account) bool {
	return b.used.Load() >= b.max || b.shared() && of.InFlight() >= b.max/2
}

// wait returns when there is room.
func (b *byteBudget) wait(ctx context.Context, of *usage.Account) error {
	for b.full(of) {
		b.mu.Lock()
		// Looked at again under the lock: put closes what it finds there.
		if !b.full(of) {
			b.mu.Unlock()
			return nil
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// logLimiter lets a burst of log lines pass, then some per second: a client that
// sends rubbish over and over must not fill the disk.
type logLimiter struct {
	mu       sync.Mutex
	tokens   float64
	at       time.Time
	withheld int64
}

const (
	logBurst     = 20
	logPerSecond = 2
)

func (l *logLimiter) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.at.IsZero() {
		l.tokens = logBurst
	} else {
		l.tokens = min(logBurst, l.tokens+now.Sub(l.at).Seconds()*logPerSecond)
	}
	l.at = now
	if l.tokens < 1 {
		l.withheld++
		return false
	}
	l.tokens--
	return true
}

// missed returns how many lines were withheld since the last call.
func (l *logLimiter) missed() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.withheld
	l.withheld = 0
	return n
}
