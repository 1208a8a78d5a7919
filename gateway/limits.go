package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// byteBudget bounds the bytes of requests that are being worked on. It is soft:
// a request that has arrived is taken, and no further one is read until there
// is room, as a broker's queued.max.request.bytes has it.
type byteBudget struct {
	max  int64
	used atomic.Int64

	mu   sync.Mutex
	room chan struct{} // closed when there is room again; nil if nobody waits
}

func (b *byteBudget) take(n int64) { b.used.Add(n) }

func (b *byteBudget) put(n int64) {
	if b.used.Add(-n) >= b.max {
		return
	}
	b.mu.Lock()
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	b.mu.Unlock()
}

// wait returns when there is room.
func (b *byteBudget) wait(ctx context.Context) error {
	for b.used.Load() >= b.max {
		b.mu.Lock()
		// Looked at again under the lock: put closes what it finds there.
		if b.used.Load() < b.max {
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
