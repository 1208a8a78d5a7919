package gateway

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Who administers a tenant among others gives no bare names: a user of its own that has the name of another's signs on
// by it as little, and is told the same, as one whose name nobody else has.
func TestNamesTellNothingOfOtherTenants(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms}))
	adm := kadm.NewClient(f.client())
	const password = "secret"
	add := func(names ...string) {
		t.Helper()
		var list []kadm.UpsertSCRAM
		for _, name := range names {
			list = append(list, kadm.UpsertSCRAM{User: name, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: password})
		}
		res, err := adm.AlterUserSCRAMs(t.Context(), nil, list)
		if err == nil {
			err = res.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("alone")
	if _, err := f.cat.CreateTenant(t.Context(), catalog.Tenant{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	for name, bare := range map[string]catalog.Bare{"gina": catalog.BareClaimed, "hugo": catalog.BareNone, "nl": catalog.BareNone} {
		if _, err := f.cat.PutUser(t.Context(), catalog.User{Tenant: "acme", Name: name, Bare: bare}); err != nil {
			t.Fatal(err)
		}
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return len(s.Users("acme")) == 3 })
	add("gina", "hugo", "ida", "nl@acme", "nobody@acme", "nl@nowhere")
	f.watchUntil(func(s *catalog.Snapshot) bool { return len(s.Users(catalog.DefaultTenant)) == 7 })
	answer := func(name string) (wire.Code, string) {
		t.Helper()
		r := f.raw().signOn(plain.Auth{User: name, Pass: password}.AsMechanism())
		if r.ErrorMessage == nil {
			return wire.Code(r.ErrorCode), ""
		}
		return wire.Code(r.ErrorCode), *r.ErrorMessage
	}
	for _, name := range []string{"alone", "alone@default", "gina@default", "ida@default", "nl@acme@default"} {
		if code, text := answer(name); code != wire.None {
			t.Errorf("%s: %v %s", name, code, text)
		}
	}
	code, text := answer("nobody")
	if code != wire.SASLAuthenticationFailed {
		t.Errorf("nobody: %v", code)
	}
	for _, name := range []string{"gina", "hugo", "ida", "nl@acme", "nobody@acme", "nl@nowhere"} {
		if c, s := answer(name); c != code || s != text {
			t.Errorf("%s: %v %s, want %v %s as nobody is told", name, c, s, code, text)
		}
	}
}
