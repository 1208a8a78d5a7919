package console

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A page of another origin that the operator's browser shows administers nothing.
// Programs, which send no origin, are served.
func TestOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	h := (&Server{}).routes()
	for _, c := range []struct {
		path, header, value string
		want                int
	}{
		{"/v1/tenants/default/users", "Origin", "https://evil.example", http.StatusForbidden},
		{"/v1/tenants/default/users", "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"/v1/nothing", "Origin", "https://evil.example", http.StatusForbidden},
		{"/v1/nothing", "Sec-Fetch-Site", "same-origin", http.StatusNotFound},
		{"/v1/nothing", "User-Agent", "braid", http.StatusNotFound},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:9080"+c.path, strings.NewReader(`{}`))
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s with %s %s: status %d, want %d", c.path, c.header, c.value, w.Code, c.want)
		}
	}
}

// That nobody leads is not told as a catalog that does not answer.
func TestLeadWarning(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"": nil, "no controller leads": fmt.Errorf("leader: %w", catalog.ErrNotFound), "the catalog does not answer": catalog.ErrUnavailable,
	} {
		if got := leadWarning(err); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%v: %q", err, got)
		}
	}
}

// Who is cut off, the gateways or this process, is told where they disagree.
func TestHealthAsAsked(t *testing.T) {
	t.Parallel()
	silent := errors.New("no answer")
	for name, c := range map[string]struct {
		votes  votes
		answer span.Health
		err    error
		health string
		detail string
	}{
		"all well":                  {votes{up: 2}, span.Health{Detail: "1 broker"}, nil, "up", "1 broker"},
		"nobody voted":              {votes{}, span.Health{Detail: "1 broker"}, nil, "up", "1 broker"},
		"nobody voted, silent":      {votes{}, span.Health{}, silent, "down", "no answer"},
		"gone":                      {votes{down: 2}, span.Health{}, silent, "down", "no answer"},
		"full":                      {votes{up: 1, full: 1}, span.Health{Full: true, Detail: "no room"}, nil, "full", "no room"},
		"the gateway is cut off":    {votes{down: 1, why: "refused"}, span.Health{}, nil, "up", "this process reaches it, the gateway does not: refused"},
		"gateways are cut off":      {votes{down: 3, why: "refused"}, span.Health{}, nil, "up", "this process reaches it, most gateways do not: refused"},
		"most gateways are cut off": {votes{up: 1, down: 2, why: "refused"}, span.Health{}, nil, "up", "this process reaches it, most gateways do not: refused"},
		"process is cut off":        {votes{up: 1}, span.Health{}, silent, "up", "the gateway reaches it, this process does not: no answer"},
		"process is cut off, three": {votes{up: 2, down: 1}, span.Health{}, silent, "up", "most gateways reach it, this process does not: no answer"},
		"process is cut off, full":  {votes{up: 2, full: 2}, span.Health{}, silent, "full", "most gateways reach it, this process does not: no answer"},
	} {
		health, detail := askedHealth(c.votes, c.answer, c.err)
		if health != c.health || detail != c.detail {
			t.Errorf("%s: %s: %s, want %s: %s", name, health, detail, c.health, c.detail)
		}
	}
}

// TestSlowHandlers: a handler has the time that it takes, also past the deadline by which a request must be read. One
// that takes too long is answered by what that means, and not by how it was ended.
func TestSlowHandlers(t *testing.T) {
	t.Parallel()
	const reading = 200 * time.Millisecond
	work := func(r *http.Request) (any, error) {
		req, err := body[struct{ Name string }](r)
		if err != nil {
			return nil, err
		}
		select {
		case <-r.Context().Done():
			return nil, fmt.Errorf("create %s: %w", req.Name, r.Context().Err())
		case <-time.After(5 * reading):
			return req.Name, nil
		}
	}
	for _, c := range []struct {
		limit time.Duration
		body  string
		code  int
		want  string
	}{
		{0, `{"Name": "x"}`, http.StatusOK, `"x"`},
		{time.Millisecond, `{"Name": "x"}`, http.StatusServiceUnavailable, "no longer waited for"},
		{0, `{"Name": "` + strings.Repeat("x", maxBody) + `"}`, http.StatusBadRequest, "too large"},
	} {
		s := &Server{limit: c.limit}
		s.opts.Logger = slog.New(slog.DiscardHandler)
		h := httptest.NewUnstartedServer(http.MaxBytesHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, work) }), maxBody))
		h.Config.ReadTimeout = reading
		h.Start()
		resp, err := h.Client().Post(h.URL, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.code || !strings.Contains(string(got), c.want) || strings.Contains(string(got), "context") {
			t.Errorf("limit %s, %d bytes: status %d: %s", c.limit, len(c.body), resp.StatusCode, got)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		h.Close()
	}
}
