package catalog

import (
	"errors"
	"sync"
	"testing"
)

// A bare name is one user's, in one tenant, for as long as that user is there.
func TestBareNames(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	run := RandomName(8)
	a, b, name := run+"a", run+"b", "u-"+run
	for _, x := range []string{a, b} {
		must(c.CreateTenant(t.Context(), Tenant{Name: x}))(t)
	}
	add := func(tenant, name string) User {
		t.Helper()
		u := must(c.PutUser(t.Context(), User{Tenant: tenant, Name: name, Bare: BareClaimed}))(t)
		if read := must(c.User(t.Context(), tenant, name))(t); read.Bare != u.Bare {
			t.Errorf("%q was told, %q is kept", u.Bare, read.Bare)
		}
		return u
	}
	remove := func(tenant, name string) {
		t.Helper()
		if err := c.DeleteUser(t.Context(), tenant, name, -1); err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, u User, want Bare) {
		t.Helper()
		if u.Bare != want {
			t.Errorf("%s: %q, want %q", what, u.Bare, want)
		}
	}
	u := add(a, name)
	is("the first", u, BareClaimed)
	is("the second", add(b, name), BareNone)
	if _, err := c.PutUser(t.Context(), User{Tenant: a, Name: name, Bare: BareClaimed}); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}
	if _, err := c.PutUser(t.Context(), User{Tenant: run + "none", Name: "x" + name, Bare: BareClaimed}); !errors.Is(err, ErrNoTenant) {
		t.Errorf("of no tenant: %v", err)
	}
	u.Credentials = map[string]Scram{"SCRAM-SHA-256": {Iterations: 4096}}
	is("with another password", must(c.PutUser(t.Context(), u))(t), BareClaimed)
	remove(b, name)
	is("after the other is gone and back", add(b, name), BareNone)
	if got := must(w.Refresh(t.Context()))(t).Bare(name); got == nil || got.Tenant != a {
		t.Errorf("held by %v", got)
	}
	remove(a, name)
	if got := must(w.Refresh(t.Context()))(t).Bare(name); got != nil {
		t.Errorf("held by %v", got)
	}
	is("who was there without it", must(c.User(t.Context(), b, name))(t), BareNone)
	remove(b, name)
	is("once it is free", add(b, name), BareClaimed)

	// A release that knows of no claims removes a user, and perhaps makes it again.
	for _, again := range []bool{false, true} {
		if _, err := c.cli.Delete(t.Context(), userKey(b, name)); err != nil {
			t.Fatal(err)
		}
		if again {
			must(c.PutUser(t.Context(), User{Tenant: b, Name: name, Bare: BareNone}))(t)
		}
		is("by a claim of nobody", add(a, name), BareClaimed)
		remove(a, name)
		if again {
			remove(b, name)
		}
		is("and back", add(b, name), BareClaimed)
	}

	is("what reads as a user of another tenant", add(b, "x@"+a), BareNone)
	is("of the default tenant", add(b, "x"+run+"@default"), BareNone)
	is("of no tenant's", add(b, run+"@mail.example"), BareClaimed)

	// A tenant's names are free once it is removed.
	gone := must(c.Tenant(t.Context(), b))(t)
	gone.State = TenantRemoving
	gone = must(c.UpdateTenant(t.Context(), gone))(t)
	is("while it is being removed", add(a, name), BareNone)
	remove(a, name)
	if err := c.DeleteTenant(t.Context(), gone, Fence{}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.cli.Get(t.Context(), bareKey(name)); err != nil || len(r.Kvs) > 0 {
		t.Errorf("left: %v, %v", r, err)
	}
	is("after its removal", add(a, name), BareClaimed)
	remove(a, name)
}

// Of many that claim one name at the same moment one has it.
func TestOneOfManyHasABareName(t *testing.T) {
	c := open(t)
	run := tenantOf(t) + RandomName(4)
	const n = 6
	bare := make([]Bare, n)
	var wg sync.WaitGroup
	for i := range n {
		of := run + string(rune('a'+i))
		must(c.CreateTenant(t.Context(), Tenant{Name: of}))(t)
		defer func() {
			if err := c.DeleteUser(t.Context(), of, run, -1); err != nil {
				t.Error(err)
			}
		}()
	}
	for i := range n {
		wg.Go(func() {
			u, err := c.PutUser(t.Context(), User{Tenant: run + string(rune('a'+i)), Name: run, Bare: BareClaimed})
			if err != nil {
				t.Error(err)
			}
			bare[i] = u.Bare
		})
	}
	wg.Wait()
	held := 0
	for _, b := range bare {
		if b == BareClaimed {
			held++
		}
	}
	if held != 1 {
		t.Errorf("%d hold it: %q", held, bare)
	}
}

// Where a tenant is alone its administrators claim names, but none that may become another tenant's.
func TestAloneInAFleet(t *testing.T) {
	s := &Snapshot{}
	for name, want := range map[string]bool{"alice": true, "alice@mail.example": true, "alice@acme": false, "@acme": true} {
		if got := s.Alone(DefaultTenant, name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	if s.Alone("acme", "alice") {
		t.Error("another is alone")
	}
}
