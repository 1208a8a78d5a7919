// Package audit writes down who changed what, and who was denied what: as lines of
// JSON in files that are rotated, or on a stream, and in an internal topic.
//
// It never holds up those who tell it something. What it cannot keep, and what it
// leaves out of a flood of denials, is counted.
package audit

import (
	"slices"
	"strings"
	"time"
)

// Kinds of events.
const (
	Change          = "change"          // an administrative change, done or refused
	Denied          = "denied"          // somebody asked for what is not allowed
	Unauthenticated = "unauthenticated" // somebody could not say who it is
	LeftOut         = "left-out"        // events of a flood that were not written
)

// Done is the result of a change that was made.
const Done = "done"

// Event is one line. It never holds a secret: those who make one tell names, not
// passwords, tokens or the options of clusters.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"`
	Who    string    `json:"who,omitempty"`    // User:alice, operator:olga, controller
	From   string    `json:"from,omitempty"`   // address
	Via    string    `json:"via,omitempty"`    // listener, or "admin API"
	Tenant string    `json:"tenant,omitempty"` // whose it is; "" is the fleet's
	Action string    `json:"action,omitempty"` // Kafka's name of the request, or METHOD PATH of the admin API
	// Resource is what it is about, such as "TOPIC orders".
	Resource string `json:"resource,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Result   string `json:"result,omitempty"` // done, or the error's code
	// LeftOut counts events like this one that were not written, before it.
	LeftOut int64 `json:"leftOut,omitempty"`
}

// Query selects events.
type Query struct {
	Since  time.Time
	Until  time.Time // the last moment that counts; zero: now
	Tenant string    // "": all
	Kind   string    // "": all
	Limit  int       // the newest so many; 0: [MaxEvents]
}

// MaxEvents bounds one answer.
const MaxEvents = 10_000

func (q *Query) matches(e *Event) bool {
	return !e.Time.Before(q.Since) && (q.Until.IsZero() || !e.Time.After(q.Until)) && (q.Tenant == "" || q.Tenant == e.Tenant) && (q.Kind == "" || q.Kind == e.Kind)
}

// maxText bounds each text of an event, in bytes: what clients send is among them.
const maxText = 512

func (e *Event) bound() {
	for _, s := range []*string{&e.Who, &e.From, &e.Via, &e.Tenant, &e.Action, &e.Resource, &e.Detail, &e.Result} {
		if len(*s) > maxText {
			*s = strings.ToValidUTF8((*s)[:maxText], "") + "…"
		}
	}
}

// Page is an answer to a query, oldest first.
type Page struct {
	Events []Event
	// From is the last moment of which events may be missing that the query asks for. A query until then goes on.
	// Zero: all are here.
	From time.Time
}

// Merge makes one page of several that answer one query. An event that is in more than one, or twice in
// one, is in it once.
func Merge(q Query, pages ...Page) Page {
	found := NewNewest(q)
	var from time.Time
	seen := map[Event]bool{}
	for _, page := range pages {
		if page.From.After(from) {
			from = page.From.UTC()
		}
		for _, e := range page.Events {
			e.Time = e.Time.UTC().Round(0) // as it is written: without a monotonic clock's part
			if !seen[e] {
				seen[e] = true
				found.Add(&e)
			}
		}
	}
	page := found.Page()
	if from.After(page.From) {
		page.From = from
	}
	return page
}

// Newest keeps the newest events of a query, by their time: of several processes' lines one may be late.
type Newest struct {
	query Query
	list  []Event
	full  int       // events at which old ones are let go
	gone  time.Time // of the newest that was let go; zero: none was
}

// NewNewest begins with none.
func NewNewest(q Query) *Newest {
	if q.Limit <= 0 || q.Limit > MaxEvents {
		q.Limit = MaxEvents
	}
	return &Newest{query: q, full: 2 * q.Limit}
}

// Add takes an event, in any order.
func (n *Newest) Add(e *Event) {
	if !n.query.matches(e) {
		return
	}
	if n.list = append(n.list, *e); len(n.list) >= n.full {
		n.trim()
		n.full = len(n.list) + n.query.Limit
	}
}

// trim sorts the events and lets go of the oldest. Those of one moment stay together, up to a bound, so that a query
// until the moment before goes on where this one ends.
func (n *Newest) trim() {
	slices.SortStableFunc(n.list, func(a, b Event) int { return a.Time.Compare(b.Time) })
	cut := max(0, len(n.list)-n.query.Limit)
	for cut > 0 && len(n.list)-cut < n.query.Limit+MaxEvents && n.list[cut-1].Time.Equal(n.list[cut].Time) {
		cut--
	}
	if cut > 0 {
		n.gone = n.list[cut-1].Time
		n.list = slices.Delete(n.list, 0, cut)
	}
}

// Limit is how many are kept; of one moment there may be more.
func (n *Newest) Limit() int { return n.query.Limit }

// Page gives them.
func (n *Newest) Page() Page {
	n.trim()
	page := Page{Events: n.list}
	if !n.gone.IsZero() {
		page.From = n.list[0].Time.Add(-1)
	}
	return page
}
