package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// store keeps the rules of a catalog of the test's own.
func store(t *testing.T) *Store {
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
	return &Store{Catalog: cat, Watcher: w, Logger: quiet}
}

func admin(name string) acl.Binding {
	return acl.Binding{Type: acl.Cluster, Name: acl.ClusterName, Pattern: acl.Literal, Principal: "User:" + name, Host: acl.Wildcard, Operation: acl.Alter, Permission: acl.Allow}
}

func only(b acl.Binding) []acl.Filter {
	f := acl.Everything()
	f.Principal = &b.Principal
	return []acl.Filter{f}
}

// Two admins who take each other's rights away at the same moment do not both
// succeed, though each alone may.
func TestRemovalsAtTheSameTimeLeaveAnAdmin(t *testing.T) {
	s := store(t)
	ctx := context.Background()
	ann, bob := admin("ann"), admin("bob")
	refused := 0
	for round := range 25 {
		for _, err := range s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{ann, bob}, Options{}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i, b := range []acl.Binding{ann, bob} {
			wg.Go(func() {
				_, e := s.DeleteACLs(ctx, catalog.DefaultTenant, only(b), Options{})
				errs[i] = e[0]
			})
		}
		wg.Wait()
		left, err := s.Catalog.ACLs(ctx, catalog.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 1 {
			t.Fatalf("round %d: %d rules are left (%v)", round, len(left), errs)
		}
		for _, err := range errs {
			var rejected *span.RejectedError
			if errors.As(err, &rejected) && rejected.Code == wire.PolicyViolation {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused != 25 {
		t.Errorf("%d of 25 were refused", refused)
	}
}

// A tenant whose super user goes at the moment when its last rule does keeps one of
// them: the write of the rules notices the change of the tenant.
func TestRulesNoticeTheTenant(t *testing.T) {
	s := store(t)
	ctx := context.Background()
	at, err := s.Catalog.RulesAt(ctx, catalog.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Catalog.Tenant(ctx, catalog.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	x.SuperUsers = []string{"User:root"}
	if _, err := s.Catalog.UpdateTenant(ctx, x); err != nil {
		t.Fatal(err)
	}
	records := []catalog.ACL{admin("ann").Record()}
	if _, err := s.Catalog.PutACLsAt(ctx, catalog.DefaultTenant, records, at); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("the tenant changed: %v", err)
	}
	if at, err = s.Catalog.RulesAt(ctx, catalog.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Catalog.PutACLs(ctx, catalog.DefaultTenant, records); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Catalog.DeleteACLsAt(ctx, catalog.DefaultTenant, records, at); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("the rules changed: %v", err)
	}
}

// Many rules, written in several transactions by several at the same time: all are
// there, and what one deletes it tells.
func TestManyRulesAtTheSameTime(t *testing.T) {
	s := store(t)
	ctx := context.Background()
	const each = 250
	names := []string{"ann", "bob", "eve"}
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			rules := make([]acl.Binding, each)
			for i := range rules {
				rules[i] = acl.Binding{Type: acl.Topic, Name: fmt.Sprint("t", i), Pattern: acl.Literal, Principal: "User:" + name, Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}
			}
			for _, err := range s.CreateACLs(ctx, catalog.DefaultTenant, rules, Options{Force: true}) {
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if all, err := s.Catalog.ACLs(ctx, catalog.DefaultTenant); err != nil || len(all) != each*len(names) {
		t.Fatalf("%d rules, %v", len(all), err)
	}
	for _, name := range names {
		wg.Go(func() {
			deleted, errs := s.DeleteACLs(ctx, catalog.DefaultTenant, only(admin(name)), Options{Force: true})
			if errs[0] != nil || len(deleted[0]) != each {
				t.Errorf("%s: %d told, %v", name, len(deleted[0]), errs[0])
			}
		})
	}
	wg.Wait()
	if all, err := s.Catalog.ACLs(ctx, catalog.DefaultTenant); err != nil || len(all) != 0 {
		t.Fatalf("%d rules are left, %v", len(all), err)
	}
}

// Whoever asks, a change after which nobody who can sign on may change the rules needs force.
func TestChangesThatLockEverybodyOut(t *testing.T) {
	s := store(t)
	ctx := t.Context()
	app := acl.Binding{Type: acl.Topic, Name: "a", Pattern: acl.Literal, Principal: "User:app", Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}
	denied := func(who string) acl.Binding {
		b := admin(who)
		b.Permission = acl.Deny
		return b
	}
	all := denied("*")
	all.Operation = acl.All
	if _, err := s.Catalog.PutUser(ctx, catalog.User{Tenant: catalog.DefaultTenant, Name: "ann", Credentials: map[string]catalog.Scram{"SCRAM-SHA-256": {}}}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Operator: true}, {Asker: "User:ann"}} {
		for name, rules := range map[string][]acl.Binding{
			"a first rule": {app}, "an admin who is none": {app, admin("anm")}, "an admin who is denied": {admin("ann"), denied("ann")}, "all of the cluster": {all},
		} {
			for _, err := range s.CreateACLs(ctx, catalog.DefaultTenant, rules, o) {
				var rejected *span.RejectedError
				if !errors.As(err, &rejected) || rejected.Code != wire.PolicyViolation {
					t.Errorf("%s, %+v: %v", name, o, err)
				}
			}
		}
		for _, err := range s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{app, admin("ann")}, o) {
			if err != nil {
				t.Error(err)
			}
		}
		if err := s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{denied("ann")}, o)[0]; err == nil {
			t.Error("the last admin is denied")
		}
		if _, errs := s.DeleteACLs(ctx, catalog.DefaultTenant, []acl.Filter{acl.Everything()}, Options{Force: true}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	if left, err := s.Catalog.ACLs(ctx, catalog.DefaultTenant); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	if err := s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{all}, Options{Operator: true, Force: true})[0]; err != nil {
		t.Error(err)
	}
	// Who signs on by a certificate is known when it asks.
	if _, errs := s.DeleteACLs(ctx, catalog.DefaultTenant, []acl.Filter{acl.Everything()}, Options{Force: true}); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if err := s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{admin("CN=ops")}, Options{Asker: "User:CN=ops"})[0]; err != nil {
		t.Error(err)
	}
}
