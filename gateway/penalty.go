package gateway

import (
	"container/heap"
	"context"
	"math"
	"net/netip"
	"sync"
	"time"
)

// penalties slow down who guesses. A failed attempt is answered late: after
// base, and twice as late with each failure of its address or its user name that
// is not long ago, up to most. An attempt that succeeds is answered at once,
// whatever came before it, so that nobody is locked out by another's failures.
//
// A guesser with many connections gains little: once some of an address are in the
// delay, all its further failures are answered as late as can be, when the time to
// authenticate is over; and how many connections wait for that is bounded
// (MaxUnauthenticatedPerIP). Of such an address one attempt is looked at after the
// other, so that it takes no more of the gateway than one client does.
//
// Who does not wait for the answer is let go, with its connection and its place among those of all addresses. Of its
// own address's places one stays taken until the answer would have come: a guesser gains no time by hanging up.
//
// Both tables are bounded. Who fills one by ever new names loses what it knew
// of others, not the table of addresses.
type penalties struct {
	base, most time.Duration
	crowd      time.Duration // until a failure of a crowded address is answered

	mu        sync.Mutex
	addresses map[netip.Prefix]score
	users     map[string]score
	delayed   map[netip.Prefix]int
	looking   map[netip.Prefix]*queue // of crowded addresses
	left      map[netip.Prefix]*moments
	leavers   int       // in left, all together
	swept     time.Time // when those whose time is over were last looked for in all of left
}

// moments are until when those of an address who left would have waited; a heap, the next one first.
type moments []time.Time

func (m moments) Len() int           { return len(m) }
func (m moments) Less(i, j int) bool { return m[i].Before(m[j]) }
func (m moments) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }

// Push implements [heap.Interface].
func (m *moments) Push(x any) { *m = append(*m, x.(time.Time)) }

// Pop implements [heap.Interface].
func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// queue has one attempt looked at after the other.
type queue struct {
	turn    chan struct{}
	waiting int // those in it and the one whose turn it is; under penalties.mu
}

const (
	maxScores = 10_000
	// maxDelayed is how many of an address are in the delay until it is crowded.
	maxDelayed = 64
	// maxLeavers bounds those who are remembered although they left.
	maxLeavers = 16_384
	// sweepLeavers is how often there are looked for those whose time is over, while they are too many.
	sweepLeavers = time.Second
	// halfLife of a failure.
	halfLife = 30 * time.Second
)

// score counts failures; each counts for half after halfLife.
type score struct {
	n  float64
	at time.Time
}

func (s score) now(t time.Time) float64 {
	return s.n * math.Exp2(-t.Sub(s.at).Seconds()/halfLife.Seconds())
}

func newPenalties(base, most, crowd time.Duration) *penalties {
	return &penalties{base: base, most: max(base, most), crowd: crowd, addresses: map[netip.Prefix]score{}, users: map[string]score{},
		delayed: map[netip.Prefix]int{}, looking: map[netip.Prefix]*queue{}, left: map[netip.Prefix]*moments{}}
}

// origin is an IPv4 address, or the network of an IPv6 address: its owner has 2^64 of them.
func origin(host string) netip.Prefix {
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// failed counts a failure and tells after which time it is answered.
func (p *penalties) failed(from netip.Prefix, user string, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := count(p.addresses, from, now)
	if user != "" {
		n = max(n, count(p.users, user, now))
	}
	d := time.Duration(min(float64(p.base)*math.Exp2(math.Floor(min(n-1, 30))), float64(p.most)))
	if p.crowded(from, now) {
		return max(d, p.crowd)
	}
	return d
}

func count[K comparable](m map[K]score, k K, now time.Time) float64 {
	old, ok := m[k]
	if !ok && len(m) >= maxScores {
		for other := range m { // any
			delete(m, other)
			break
		}
	}
	n := old.now(now) + 1
	m[k] = score{n: n, at: now}
	return n
}

// crowded needs mu.
func (p *penalties) crowded(from netip.Prefix, now time.Time) bool {
	return p.delayed[from]+p.leftBy(from, now) >= maxDelayed
}

// leftOf is how many of an address have left before their time.
func (p *penalties) leftOf(from netip.Prefix) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leftBy(from, time.Now())
}

// leftBy is leftOf. Needs mu.
func (p *penalties) leftBy(from netip.Prefix, now time.Time) int {
	m := p.left[from]
	if m == nil {
		return 0
	}
	for len(*m) > 0 && !now.Before((*m)[0]) {
		heap.Pop(m)
		p.leavers--
	}
	if len(*m) == 0 {
		delete(p.left, from)
		return 0
	}
	return len(*m)
}

// leave remembers one who left before its time. Needs mu.
func (p *penalties) leave(from netip.Prefix, until, now time.Time) {
	if p.leavers >= maxLeavers && now.Sub(p.swept) >= sweepLeavers {
		p.swept = now
		for other := range p.left {
			p.leftBy(other, now)
		}
	}
	if p.leavers >= maxLeavers {
		return
	}
	m := p.left[from]
	if m == nil {
		m = &moments{}
		p.left[from] = m
	}
	heap.Push(m, until)
	p.leavers++
}

// turn waits until an attempt of a crowded address may be looked at, which is when
// the one before it was: done ends it. Others do not wait. While it waits, watch looks after the client.
func (p *penalties) turn(ctx context.Context, from netip.Prefix, watch func() (stop func())) (done func(), err error) {
	p.mu.Lock()
	q := p.looking[from]
	if q == nil && !p.crowded(from, time.Now()) {
		p.mu.Unlock()
		return func() {}, nil
	}
	if q == nil {
		q = &queue{turn: make(chan struct{}, 1)}
		p.looking[from] = q
	}
	q.waiting++
	p.mu.Unlock()
	leave := func() {
		p.mu.Lock()
		if q.waiting--; q.waiting == 0 {
			delete(p.looking, from)
		}
		p.mu.Unlock()
	}
	stop := watch()
	defer stop()
	select {
	case q.turn <- struct{}{}:
		return func() { <-q.turn; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// delay waits until a time, as one of those that an address has in the delay.
func (p *penalties) delay(ctx context.Context, from netip.Prefix, until time.Time) {
	p.mu.Lock()
	p.delayed[from]++
	p.mu.Unlock()
	timer := time.NewTimer(time.Until(until))
	select {
	case <-timer.C:
	case <-ctx.Done():
		timer.Stop()
	}
	p.mu.Lock()
	if now := time.Now(); now.Before(until) {
		p.leave(from, until, now)
	}
	if p.delayed[from]--; p.delayed[from] <= 0 {
		delete(p.delayed, from)
	}
	p.mu.Unlock()
}
