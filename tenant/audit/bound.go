package audit

import (
	"sync"
	"time"
)

// Of what anybody can make happen as often as it likes (denials, failed
// authentications, changes that fail), so many are written of each sort and tenant;
// a flood of one leaves the others' lines alone, and the disk.
const (
	burst     = 100
	perSecond = 10
	// maxSorts bounds how many sorts are told apart; more are one.
	maxSorts = 1000
	// sumsEvery is how often the number of what was left out is written.
	sumsEvery = 10 * time.Second
)

// sort is what is bounded together.
type sort struct{ kind, tenant, via string }

type bucket struct {
	tokens  float64
	at      time.Time
	leftOut int64
}

type bounds struct {
	mu sync.Mutex
	by map[sort]*bucket
}

func sortOf(e *Event) sort { return sort{e.Kind, e.Tenant, e.Via} }

// pass tells whether an event is written, and how many like it were not.
func (b *bounds) pass(e *Event, now time.Time) (leftOut int64, ok bool) {
	if e.Kind == Change && e.Result == Done || e.Kind == LeftOut {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := sortOf(e)
	k := b.by[s]
	if k == nil {
		if len(b.by) >= maxSorts {
			s = sort{kind: e.Kind}
			k = b.by[s]
		}
		if k == nil {
			k = &bucket{tokens: burst, at: now}
			b.by[s] = k
		}
	}
	k.tokens = min(burst, k.tokens+max(0, now.Sub(k.at).Seconds())*perSecond)
	k.at = now
	if k.tokens < 1 {
		k.leftOut++
		return 0, false
	}
	k.tokens--
	leftOut, k.leftOut = k.leftOut, 0
	return leftOut, true
}

// sums gives an event for each sort of which some were left out, and forgets those
// that have been quiet.
func (b *bounds) sums(now time.Time) (out []Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s, k := range b.by {
		if k.leftOut > 0 {
			out = append(out, Event{Time: now, Kind: LeftOut, Tenant: s.tenant, Via: s.via, Action: s.kind, LeftOut: k.leftOut})
			k.leftOut = 0
		} else if k.tokens+now.Sub(k.at).Seconds()*perSecond >= burst {
			delete(b.by, s)
		}
	}
	return out
}
