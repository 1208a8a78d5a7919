package gateway

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/tenant/usage"
)

// byteBudget bounds the bytes of requests that are being worked on, or of answers on their way. It
// is soft: what has arrived or was read is taken, and nothing further is begun until there
// is room, as a broker's queued.max.request.bytes has it.
type byteBudget struct {
	max int64
	// shared tells whether there are several tenants, or may be by the next request.
	shared func() bool
	// of changes what counts for a tenant, and returns it.
	of   func(a *usage.Account, n int64) int64
	used atomic.Int64

	mu   sync.Mutex
	room chan struct{} // closed when there is room again; nil if nobody waits
	most int64         // max, or what acquire has let it come to beyond that
	line []*hopeful    // who waits because of others, the first to come first

	// hurry is told, each time that an owner who has nothing here has waited for so long, that others keep
	// it waiting, and may ask whether they still do; nil: nobody is told.
	hurry    func(of *usage.Account, still func() bool)
	patience time.Duration

	between func() // of tests: happens between the two counts of put
}

// hopeful is an owner that had nothing when it began to wait. Room that comes is left to the one that waits for longest: else whoever is
// woken first takes it, and of many that want much one may wait for ever.
type hopeful struct {
	of *usage.Account
	n  int64
}

// first is who waits for longest of those that still have nothing, nil if nobody does. Needs mu.
func (b *byteBudget) first() *hopeful {
	for _, h := range b.line {
		if b.of(h.of, 0) == 0 {
			return h
		}
	}
	return nil
}

// waits puts an owner that has nothing into the line, once, and returns its place; nil if it waits for itself. Needs mu.
func (b *byteBudget) waits(n int64, of *usage.Account) *hopeful {
	if b.hurry == nil || !b.shared() || b.of(of, 0) != 0 || slices.ContainsFunc(b.line, func(h *hopeful) bool { return h.of == of }) {
		return nil
	}
	h := &hopeful{of, n}
	b.line = append(b.line, h)
	return h
}

// leave takes an owner out of the line; those behind it look again. Needs mu.
func (b *byteBudget) leave(h *hopeful) {
	b.line = slices.DeleteFunc(b.line, func(o *hopeful) bool { return o == h })
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

func (b *byteBudget) take(n int64, of *usage.Account) {
	b.used.Add(n)
	b.of(of, n)
}

func (b *byteBudget) put(n int64, of *usage.Account) {
	// The tenant's count goes down first, and is looked at again last: of two puts of a tenant
	// the one that ends later sees what both have given back.
	b.of(of, -n)
	if b.between != nil {
		b.between()
	}
	used := b.used.Add(-n)
	own := b.of(of, 0)
	// Who waits is woken when either count has fallen by a step: for a moment it may wait
	// although there is just enough room, and never for ever, as both are falling then.
	if b.step(used+n) == b.step(used) && b.step(own+n) == b.step(own) {
		return
	}
	b.mu.Lock()
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	b.mu.Unlock()
}

// steps is in how many steps a budget falls.
const steps = 64

func (b *byteBudget) step(n int64) int64 {
	size := max(1, b.max/steps)
	if n >= b.max {
		return steps + 1 + (n-b.max)/size // one step up to the bound itself
	}
	return (n + size - 1) / size
}

// full tells whether a tenant has to wait: one whose appends are stuck, or whose consumers take
// nothing, must not keep the others from being read, and one that has nothing there goes on
// even if the others have more than all. nil is nobody's connection yet.
func (b *byteBudget) full(of *usage.Account) bool {
	own, several := b.of(of, 0), b.shared()
	if several && of != nil && own == 0 {
		return false
	}
	return !fair.Allows(own, b.used.Load(), b.max, several)
}

// leastShare is what a request may have however full it is, bytes.
const leastShare = 64 << 10

// share is how many bytes one request of a tenant may take: a quarter of what is free, so
// that a few connections that take nothing do not fill it, and what the tenant may have beside others.
func (b *byteBudget) share(of *usage.Account) int {
	free := b.max - b.used.Load()
	n := free / 4
	if b.shared() {
		n = min(n, free-b.of(of, 0))
	}
	return int(max(n, leastShare))
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

// may tells whether n more bytes are let in at once. Beside others an owner has, with them, no more than they
// leave free, as [fair.Room] has it, so one whose frame has no place behind its own waits for its own; what is
// larger than half of the room counts as half, for it has to be let in by some time. What owners who have
// next to nothing want in a small request is let in beyond the bound: other owners' frames may take minutes to
// come, and together those may hold nearly all. Needs mu.
func (b *byteBudget) may(n int64, of *usage.Account) bool {
	own, used := b.of(of, 0), b.used.Load()
	b.most = max(b.most, b.max)
	switch {
	case !b.shared():
		return used < b.max
	case own+n <= min(smallRequest, b.max/16) && used < b.most+b.max/4:
		return true
	}
	if h := b.first(); h != nil && h.of != of && used+min(n, b.max/2)+min(h.n, b.max/2) > b.max {
		return false
	}
	if own == 0 {
		return used+min(n, b.max/2) <= b.max
	}
	return fair.Allows(own+n-1, used, b.max, true)
}

// smallRequest is what an owner may have beyond the bound, bytes.
const smallRequest = 1 << 20

// acquire takes n bytes as soon as there is room ([byteBudget.may]), which it looks for and takes at once: so no
// two of them find the same room. What is larger than a share waits until its owner has nothing. stop ends the wait too.
func (b *byteBudget) acquire(ctx context.Context, stop <-chan struct{}, n int64, of *usage.Account) error {
	var h *hopeful
	var ticks <-chan time.Time
	defer func() {
		if h != nil {
			b.mu.Lock()
			b.leave(h)
			b.mu.Unlock()
		}
	}()
	for {
		b.mu.Lock()
		if b.may(n, of) {
			if n > smallRequest {
				b.most = max(b.max, b.used.Load()+n)
			}
			b.take(n, of)
			b.mu.Unlock()
			return nil
		}
		if h == nil {
			if h = b.waits(n, of); h != nil {
				tick := time.NewTicker(b.patience)
				defer tick.Stop()
				ticks = tick.C
			}
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ticks:
			b.hurry(of, func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.first() == h && !b.may(n, of)
			})
		case <-stop:
			return errDraining
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
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
