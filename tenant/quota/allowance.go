package quota

import "sync"

// Allowance is what a whole tenant may use of one gateway: the gateway's share of the
// tenant's budget. All its clients there are measured together, beside their own
// quotas. A share changes as load moves between gateways, so a wait that follows from
// a small share may be over early: clients are told of the wait that the whole budget
// would mean, or of a window, and the gateway looks again then ([Client.Turn]).
type Allowance struct {
	of [kinds]allowed
	at int64 // of the last sample, ms; guarded by of[0].mu

	mu    sync.Mutex
	grown chan struct{} // closed when a share grows; nil if nobody waits for that
}

// HeldMillis bounds for how long turns put a client off: a request that is on its way has a
// time limit.
const HeldMillis = 10_000

type allowed struct {
	mu     sync.Mutex
	rate   Rate
	bucket Bucket
	share  float64 // 0: no limit
	whole  float64

	free  float64 // when the next turn is, ms
	epoch int64   // how often the share has grown

	used    float64 // since the last sample
	limited bool    // since the last sample
}

// Set changes the shares and the budgets that they are of, both by the names of quotas.
func (a *Allowance) Set(share, whole map[string]float64) {
	grown := false
	for k := range a.of {
		l := &a.of[k]
		l.mu.Lock()
		was := l.share
		l.share, l.whole = share[kindNames[k]], max(whole[kindNames[k]], share[kindNames[k]])
		if l.share > was || l.share <= 0 {
			l.free, l.epoch = 0, l.epoch+1
			grown = grown || was > 0
		}
		l.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if grown && a.grown != nil {
		close(a.grown)
		a.grown = nil
	}
}

// Grown is closed when a share grows of what this client may use. Whoever waits for it takes
// it before looking at Epoch; nil never is.
func (c *Client) Grown() <-chan struct{} {
	if c == nil || c.within == nil {
		return nil
	}
	a := c.within
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.grown == nil {
		a.grown = make(chan struct{})
	}
	return a.grown
}

// Use is what a tenant used of something by the second.
type Use struct {
	Rate    float64
	Limited bool // it would have used more
}

// Sample returns what was used since the last sample, of what is limited.
func (a *Allowance) Sample(now int64) map[string]Use {
	a.of[0].mu.Lock()
	since := max(now-a.at, 1)
	a.at = now
	a.of[0].mu.Unlock()
	out := map[string]Use{}
	for k := range a.of {
		l := &a.of[k]
		l.mu.Lock()
		if l.share > 0 {
			// Who is held from reading has nothing to be refused of.
			limited := l.limited || l.wait(kind(k), now) > 0
			out[kindNames[k]] = Use{Rate: max(l.used, 0) * 1000 / float64(since), Limited: limited}
		}
		l.used, l.limited = 0, false
		l.mu.Unlock()
	}
	return out
}

// wait is for how long the share is exceeded. Needs l.mu.
func (l *allowed) wait(k kind, now int64) int64 {
	switch {
	case l.share <= 0:
		return 0
	case k == mutation:
		return l.bucket.Wait(l.share, now)
	}
	return l.rate.Throttle(l.share, now)
}

// use records value and returns the wait to tell of.
func (a *Allowance) use(k kind, value float64, now int64) int64 {
	if a == nil {
		return 0
	}
	l := &a.of[k]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.share <= 0 {
		return 0
	}
	l.used += value
	l.rate.Record(value, now)
	wait := l.wait(k, now)
	if wait <= 0 {
		return 0
	}
	l.limited = true
	return min(wait, max(l.rate.Throttle(l.whole, now), WindowMillis))
}

// overdrawn is how long mutations have to wait.
func (a *Allowance) overdrawn(now int64) int64 {
	if a == nil {
		return 0
	}
	l := &a.of[mutation]
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := l.wait(mutation, now)
	l.limited = l.limited || wait > 0
	return wait
}

// take counts mutations.
func (a *Allowance) take(n float64, now int64) {
	if a == nil {
		return
	}
	l := &a.of[mutation]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.share > 0 {
		l.used += n
		l.bucket.Take(n, l.share, now)
	}
}

func (a *Allowance) largest(k kind) float64 {
	l := &a.of[k]
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.share <= 0 {
		return 1 << 62
	}
	return Largest(l.share)
}

func (a *Allowance) limits(k kind) bool {
	if a == nil {
		return false
	}
	l := &a.of[k]
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.share > 0
}

// Within gives what holds for a client of a tenant that has an allowance; nil for no
// tenant's.
func (c *Client) Within(a *Allowance) *Client {
	if a == nil {
		return c
	}
	if c == nil {
		c = &Client{}
	}
	c.within = a
	return c
}

// After takes over from what held for the same connection before something of its quotas
// changed, so that it does not get out of its turn.
func (c *Client) After(old *Client) *Client {
	if c != nil && old != nil && c.within == old.within {
		for k := range c.touched {
			c.touched[k].Store(old.touched[k].Load())
			c.last[k].Store(old.last[k].Load())
		}
	}
	return c
}

// Turn gives a client that exceeded its tenant's share its turn: after how long, ms, it may
// be read from again, 0 for now. Turns are as far apart as what their clients used last
// takes at the share, so that thousands of them do not come at once when the rate is back.
// No turn is put off by others' for longer than HeldMillis, after which clients are read from
// whatever their turn is: turns of those who have gone would keep those who stay. epoch changes when the share grows: turns that were given before are worth nothing then.
func (c *Client) Turn(now int64) (wait int64, epoch int64) {
	if c == nil || c.within == nil {
		return 0, 0
	}
	for _, k := range [...]kind{produce, consume, request} {
		if !c.touched[k].Load() {
			continue
		}
		l := &c.within.of[k]
		l.mu.Lock()
		w := l.wait(k, now)
		if w > 0 {
			w = max(w, int64(l.free)-now)
			l.limited = true
			next := max(l.free, float64(now+w)) + float64(c.last[k].Load())/l.share*1000
			l.free = min(next, float64(now+HeldMillis))
			// As Epoch sums them: without what is exceeded no more.
			epoch += l.epoch
		} else {
			l.free = 0
			c.touched[k].Store(false)
		}
		l.mu.Unlock()
		wait = max(wait, w)
	}
	return wait, epoch
}

// Epoch changes when a share grows of what this client has exceeded.
func (c *Client) Epoch() (epoch int64) {
	if c == nil || c.within == nil {
		return 0
	}
	for _, k := range [...]kind{produce, consume, request} {
		if c.touched[k].Load() {
			l := &c.within.of[k]
			l.mu.Lock()
			epoch += l.epoch
			l.mu.Unlock()
		}
	}
	return epoch
}
