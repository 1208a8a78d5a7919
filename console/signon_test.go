package console

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/tenant"
)

// server is a server on a catalog of its own that has not begun to listen.
func server(t *testing.T, sec Security) *Server {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	etcd, err := catalog.StartEmbedded(t.Context(), catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	cat, err := catalog.Connect(t.Context(), catalog.Config{Endpoints: etcd.Endpoints(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	})
	w, err := cat.Watch(t.Context(), catalog.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &Server{opts: Options{Catalog: cat, Watcher: w, Logger: quiet, Security: sec, Gatherer: prometheus.NewRegistry(), Ready: func() error { return nil }}}
}

// ask sends a request with a token ("" for none) and returns status and body.
func ask(h http.Handler, method, path, token, body string) (int, string) {
	r := httptest.NewRequest(method, "http://127.0.0.1:9080"+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// tokenIn is the token in an answer.
func tokenIn(t *testing.T, body string) string {
	t.Helper()
	_, after, ok := strings.Cut(body, `"secret":"`)
	token, _, _ := strings.Cut(after, `"`)
	if !ok || !strings.HasPrefix(token, TokenPrefix) {
		t.Fatalf("no token in %s", body)
	}
	return token
}

// Every route has a role, and is served to those alone who have it or a higher one.
func TestEveryRouteHasARole(t *testing.T) {
	local, hash := NewToken()
	s := server(t, Security{Demand: true, LocalToken: hash})
	h := s.routes()
	tokens := map[catalog.Role]string{}
	for _, role := range catalog.Roles() {
		code, body := ask(h, "POST", "/v1/operators", local, fmt.Sprintf(`{"name":"%s1","role":"%s"}`, role, role))
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		tokens[role] = tokenIn(t, body)
	}
	table := s.table()
	changing := 0
	for i := range table {
		x := &table[i]
		if !slices.Contains(catalog.Roles(), x.role) {
			t.Errorf("%s has no role", x.pattern)
		}
		if method, _ := cutPattern(x.pattern); method != "GET" && x.pattern != "POST /plans" {
			changing++
			if x.role == catalog.RoleViewer {
				t.Errorf("%s changes something, and viewers may", x.pattern)
			}
		}
		x.handler = func(*http.Request) (any, error) { return "served", nil }
	}
	if changing == 0 {
		t.Fatal("no route changes anything: is the table read?")
	}
	stub := s.serving(append(table, route{"GET /without-role", "", func(*http.Request) (any, error) { return "served", nil }}))
	for _, x := range table {
		method, path := cutPattern(x.pattern)
		path = "/v1" + strings.NewReplacer("{", "", "}", "").Replace(path)
		if code, _ := ask(stub, method, path, "", ""); code != http.StatusUnauthorized {
			t.Errorf("%s without a token: %d", x.pattern, code)
		}
		for _, role := range catalog.Roles() {
			want := http.StatusForbidden
			if role.Allows(x.role) {
				want = http.StatusOK
			}
			if code, body := ask(stub, method, path, tokens[role], ""); code != want {
				t.Errorf("%s as %s: %d, want %d: %s", x.pattern, role, code, want, body)
			}
		}
	}
	if code, _ := ask(stub, "GET", "/v1/without-role", tokens[catalog.RoleAdmin], ""); code != http.StatusForbidden {
		t.Errorf("a route without a role: %d", code)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/metrics": 401, "/v1/nothing": 401} {
		if code, _ := ask(h, "GET", path, "", ""); code != want {
			t.Errorf("%s without a token: %d, want %d", path, code, want)
		}
	}
	if code, _ := ask(h, "GET", "/metrics", tokens[catalog.RoleViewer], ""); code != http.StatusOK {
		t.Errorf("metrics as a viewer: %d", code)
	}
	s.opts.Security.OpenMetrics = true
	if code, _ := ask(s.routes(), "GET", "/metrics", "", ""); code != http.StatusOK {
		t.Errorf("open metrics: %d", code)
	}
}

func TestOperatorTokens(t *testing.T) {
	local, hash := NewToken()
	s := server(t, Security{Demand: true, LocalToken: hash})
	h := s.routes()
	for _, bad := range []string{`{"name":"","role":"admin"}`, `{"name":"local","role":"admin"}`, `{"name":"anonymous","role":"viewer"}`, `{"name":"a/b","role":"admin"}`,
		`{"name":"olga\u202e","role":"admin"}`, `{"name":"` + strings.Repeat("x", 65) + `","role":"admin"}`, `{"name":"olga","role":"root"}`, `{"name":"olga","role":""}`,
		`{"name":"olga","role":"admin","expires":"-1h"}`, `{"name":"olga","role":"admin","expires":"1e9h"}`, `{"name":"olga","role":"admin","x":1}`} {
		if code, body := ask(h, "POST", "/v1/operators", local, bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
	_, body := ask(h, "POST", "/v1/operators", local, `{"name":"olga","role":"admin"}`)
	first := tokenIn(t, body)
	if code, _ := ask(h, "POST", "/v1/operators", first, `{"name":"olga","role":"viewer"}`); code != http.StatusConflict {
		t.Errorf("a second olga: %d", code)
	}
	_, body = ask(h, "POST", "/v1/operators/olga/rotate", first, `{}`)
	second := tokenIn(t, body)
	if code, _ := ask(h, "GET", "/v1/operators", first, ""); code != http.StatusUnauthorized {
		t.Errorf("the token before: %d", code)
	}
	// Lists never show tokens, nor what is kept of them.
	_, body = ask(h, "GET", "/v1/operators", second, "")
	o, err := s.opts.Catalog.Operator(t.Context(), "olga")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{second, first, fmt.Sprintf("%x", o.TokenHash), "tokenHash"} {
		if strings.Contains(body, secret) || strings.Contains(fmt.Sprintf("%v %+v %#v %s", o, o, o, slog.AnyValue(o)), secret) {
			t.Errorf("%s is shown: %s", secret, body)
		}
	}
	if code, body := ask(h, "DELETE", "/v1/operators/olga", second, ""); code != http.StatusUnprocessableEntity || !strings.Contains(body, "last operator") {
		t.Errorf("the last admin: %d %s", code, body)
	}
	if code, _ := ask(h, "DELETE", "/v1/operators/olga?force=true", second, ""); code != http.StatusOK {
		t.Errorf("by force: %d", code)
	}
	for _, none := range []string{second, "", "braid_", string(hash)} {
		if code, _ := ask(h, "GET", "/v1/operators", none, ""); code != http.StatusUnauthorized {
			t.Errorf("as %q: %d", none, code)
		}
	}
	// Expired.
	_, body = ask(h, "POST", "/v1/operators", local, `{"name":"brief","role":"viewer","expires":"1h"}`)
	brief := tokenIn(t, body)
	if o, err = s.opts.Catalog.Operator(t.Context(), "brief"); err != nil {
		t.Fatal(err)
	}
	o.Expires = time.Now().Add(-time.Second)
	if _, err := s.opts.Catalog.PutOperator(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s.sawOperators(t.Context())
	if code, _ := ask(h, "GET", "/v1/operators", brief, ""); code != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", code)
	}
	if code, _ := ask(h, "POST", "/v1/operators/brief/rotate", local, `{}`); code != http.StatusUnprocessableEntity {
		t.Errorf("a token that would be expired: %d", code)
	}
}

// A rotation neither makes the last admin who does not expire one who does, nor gives
// a token to one who signs on by a certificate, unless that is asked for; it can take
// an expiry away.
func TestRotations(t *testing.T) {
	local, hash := NewToken()
	s := server(t, Security{Demand: true, LocalToken: hash})
	h := s.routes()
	do := func(path, body string, want int) string {
		t.Helper()
		code, text := ask(h, "POST", "/v1/operators"+path, local, body)
		if code != want {
			t.Fatalf("%s %s: %d %s, want %d", path, body, code, text, want)
		}
		return text
	}
	operator := func(name string) catalog.Operator {
		t.Helper()
		o, err := s.opts.Catalog.Operator(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	do("", `{"name":"ann","role":"admin"}`, http.StatusOK)
	do("", `{"name":"bob","role":"admin","expires":"1h"}`, http.StatusOK)
	before := operator("ann")
	if body := do("/ann/rotate", `{"expires":"1h"}`, http.StatusUnprocessableEntity); !strings.Contains(body, "last operator of role admin") {
		t.Error(body)
	}
	if after := operator("ann"); after.Revision != before.Revision {
		t.Error("it was changed all the same")
	}
	do("/ann/rotate", `{"expires":"1h","force":true}`, http.StatusOK)
	do("/ann/rotate", `{}`, http.StatusOK)
	if operator("ann").Expires.IsZero() {
		t.Error("the expiry is gone unasked")
	}
	do("/ann/rotate", `{"expires":"never"}`, http.StatusOK)
	if !operator("ann").Expires.IsZero() {
		t.Error("the expiry was not taken away")
	}
	do("/bob/rotate", `{"expires":"never"}`, http.StatusOK)
	do("/ann/rotate", `{"expires":"1h"}`, http.StatusOK)

	do("", `{"name":"deploy","role":"operator","certificate":true}`, http.StatusOK)
	if body := do("/deploy/rotate", `{}`, http.StatusUnprocessableEntity); !strings.Contains(body, "--token") {
		t.Error(body)
	}
	if body := do("/deploy/rotate", `{"expires":"1h"}`, http.StatusOK); strings.Contains(body, "secret") {
		t.Error(body)
	}
	if o := operator("deploy"); len(o.TokenHash) > 0 || o.Expires.IsZero() {
		t.Errorf("%+v", o)
	}
	tokenIn(t, do("/deploy/rotate", `{"token":true}`, http.StatusOK))
}

// Two admins who make each other expire at the same moment do not both succeed.
func TestTheLastPermanentAdminStays(t *testing.T) {
	local, hash := NewToken()
	s := server(t, Security{Demand: true, LocalToken: hash})
	h := s.routes()
	for _, n := range []string{"a0", "a1"} {
		ask(h, "POST", "/v1/operators", local, fmt.Sprintf(`{"name":"%s","role":"admin"}`, n))
	}
	for round := range 10 {
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { ask(h, "POST", fmt.Sprintf("/v1/operators/a%d/rotate", i), local, `{"expires":"1h"}`) })
		}
		wg.Wait()
		list, err := s.opts.Catalog.Operators(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(list, func(o catalog.Operator) bool { return o.Expires.IsZero() }) {
			t.Fatalf("round %d: all expire", round)
		}
		for i := range 2 {
			ask(h, "POST", fmt.Sprintf("/v1/operators/a%d/rotate", i), local, `{"expires":"never"}`)
		}
	}
}

// Two admins who remove each other at the same moment do not both go.
func TestTheLastAdminStays(t *testing.T) {
	local, hash := NewToken()
	s := server(t, Security{Demand: true, LocalToken: hash})
	h := s.routes()
	for round := range 20 {
		var tokens [2]string
		for i := range tokens {
			_, body := ask(h, "POST", "/v1/operators", local, fmt.Sprintf(`{"name":"a%d","role":"admin"}`, i))
			tokens[i] = tokenIn(t, body)
		}
		var wg sync.WaitGroup
		for i := range tokens {
			wg.Go(func() { ask(h, "DELETE", fmt.Sprintf("/v1/operators/a%d", i), tokens[1-i], "") })
		}
		wg.Wait()
		list, err := s.opts.Catalog.Operators(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			t.Fatalf("round %d: nobody is left", round)
		}
		for _, o := range list {
			if err := s.opts.Catalog.DeleteOperator(t.Context(), o, nil); err != nil {
				t.Fatal(err)
			}
		}
		s.sawOperators(t.Context())
	}
}

// A page whose name was resolved anew to loopback does not reach the API.
func TestNamesOfLoopback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sec  Security
		host string
		want bool
	}{
		{Security{Loopback: true}, "127.0.0.1:9080", true},
		{Security{Loopback: true}, "localhost:9080", true},
		{Security{Loopback: true}, "LOCALHOST.", true},
		{Security{Loopback: true}, "[::1]:9080", true},
		{Security{Loopback: true}, "evil.example:9080", false},
		{Security{Loopback: true}, "127.0.0.1.evil.example", false},
		{Security{Loopback: true}, "localhost.evil.example", false},
		{Security{Loopback: true, Hosts: []string{"admin.example"}}, "Admin.Example:443", true},
		{Security{Hosts: []string{"admin.example"}}, "evil.example", false},
		{Security{}, "kafka.example", true},
	} {
		s := &Server{opts: Options{Security: c.sec, Logger: slog.New(slog.DiscardHandler), Ready: func() error { return nil }}}
		r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1/healthz", nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		s.routes().ServeHTTP(w, r)
		if (w.Code == http.StatusOK) != c.want {
			t.Errorf("%+v asked for as %s: %d", c.sec, c.host, w.Code)
		}
	}
}

// Operators sign on by certificates; the server's own is read again as it changes.
func TestCertificatesOfOperators(t *testing.T) {
	dir := t.TempDir()
	ca, other := testkit.NewCA(t, "operators"), testkit.NewCA(t, "others")
	cert, key := ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "first"}, nil)
	caFile := filepath.Join(dir, "ca.pem")
	testkit.WriteWhole(t, caFile, ca.PEM)
	mapping, err := tenant.ParseMapping(`RULE:^CN=(.*?),O=ops$/$1/L`)
	if err != nil {
		t.Fatal(err)
	}
	proto := server(t, Security{})
	for name, role := range map[string]catalog.Role{"olga": catalog.RoleAdmin, "vera": catalog.RoleViewer} {
		if _, err := proto.opts.Catalog.PutOperator(t.Context(), catalog.Operator{Name: name, Role: role}); err != nil {
			t.Fatal(err)
		}
	}
	opts := proto.opts
	opts.Listen = "127.0.0.1:0"
	opts.Security = Security{Demand: true, Mapping: mapping, TLS: &gateway.TLSFiles{Cert: cert, Key: key, ClientCA: caFile, ClientOptional: true}}
	s, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	s.sawOperators(t.Context())
	client := func(by *testkit.CA, subject *pkix.Name) *api.Client {
		o := api.ClientOptions{TLS: &tls.Config{RootCAs: ca.Pool()}}
		if subject != nil {
			c, k := by.Issue(t, *subject, nil)
			pair, err := tls.X509KeyPair(c, k)
			if err != nil {
				t.Fatal(err)
			}
			o.TLS.Certificates = []tls.Certificate{pair}
		}
		c, err := api.NewClientWith("https://"+s.Addr(), o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	code := func(err error) string {
		var e *api.Error
		if err == nil || !errors.As(err, &e) {
			return fmt.Sprint(err)
		}
		return e.Code
	}
	ops := []string{"ops"}
	for _, c := range []struct {
		what    string
		by      *testkit.CA
		subject *pkix.Name
		want    string
	}{
		{"an admin", ca, &pkix.Name{CommonName: "Olga", Organization: ops}, "<nil>"},
		{"a viewer", ca, &pkix.Name{CommonName: "vera", Organization: ops}, "denied"},
		{"no operator", ca, &pkix.Name{CommonName: "eve", Organization: ops}, "unauthenticated"},
		{"no rule", ca, &pkix.Name{CommonName: "olga", Organization: []string{"dev"}}, "unauthenticated"},
		{"no certificate", ca, nil, "unauthenticated"},
		{"another's, which is not even shown", other, &pkix.Name{CommonName: "olga", Organization: ops}, "unauthenticated"},
	} {
		if _, err := client(c.by, c.subject).Operators(t.Context()); code(err) != c.want {
			t.Errorf("%s: %v, want %s", c.what, err, c.want)
		}
	}
	// Plain HTTP is answered by an error, and nothing else.
	if resp, err := http.Get("http://" + s.Addr() + "/healthz"); err == nil {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Log(err)
		}
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP: %s", resp.Status)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	ca.IssueTo(t, dir, "server", pkix.Name{CommonName: "second"}, nil)
	for deadline := time.Now().Add(2 * time.Minute); ; {
		c, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		name := c.ConnectionState().PeerCertificates[0].Subject.CommonName
		if err := c.Close(); err != nil {
			t.Log(err)
		}
		if name == "second" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new certificate is not served")
		}
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(opts); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	// What was not taken is a warning until it is: here, and of each gateway that tells the fleet so.
	session, err := opts.Catalog.Register(t.Context(), catalog.Gateway{Node: 7, Started: time.Now(),
		Listeners: []catalog.Listener{{Name: "EXTERNAL", Advertise: "b:1", Refused: "server.pem: expired"}}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := session.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	vera := client(ca, &pkix.Name{CommonName: "vera", Organization: ops})
	warned := func(here, there bool) {
		t.Helper()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(2 * time.Minute); ; <-tick.C {
			st, err := vera.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all := strings.Join(st.Warnings, "\n")
			if strings.Contains(all, "admin API: its certificate files are not taken") == here &&
				strings.Contains(all, "gateway 7, listener EXTERNAL: its certificate files are not taken as they are, the former certificates serve on: server.pem: expired") == there {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("warnings: %q", st.Warnings)
			}
		}
	}
	warned(true, true)
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := session.Update(t.Context(), catalog.Gateway{Node: 7, Started: time.Now(), Listeners: []catalog.Listener{{Name: "EXTERNAL", Advertise: "b:1"}}}); err != nil {
		t.Fatal(err)
	}
	warned(false, false)
}
