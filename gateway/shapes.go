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
	of sasl.Shapes // immutable, as all of it
	at time.Time
	// Of the names that are good at any tenant's listeners: how many eighths of the names NAME@... are answered as NAME
	// alone is, by what comes after the last @.
	spelled map[string]int
	all     sasl.Spellings
}

const (
	// shapesFor is how long a count holds. What it is off by then is a few users of many.
	shapesFor = 30 * time.Second
	// maxCounted bounds the users that one count looks at.
	maxCounted = 20_000
)

// of returns the shapes of a tenant that exists, or of all names without one.
func (s *shapes) of(snap *catalog.Snapshot, name string, now time.Time) *counted {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.by[name]; c != nil && now.Sub(c.at) < shapesFor {
		return c
	}
	c := &counted{of: sasl.Shapes{}, at: now}
	if name != "" {
		for _, u := range snap.Users(name) {
			c.of.Add(u)
		}
	} else {
		left, by := maxCounted, map[string]spellings{}
		count := func(what string, alike int) {
			n := by[what]
			by[what] = spellings{n.alike + alike, n.names + 1}
		}
		for _, t := range snap.Tenants() {
			users := snap.Users(t.Name)
			users = users[:min(len(users), left)]
			left -= len(users)
			for _, u := range users {
				if u.Bare == catalog.BareClaimed || u.Bare == catalog.BareBefore {
					c.of.Add(u)
				}
				if t.State != catalog.TenantActive || t.Name == catalog.SystemTenant || len(u.Credentials) == 0 {
					continue
				}
				if tenant.SignsOn(snap, u) != u.Name {
					count(t.Name, 0)
					continue
				}
				count(t.Name, 1)
				if at := strings.LastIndexByte(u.Name, '@'); at > 0 { // it is not whom the part before alone leads to
					count(u.Name[at+1:], 0)
				}
			}
		}
		c.spelled = make(map[string]int, len(by))
		for what, n := range by {
			c.spelled[what] = n.eighths()
			c.all[n.eighths()]++
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
	return c
}

// spellings are of names NAME@WHAT.
type spellings struct{ alike, names int }

func (s spellings) eighths() int {
	switch s.alike {
	case 0:
		return 0
	case s.names:
		return sasl.Eighths
	}
	return min(max(s.alike*sasl.Eighths/s.names, 1), sasl.Eighths-1)
}

// maxSpelled bounds how often the tenant is taken off a name, each time for one that may be answered alike.
const maxSpelled = 3

// Like implements sasl.Directory. It takes the same way for names that somebody has.
func (l lookup) Like(name string) sasl.Place {
	r, now := l.reach(), time.Now()
	at := sasl.Place{Tenant: r.Only, Name: name, Spelled: -1}
	if i := strings.LastIndexByte(name, '@'); i > 0 && (r.Only == "" || r.Only == name[i+1:]) {
		at.Tenant, at.Name = name[i+1:], name[:i]
	}
	all := l.c.g.shapes.of(r.Snapshot, "", now)
	at.All, at.AllSpellings = all.of, all.all
	if at.Tenant != "" && (tenant.Reach{Snapshot: r.Snapshot}).Active(at.Tenant) {
		at.Of = l.c.g.shapes.of(r.Snapshot, at.Tenant, now).of
	}
	if n, known := all.spelled[at.Tenant]; known {
		at.Spelled = n
	}
	if at.Tenant != "" && strings.Count(at.Name, "@") < maxSpelled {
		at.Bare = lookup{l.c, true}
	}
	return at
}
