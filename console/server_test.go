package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
