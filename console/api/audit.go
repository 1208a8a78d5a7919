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

// AuditQuery selects events: the newest Limit (0: 1,000) since a time.
type AuditQuery struct {
	Since  time.Time
	Tenant string // "": all
	Kind   string // "": all
	Limit  int
}

// Audit lists events, oldest first.
func (c *Client) Audit(ctx context.Context, q AuditQuery) ([]AuditEvent, error) {
	v := url.Values{}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
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
	return get[[]AuditEvent](ctx, c, "/audit?"+v.Encode())
}
