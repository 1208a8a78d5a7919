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
	// Changes that are made are what the log is for, and a tenant's admin can make as many as it likes (DeleteRecords that
	// delete nothing). What operators and the fleet itself do has no bound.
	doneBurst     = 1000
	donePerSecond = 20
	// maxSorts bounds how many sorts are told apart; more are one.
	maxSorts = 1000
	// sumsEvery is how often the number of what was left out is written.
	sumsEvery = 10 * time.Second
)

// sort is what is bounded together.
type sort struct {
	kind, tenant, via string
	done              bool
}

func (s sort) rate() (most, perSec float64) {
	if s.done {
		return doneBurst, donePerSecond
	}
	return burst, perSecond
}

// AdminAPI is what events of the admin API came by (Event.Via).
const AdminAPI = "admin API"

// fleets tells whether an event is of what operators or the fleet itself do: no client makes it happen.
func (e *Event) fleets() bool {
	return e.Kind == LeftOut || e.Kind == Change && (e.Tenant == "" || e.Via == AdminAPI || e.Via == "")
}

type bucket struct {
	tokens  float64
	at      time.Time
	leftOut int64
}

type bounds struct {
	mu sync.Mutex
	by map[sort]*bucket
}

func sortOf(e *Event) sort {
	if e.Kind == Change && e.Result == Done {
		return sort{kind: e.Kind, tenant: e.Tenant, done: true} // over all listeners
	}
	return sort{kind: e.Kind, tenant: e.Tenant, via: e.Via}
}

// pass tells whether an event is written, and how many like it were not.
func (b *bounds) pass(e *Event, now time.Time) (leftOut int64, ok bool) {
	if e.Kind == LeftOut || e.Result == Done && e.fleets() {
		return 0, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := sortOf(e)
	most, perSec := s.rate()
	k := b.by[s]
	if k == nil {
		if len(b.by) >= maxSorts {
			s = sort{kind: e.Kind, done: s.done}
			k = b.by[s]
		}
		if k == nil {
			k = &bucket{tokens: most, at: now}
			b.by[s] = k
		}
	}
	k.tokens = min(most, k.tokens+max(0, now.Sub(k.at).Seconds())*perSec)
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
		most, perSec := s.rate()
		if k.leftOut > 0 {
			e := Event{Time: now, Kind: LeftOut, Tenant: s.tenant, Via: s.via, Action: s.kind, LeftOut: k.leftOut}
			if s.done {
				e.Result = Done
			}
			out = append(out, e)
			k.leftOut = 0
		} else if k.tokens+now.Sub(k.at).Seconds()*perSec >= most {
			delete(b.by, s)
		}
	}
	return out
}
