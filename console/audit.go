package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/tenant/audit"
)

// Auditor keeps the audit log.
type Auditor interface {
	// Record never waits.
	Record(audit.Event)
	Counts() audit.Counts
	// Read gives the newest events that a query selects, oldest first.
	Read(context.Context, audit.Query) (audit.Page, error)
}

func (s *Server) record(r *http.Request, e audit.Event) {
	if s.opts.Audit == nil {
		return
	}
	if by := asker(r); by.name != "" {
		e.Who = "operator:" + by.name
	}
	e.From, e.Via, e.Action = r.RemoteAddr, audit.AdminAPI, r.Method+" "+r.URL.Path
	if e.Tenant = r.PathValue("tenant"); e.Tenant == "" {
		if e.Tenant = r.URL.Query().Get("tenant"); e.Tenant == "" && ofTenant(r.URL.Path) {
			e.Tenant = catalog.DefaultTenant
		}
	}
	s.opts.Audit.Record(e)
}

// ofTenant tells whether a path is about what tenants have.
func ofTenant(path string) bool {
	return strings.HasPrefix(path, api.Version+"/topics") || strings.HasPrefix(path, api.Version+"/ops")
}

// changes tells whether a route changes something.
func changes(pattern string) bool {
	method, _ := cutPattern(pattern)
	return method != http.MethodGet && pattern != "POST /plans"
}

// written is a handler whose requests are written down with their result.
func (s *Server) written(h func(*http.Request) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var asked bytes.Buffer
		if r.Body != nil {
			r.Body = &teed{ReadCloser: r.Body, to: &asked}
		}
		v, err := h(r)
		if wrong := (*bodyError)(nil); errors.As(err, &wrong) {
			asked.Reset()
		}
		e := audit.Event{Kind: audit.Change, Result: audit.Done, Detail: detail(asked.Bytes(), r.URL.Query())}
		if err != nil {
			e.Result = apiError(err).Code
		}
		s.record(r, e)
		return v, err
	}
}

// teed keeps the beginning of what is read.
type teed struct {
	io.ReadCloser
	to *bytes.Buffer
}

const maxTeed = 16 << 10

func (t *teed) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	if room := maxTeed - t.to.Len(); room > 0 {
		t.to.Write(b[:min(n, room)])
	}
	return n, err
}

// detail is what was asked, without what may be secret.
func detail(body []byte, asked url.Values) string {
	for k := range asked {
		if secretName(k) {
			asked.Set(k, "[hidden]")
		}
	}
	query := asked.Encode()
	var v any
	if len(body) == 0 || json.Unmarshal(body, &v) != nil {
		return query
	}
	b, err := json.Marshal(hide(v, 0))
	if err != nil {
		return query
	}
	if query != "" {
		return query + " " + string(b)
	}
	return string(b)
}

// secretWords are in the names of what holds secrets.
var secretWords = []string{"password", "secret", "token", "credential", "jaas", "passphrase", "key", "auth"}

func secretName(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) })
}

// hide leaves out what has the name of a secret.
func hide(v any, depth int) any {
	if depth > 8 {
		return "…"
	}
	switch x := v.(type) {
	case map[string]any:
		for k, member := range x {
			if secretName(k) {
				x[k] = "[hidden]"
			} else {
				x[k] = hide(member, depth+1)
			}
		}
	case []any:
		for i := range x {
			x[i] = hide(x[i], depth+1)
		}
	}
	return v
}

func (s *Server) audit(r *http.Request) (any, error) {
	if s.opts.Audit == nil {
		return nil, &api.Error{Status: http.StatusNotFound, Code: "unknown", Message: "this process keeps no audit log", Hint: "--set braid.audit.log"}
	}
	q := r.URL.Query()
	query := audit.Query{Tenant: q.Get("tenant"), Kind: q.Get("kind"), Limit: 1000}
	for name, to := range map[string]*time.Time{"since": &query.Since, "until": &query.Until} {
		if text := q.Get(name); text != "" {
			at, err := time.Parse(time.RFC3339Nano, text)
			if err != nil {
				return nil, bad(fmt.Errorf("%s: want a time such as 2026-01-31T12:00:00Z, not %.50q", name, text))
			}
			*to = at
		}
	}
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > audit.MaxEvents {
			return nil, bad(fmt.Errorf("limit: want a number from 1 to %d", audit.MaxEvents))
		}
		query.Limit = n
	}
	if known := []string{"", audit.Change, audit.Denied, audit.Unauthenticated, audit.LeftOut}; !slices.Contains(known, query.Kind) {
		return nil, bad(errors.New("kind: change, denied, unauthenticated or left-out"))
	}
	page, err := s.opts.Audit.Read(r.Context(), query)
	if err != nil {
		return nil, err
	}
	out := api.AuditPage{Events: []api.AuditEvent{}, From: page.From}
	for _, e := range page.Events {
		out.Events = append(out.Events, api.AuditEvent(e))
	}
	return out, nil
}
