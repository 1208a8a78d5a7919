package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// Whoever compares what SCRAM answers first to two spellings of a name, or at two listeners, finds the same of names that
// nobody has, of tenants that do not exist, and of users.
func TestTwoSpellingsTellNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	put := func(tenant, name string, bare catalog.Bare) {
		t.Helper()
		c, err := sasl.NewCredential(sasl.ScramSHA256, "secret", 4096)
		if err != nil {
			t.Fatal(err)
		}
		u := catalog.User{Tenant: tenant, Name: name, Credentials: map[string]catalog.Scram{sasl.ScramSHA256: c}, Bare: bare}
		if _, err := f.cat.PutUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"acme", "globex"} {
		if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return s.Tenant("acme") != nil && s.Tenant("globex") != nil })
	for i := range 4 {
		put("acme", fmt.Sprint("a-", i), catalog.BareClaimed)
		put("globex", fmt.Sprint("g-", i), catalog.BareClaimed)
		put("globex", fmt.Sprint("a-", i), catalog.BareNone)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return len(s.Users("acme")) == 4 && len(s.Users("globex")) == 8 })
	g := f.gateways[0]
	g.shapes.mu.Lock()
	g.shapes.by = nil // what was counted before
	g.shapes.mu.Unlock()
	first := func(only, name string) string {
		t.Helper()
		c := &conn{g: g, l: &listener{cfg: ListenerConfig{Security: Security{Tenant: only}}}, only: only}
		answer, err := g.opts.SASL.Begin(sasl.ScramSHA256, lookup{c: c}).Step(t.Context(), []byte("n,,n="+name+",r=n"))
		if err != nil {
			t.Fatal(err)
		}
		_, salt, ok := strings.Cut(string(answer), ",")
		if !ok {
			t.Fatalf("%q", answer)
		}
		return salt
	}
	names := func(prefix string) (out []string) {
		for i := range 64 {
			out = append(out, fmt.Sprint(prefix, i))
		}
		return out
	}
	nobodies := names("nobody-")
	alike := func(tenant string, names []string) (n int) {
		t.Helper()
		for _, name := range names {
			bare, full := first("", name), first("", name+"@"+tenant)
			if bare == full {
				n++
			}
			if again := first("", name+"@"+tenant); again != full {
				t.Errorf("%s@%s: %s, then %s", name, tenant, full, again)
			}
			// By whatever way: the listener's tenant, with the name or without.
			for _, spelling := range []string{name, name + "@" + tenant} {
				if got := first(tenant, spelling); got != full {
					t.Errorf("%s at %s's listener: %s, and %s where it has no tenant", spelling, tenant, got, full)
				}
			}
		}
		return n
	}
	users := []string{"a-0", "a-1", "a-2", "a-3"}
	if n := alike("acme", users); n != 4 {
		t.Errorf("%d of acme's users", n)
	}
	if n := alike("acme", nobodies); n != 64 {
		t.Errorf("nobody of acme: %d of 64 alike, as all of its users are", n)
	}
	if n := alike("globex", users); n != 0 {
		t.Errorf("%d of globex's users without a bare name", n)
	}
	if n := alike("globex", nobodies); n < 12 || n > 52 {
		t.Errorf("nobody of globex: %d of 64 alike, as half of its users are", n)
	}
	all, half := 0, 0
	for i := range 24 {
		switch n := alike(fmt.Sprint("nowhere-", i), nobodies); {
		case n == 64:
			all++
		case n >= 12 && n <= 52:
			half++
		default:
			t.Errorf("a tenant that does not exist: %d of 64 alike", n)
		}
	}
	if all < 2 || half < 2 {
		t.Errorf("of the tenants that do not exist %d look like one and %d like the other that does", all, half)
	}
	// A user is alike nobody of another tenant, as nobody is.
	if n := alike("globex", []string{"g-0", "g-1", "g-2", "g-3"}); n != 4 {
		t.Errorf("%d of globex's users", n)
	}
	if n := alike("acme", []string{"g-0", "g-1", "g-2", "g-3"}); n != 4 {
		t.Errorf("%d of globex's users as acme's", n)
	}
}

// The salt of another's credential is all that is shown of it: its password is good for its own names.
func TestAlikeSpellingIsNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}))
	f.acme(0)
	for _, name := range []string{"joe@nowhere", "joe@default", "joe@acme@acme"} {
		if resp := f.raw().signOn(as(name, "secret")); resp.ErrorCode != int16(wire.SASLAuthenticationFailed) {
			t.Errorf("%s: %v", name, wire.Code(resp.ErrorCode))
		}
	}
	for _, name := range []string{"joe", "joe@acme"} {
		if resp := f.raw().signOn(as(name, "secret")); resp.ErrorCode != 0 {
			t.Errorf("%s: %v", name, wire.Code(resp.ErrorCode))
		}
	}
}
