package gateway

import (
	"strings"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/sasl"
)

// shapes counts what credentials of tenants look like, for answers to names that nobody has.
type shapes struct {
	mu sync.Mutex
	by map[string]*counted // by tenant; "" is of the names that are good at any tenant's listeners
}

type counted struct {
	of sasl.Shapes // immutable
	at time.Time
}

const (
	// shapesFor is how long a count holds. What it is off by then is a few users of many.
	shapesFor = 30 * time.Second
	// maxCounted bounds the users that one count looks at.
	maxCounted = 20_000
)

// of returns the shapes of a tenant that exists, or of all names without one.
func (s *shapes) of(snap *catalog.Snapshot, name string, now time.Time) sasl.Shapes {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.by[name]; c != nil && now.Sub(c.at) < shapesFor {
		return c.of
	}
	c := &counted{of: sasl.Shapes{}, at: now}
	if name != "" {
		for _, u := range snap.Users(name) {
			c.of.Add(u)
		}
	} else {
		left := maxCounted
		for _, t := range snap.Tenants() {
			users := snap.Users(t.Name)
			users = users[:min(len(users), left)]
			left -= len(users)
			for _, u := range users {
				if u.Bare == catalog.BareClaimed || u.Bare == catalog.BareBefore {
					c.of.Add(u)
				}
			}
		}
	}
	if s.by == nil {
		s.by = map[string]*counted{}
	}
	for old, c := range s.by { // tenants that are gone, or that nobody asks for
		if now.Sub(c.at) > 10*shapesFor {
			delete(s.by, old)
		}
	}
	s.by[name] = c
	return c.of
}

// Like implements sasl.Directory. It takes the same way for names that somebody has.
func (l lookup) Like(name string) (of sasl.Shapes, by string) {
	r := l.c.reach()
	in := r.Only
	if at := strings.LastIndexByte(name, '@'); in == "" && at > 0 {
		in = name[at+1:]
	}
	if in != "" && !(tenant.Reach{Snapshot: r.Snapshot}).Active(in) {
		return l.c.g.shapes.of(r.Snapshot, "", time.Now()), in
	}
	return l.c.g.shapes.of(r.Snapshot, in, time.Now()), ""
}
