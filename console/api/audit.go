package api

import (
	"context"
	"fmt"
	"net/url"
	"time"
)

// AuditEvent is one line of the audit log.
type AuditEvent struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`               // change, denied, unauthenticated, left-out
	Who      string    `json:"who,omitempty"`      // User:alice, operator:olga, controller
	From     string    `json:"from,omitempty"`     // address
	Via      string    `json:"via,omitempty"`      // listener, or "admin API"
	Tenant   string    `json:"tenant,omitempty"`   // "" is the fleet
	Action   string    `json:"action,omitempty"`   // name of the request
	Resource string    `json:"resource,omitempty"` // what it is about
	Detail   string    `json:"detail,omitempty"`
	Result   string    `json:"result,omitempty"` // done, or a code
	// LeftOut counts events like this one that were not written, before it.
	LeftOut int64 `json:"leftOut,omitempty"`
}

// AuditPage is an answer, oldest first.
type AuditPage struct {
	Events []AuditEvent `json:"events"`
	// From is when events begin to be missing of those that were asked for: ask until then to go on. Zero: all are here.
	From time.Time `json:"from,omitzero"`
}

// AuditQuery selects events: the newest Limit (0: 1,000) since a time.
type AuditQuery struct {
	Since  time.Time
	Until  time.Time // the last moment; zero: now
	Tenant string    // "": all
	Kind   string    // "": all
	Limit  int
}

// Audit lists events.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	v := url.Values{}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.Tenant != "" {
		v.Set("tenant", q.Tenant)
	}
	if q.Kind != "" {
		v.Set("kind", q.Kind)
	}
	if q.Limit > 0 {
		v.Set("limit", fmt.Sprint(q.Limit))
	}
	return get[AuditPage](ctx, c, "/audit?"+v.Encode())
}
