package tenant

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// names signs every user of a small fleet on, in whatever way.
func TestReach(t *testing.T) {
	e, err := catalog.StartEmbedded(t.Context(), catalog.EmbeddedConfig{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() }) // only so that nothing leaks
	c, err := catalog.Connect(t.Context(), catalog.Config{Endpoints: e.Endpoints(), AnswerTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // likewise
	began := time.Now().UTC()
	for _, name := range []string{"acme", "beta", "gone"} {
		if _, err := c.CreateTenant(t.Context(), catalog.Tenant{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	cred := map[string]catalog.Scram{"SCRAM-SHA-256": {StoredKey: []byte("k"), Salt: []byte("s"), Iterations: 4096}}
	for i, at := range []struct{ tenant, name string }{
		{"beta", "alice"}, {"acme", "alice"}, {"acme", "bob"}, {"beta", "bob@acme"}, {"gone", "carol"}, {"acme", "d@mail.example"}, {catalog.DefaultTenant, "eve"},
	} {
		if _, err := c.PutUser(t.Context(), catalog.User{Tenant: at.tenant, Name: at.name, Credentials: cred, CreatedAt: began.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	w, err := c.Watch(t.Context(), catalog.Scope{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	gone, err := c.Tenant(t.Context(), "gone")
	if err != nil {
		t.Fatal(err)
	}
	gone.State = "deleting"
	if _, err := c.UpdateTenant(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	fresh := func() *catalog.Snapshot {
		s, err := w.Refresh(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := fresh()
	for _, x := range []struct{ only, name, tenant, user string }{
		{"", "alice", "beta", "alice"}, // who was first
		{"", "alice@acme", "acme", "alice"},
		{"", "alice@beta", "beta", "alice"},
		{"", "bob", "acme", "bob"},
		{"", "bob@acme", "acme", "bob"}, // nobody takes a name away by one that looks like it
		{"", "bob@acme@beta", "beta", "bob@acme"},
		{"", "d@mail.example", "acme", "d@mail.example"},
		{"", "eve", "default", "eve"},
		{"", "eve@default", "default", "eve"},
		{"", "carol", "", ""},
		{"", "carol@gone", "", ""},
		{"", "nobody", "", ""},
		{"", "@acme", "", ""},
		{"", "", "", ""},
		{"", "alice@braid", "", ""},
		{"acme", "alice", "acme", "alice"},
		{"acme", "alice@acme", "acme", "alice"},
		{"acme", "alice@beta", "", ""},
		{"acme", "eve", "", ""},
		{"beta", "bob@acme", "beta", "bob@acme"},
		{"gone", "carol", "", ""},
		{"none", "alice", "", ""},
	} {
		u := Reach{Snapshot: s, Only: x.only}.User(x.name)
		if u == nil && x.user != "" || u != nil && (u.Tenant != x.tenant || u.Name != x.user) {
			t.Errorf("%q on a listener of %q: %v, want %s of %s", x.name, x.only, u, x.user, x.tenant)
		}
	}
	for _, x := range []struct {
		only, named, want string
		ok                bool
	}{
		{"", "", "", false}, {"", "acme", "acme", true}, {"acme", "", "acme", true}, {"acme", "acme", "acme", true}, {"acme", "beta", "", false},
		{"", "gone", "gone", false}, {"gone", "", "gone", false}, {"", "braid", "braid", false}, {"", "none", "none", false},
	} {
		if got, ok := (Reach{Snapshot: s, Only: x.only}).Tenant(x.named); ok != x.ok || ok && got != x.want {
			t.Errorf("tenant %q on a listener of %q: %q, %t", x.named, x.only, got, ok)
		}
	}
	for _, x := range []struct {
		only, name, tenant, principal string
		ok                            bool
	}{
		{"", "cn@acme", "acme", "cn", true}, {"", "cn", "", "", false}, {"acme", "cn@beta", "acme", "cn@beta", true}, {"", "cn@none", "", "", false},
		{"acme", "", "", "", false}, {"", "@acme", "", "", false},
	} {
		of, principal, ok := Reach{Snapshot: s, Only: x.only}.Mapped(x.name)
		if ok != x.ok || ok && (of != x.tenant || principal != x.principal) {
			t.Errorf("%q on a listener of %q: %q of %q, %t", x.name, x.only, principal, of, ok)
		}
	}

	// A server name is the client's own choice: what proves nothing of a tenant is good for none.
	asked := Reach{Snapshot: s, Only: "acme", Asked: true}
	for _, name := range []string{"cn", "cn@beta", "cn@none"} {
		if of, principal, ok := asked.Mapped(name); ok {
			t.Errorf("certificate of %q by the server name of acme: %q of %q", name, principal, of)
		}
	}
	if of, principal, ok := asked.Mapped("cn@acme"); !ok || of != "acme" || principal != "cn" {
		t.Errorf("certificate of cn@acme: %q of %q, %t", principal, of, ok)
	}
	if of, ok := asked.Tenant(""); ok {
		t.Errorf("a token that names no tenant is good for %q", of)
	}
	if of, ok := asked.Tenant("acme"); !ok || of != "acme" {
		t.Errorf("a token of acme: %q, %t", of, ok)
	}

	// Names that were claimed since, beside users of before. Who claims none has none, whoever else does or does not.
	for _, at := range []struct {
		tenant, name string
		bare         catalog.Bare
	}{
		{"acme", "gina", catalog.BareClaimed}, {"beta", "gina", catalog.BareNone}, {"beta", "hugo", catalog.BareNone}, {"acme", "hugo", catalog.BareNone},
		{"beta", "ida", catalog.BareNone}, {"beta", "nl@acme", catalog.BareNone}, {"acme", "nl", catalog.BareNone}, {"beta", "nl@gone", catalog.BareNone},
		{"beta", "nl@none", catalog.BareNone}, {"beta", "m@none", catalog.BareClaimed}, {"gone", "kurt", catalog.BareClaimed}, {"beta", "kurt", catalog.BareNone},
		{"acme", "eve", catalog.BareNone}, {"acme", "carol", catalog.BareNone},
	} {
		if _, err := c.PutUser(t.Context(), catalog.User{Tenant: at.tenant, Name: at.name, Credentials: cred, Bare: at.bare}); err != nil {
			t.Fatal(err)
		}
	}
	s = fresh()
	for _, x := range []struct{ only, name, tenant, signsOn string }{
		{"", "gina", "acme", "gina"}, {"", "gina@beta", "beta", "gina@beta"}, {"", "gina@acme", "acme", "gina"},
		{"", "hugo", "", ""}, {"", "hugo@acme", "acme", "hugo@acme"}, {"", "ida", "", ""}, {"", "ida@beta", "beta", "ida@beta"},
		{"", "nl@acme", "acme", "nl@acme"}, {"", "nl@acme@beta", "beta", "nl@acme@beta"}, {"", "nl@gone", "", ""}, {"", "nl@none", "", ""}, {"", "nl@none@beta", "beta", "nl@none@beta"},
		{"", "m@none", "beta", "m@none"}, {"", "kurt", "", ""}, {"", "kurt@beta", "beta", "kurt@beta"},
		{"", "eve", "default", "eve"}, {"", "carol", "", ""}, {"", "alice", "beta", "alice"}, {"", "alice@acme", "acme", "alice@acme"}, {"", "bob@acme@beta", "beta", "bob@acme@beta"},
		{"beta", "ida", "beta", "ida@beta"}, {"beta", "nl@none", "beta", "nl@none@beta"}, {"acme", "gina", "acme", "gina"}, {"beta", "m@none", "beta", "m@none"},
	} {
		u := Reach{Snapshot: s, Only: x.only}.User(x.name)
		if u == nil && x.tenant != "" || u != nil && (u.Tenant != x.tenant || SignsOn(s, u) != x.signsOn) {
			t.Errorf("%q on a listener of %q: %v, want one of %s who signs on as %s", x.name, x.only, u, x.tenant, x.signsOn)
		}
	}
	// Who is gone and comes back at the same second has not taken the name by it.
	if err := c.DeleteUser(t.Context(), "acme", "gina", -1); err != nil {
		t.Fatal(err)
	}
	if u := (Reach{Snapshot: fresh()}).User("gina"); u != nil {
		t.Errorf("of the users who have not claimed it: %v", u)
	}

	alice := s.User("acme", "alice")
	stands := func() bool { return Reach{Snapshot: fresh()}.Stands(alice, "SCRAM-SHA-256") }
	if !stands() {
		t.Error("alice does not stand")
	}
	with := *alice
	with.Credentials = map[string]catalog.Scram{"SCRAM-SHA-256": cred["SCRAM-SHA-256"], "SCRAM-SHA-512": {StoredKey: []byte("x"), Iterations: 4096}}
	with, err = c.PutUser(t.Context(), with)
	if err != nil {
		t.Fatal(err)
	}
	if !stands() {
		t.Error("alice does not stand with a second credential")
	}
	with.Credentials = map[string]catalog.Scram{"SCRAM-SHA-256": {StoredKey: []byte("other"), Salt: []byte("s"), Iterations: 4096}}
	if _, err := c.PutUser(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	if stands() {
		t.Error("alice stands with another password")
	}
	if err := c.DeleteUser(t.Context(), "acme", "alice", -1); err != nil {
		t.Fatal(err)
	}
	if stands() {
		t.Error("alice stands after her removal")
	}
}
