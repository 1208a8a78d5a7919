package rules

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func (s *Store) withUsers(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		_, err := s.Catalog.PutUser(t.Context(), catalog.User{Tenant: catalog.DefaultTenant, Name: name,
			Credentials: map[string]catalog.Scram{"SCRAM-SHA-256": {Salt: []byte("s"), StoredKey: []byte("k"), ServerKey: []byte("k"), Iterations: 4096}}})
		if err != nil && !errors.Is(err, catalog.ErrExists) {
			t.Fatal(err)
		}
	}
}

func lastAdmin(err error) bool {
	var rejected *span.RejectedError
	return errors.As(err, &rejected) && rejected.Code == wire.PolicyViolation
}

// Of the last two who may change the rules, one as a super user and one by a rule, one stays: whether both are
// deleted at the same moment, or one while the other's rule is.
func TestUsersWhoGoAtTheSameTimeLeaveAnAdmin(t *testing.T) {
	s := store(t)
	ctx := context.Background()
	x, err := s.Catalog.Tenant(ctx, catalog.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	x.SuperUsers = []string{"User:ann"}
	if _, err := s.Catalog.UpdateTenant(ctx, x); err != nil {
		t.Fatal(err)
	}
	bob := admin("bob")
	for round := range 20 {
		s.withUsers(t, "ann", "bob", "eve")
		for _, err := range s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{bob}, Options{}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i, name := range []string{"ann", "bob"} {
			wg.Go(func() { errs[i] = s.DeleteUser(ctx, catalog.DefaultTenant, name, -1, Options{}) })
		}
		wg.Go(func() {
			if err := s.DeleteUser(ctx, catalog.DefaultTenant, "eve", -1, Options{}); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		left, err := s.Catalog.Users(ctx, catalog.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) != 1 || lastAdmin(errs[0]) == lastAdmin(errs[1]) {
			t.Fatalf("round %d: %v are left (%v)", round, left, errs)
		}
	}
}

// Who goes is looked at as things are when it goes.
func TestRemovalOfAUserNoticesWhatChanged(t *testing.T) {
	s := store(t)
	ctx := t.Context()
	s.withUsers(t, "ann", "bob", "eve")
	for _, err := range s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{admin("ann"), admin("bob")}, Options{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	at, err := s.Catalog.RulesAt(ctx, catalog.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Catalog.User(ctx, catalog.DefaultTenant, "bob")
	if err != nil {
		t.Fatal(err)
	}
	// One who may change nothing is in nobody's way.
	if err := s.DeleteUser(ctx, catalog.DefaultTenant, "eve", -1, Options{}); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Catalog.RulesAt(ctx, catalog.DefaultTenant); err != nil || now != at {
		t.Errorf("%v, was %v, %v", now, at, err)
	}
	if err := s.DeleteUser(ctx, catalog.DefaultTenant, "ann", -1, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Catalog.DeleteUserAt(ctx, catalog.DefaultTenant, "bob", u.Revision, at, true); !errors.Is(err, catalog.ErrRulesChanged) {
		t.Errorf("the other went: %v", err)
	}
	if err := s.Catalog.DeleteUserAt(ctx, catalog.DefaultTenant, "ann", -1, at, true); err != nil {
		t.Errorf("who is gone: %v", err)
	}
	if err := s.DeleteUser(ctx, catalog.DefaultTenant, "bob", u.Revision-1, Options{}); !lastAdmin(err) {
		t.Errorf("the last one: %v", err)
	}
	if err := s.DeleteUser(ctx, catalog.DefaultTenant, "bob", u.Revision-1, Options{Force: true}); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("at another revision: %v", err)
	}
	if err := s.DeleteUser(ctx, catalog.DefaultTenant, "bob", u.Revision, Options{Force: true}); err != nil {
		t.Errorf("by force: %v", err)
	}
}
