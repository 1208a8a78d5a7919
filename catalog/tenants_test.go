package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// tenantNamed makes a tenant of the test's own.
func tenantNamed(t *testing.T, c *Catalog) Tenant {
	t.Helper()
	return must(c.CreateTenant(t.Context(), Tenant{Name: tenantOf(t) + RandomName(4), Limits: TenantLimits{Topics: 3}}))(t)
}

func TestTenantLifecycle(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	one := tenantNamed(t, c)
	if one.State != TenantActive || len(one.ClusterID) != 22 || one.Created.IsZero() {
		t.Errorf("made: %+v", one)
	}
	if _, err := c.CreateTenant(t.Context(), Tenant{Name: one.Name}); !errors.Is(err, ErrExists) {
		t.Errorf("second of that name: %v", err)
	}
	for _, name := range []string{"", SystemTenant} {
		if _, err := c.CreateTenant(t.Context(), Tenant{Name: name}); err == nil {
			t.Errorf("a tenant named %q was made", name)
		}
	}
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: one.Name, Name: "orders"}, chains(1)))(t)
	user := must(c.PutUser(t.Context(), User{Tenant: one.Name, Name: "a/b"}))(t)
	must(c.PutACLs(t.Context(), one.Name, []ACL{{Principal: "User:x"}}))(t)
	must(c.PutQuotas(t.Context(), one.Name, []ClientQuota{{Entity: []EntityPart{{Type: "user"}}, Values: map[string]float64{"x": 1}}}))(t)
	s := must(w.Refresh(t.Context()))(t)
	if got := s.Tenant(one.Name); got == nil || got.Limits.Topics != 3 || got.Revision != one.Revision {
		t.Errorf("in the snapshot: %+v", got)
	}
	if s.User(one.Name, "a/b") == nil || len(s.ACLs(one.Name)) != 1 || len(s.Quotas(one.Name)) != 1 {
		t.Error("its records are not in the snapshot")
	}

	if err := c.DeleteTenant(t.Context(), one, Fence{}); !errors.Is(err, ErrConflict) {
		t.Errorf("removal of an active tenant: %v", err)
	}
	gone := one
	gone.State, gone.DeleteAt = TenantDeleting, time.Unix(1, 0).UTC()
	gone = must(c.UpdateTenant(t.Context(), gone))(t)
	if err := c.DeleteTenant(t.Context(), gone, Fence{}); !errors.Is(err, ErrConflict) {
		t.Errorf("removal in the grace: %v", err)
	}
	gone.State = TenantRemoving
	gone = must(c.UpdateTenant(t.Context(), gone))(t)
	if _, err := c.UpdateTenant(t.Context(), one); !errors.Is(err, ErrConflict) {
		t.Errorf("write at an old revision: %v", err)
	}
	if err := c.DeleteTenant(t.Context(), gone, Fence{}); !errors.Is(err, ErrConflict) {
		t.Errorf("removal with a topic: %v", err)
	}
	if err := c.RemoveTopic(t.Context(), must(c.MarkDeleting(t.Context(), topic))(t), Fence{}); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTenant(t.Context(), gone, Fence{Key: root + "d/election/none", Revision: 7}); !errors.Is(err, ErrFenced) {
		t.Errorf("removal by a former leader: %v", err)
	}
	for range 2 { // the second finds nothing, which is as well
		if err := c.DeleteTenant(t.Context(), gone, Fence{}); err != nil {
			t.Error(err)
		}
	}
	s = must(w.Refresh(t.Context()))(t)
	if s.Tenant(one.Name) != nil || s.User(one.Name, "a/b") != nil || len(s.UsersNamed("a/b")) != 0 || s.ACLs(one.Name) != nil || s.Quotas(one.Name) != nil {
		t.Error("something of the removed tenant is left")
	}
	if _, err := c.CreateTenant(t.Context(), Tenant{Name: one.Name}); !errors.Is(err, ErrRetired) || !errors.Is(err, ErrExists) {
		t.Errorf("its name is given again: %v", err)
	}
	if _, err := c.CreateTopic(t.Context(), Topic{Tenant: one.Name, Name: "late"}, chains(1)); !errors.Is(err, ErrExists) {
		t.Errorf("topic of a removed tenant: %v", err)
	}
	// A write that is late does not bring back a part of it.
	if _, err := c.PutUser(t.Context(), user); !errors.Is(err, ErrNoTenant) {
		t.Errorf("user of a removed tenant: %v", err)
	}
	if _, err := c.PutACLs(t.Context(), one.Name, []ACL{{}}); !errors.Is(err, ErrNoTenant) {
		t.Errorf("ACL of a removed tenant: %v", err)
	}
	if _, err := c.PutQuotas(t.Context(), one.Name, []ClientQuota{{Values: map[string]float64{"x": 1}}}); !errors.Is(err, ErrNoTenant) {
		t.Errorf("quota of a removed tenant: %v", err)
	}
}

func TestDefaultTenantIsAlwaysThere(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	d := must(c.Tenant(t.Context(), DefaultTenant))(t)
	if d.State != TenantActive || d.Revision != 0 || w.Snapshot().Tenant(DefaultTenant).State != TenantActive {
		t.Fatalf("without a record: %+v", d)
	}
	t.Cleanup(func() { // t.Context() is over by then
		if err := c.remove(context.Background(), "", tenantKey(DefaultTenant), -1, Fence{}); err != nil {
			t.Error(err)
		}
	})
	d.DisplayName = "ours"
	must(c.UpdateTenant(t.Context(), d))(t)
	s := must(w.Refresh(t.Context()))(t)
	if s.Tenant(DefaultTenant).DisplayName != "ours" {
		t.Error("its record does not override")
	}
	n := 0
	for _, x := range s.Tenants() {
		if x.Name == DefaultTenant {
			n++
		}
	}
	for _, x := range must(c.Tenants(t.Context()))(t) {
		if x.Name == DefaultTenant {
			n++
		}
	}
	if n != 2 {
		t.Errorf("it is listed %d times in two lists", n)
	}
	d = must(c.Tenant(t.Context(), DefaultTenant))(t)
	d.State = TenantRemoving
	if err := c.DeleteTenant(t.Context(), d, Fence{}); !errors.Is(err, ErrConflict) {
		t.Errorf("its removal: %v", err)
	}
	if _, err := c.Tenant(t.Context(), "no such"); !errors.Is(err, ErrNotFound) {
		t.Errorf("another: %v", err)
	}
}

func TestUsersOfOneNameInTwoTenants(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	run := tenantOf(t) + RandomName(4)
	a, b := run+"a", run+"b"
	name := "u-" + run
	for _, x := range []string{b, a} {
		must(c.CreateTenant(t.Context(), Tenant{Name: x}))(t)
		must(c.PutUser(t.Context(), User{Tenant: x, Name: name, Credentials: map[string]Scram{"SCRAM-SHA-256": {Salt: []byte(x), Iterations: 4096}}}))(t)
	}
	s := must(w.Refresh(t.Context()))(t)
	if got := s.UsersNamed(name); len(got) != 2 || got[0].Tenant != a || got[1].Tenant != b || string(got[1].Credentials["SCRAM-SHA-256"].Salt) != b {
		t.Errorf("of that name: %v", got)
	}
	u := must(c.User(t.Context(), a, name))(t)
	if _, err := c.PutUser(t.Context(), User{Tenant: a, Name: name}); !errors.Is(err, ErrExists) {
		t.Errorf("second of that name: %v", err)
	}
	u2 := must(c.PutUser(t.Context(), u))(t)
	if _, err := c.PutUser(t.Context(), u); !errors.Is(err, ErrConflict) {
		t.Errorf("write at an old revision: %v", err)
	}
	if err := c.DeleteUser(t.Context(), a, name, u.Revision); !errors.Is(err, ErrConflict) {
		t.Errorf("removal at an old revision: %v", err)
	}
	if err := c.DeleteUser(t.Context(), a, name, u2.Revision); err != nil {
		t.Error(err)
	}
	if _, err := c.PutUser(t.Context(), u2); !errors.Is(err, ErrNotFound) {
		t.Errorf("write of a removed user: %v", err)
	}
	if got := must(w.Refresh(t.Context()))(t).UsersNamed(name); len(got) != 1 || got[0].Tenant != b {
		t.Errorf("after the removal of one: %v", got)
	}
	for _, bad := range []string{"", strings.Repeat("x", MaxUserName+1)} {
		if _, err := c.PutUser(t.Context(), User{Tenant: b, Name: bad}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a name of %d bytes: %v", len(bad), err)
		}
	}
	if got := must(c.Users(t.Context(), b))(t); len(got) != 1 {
		t.Errorf("users of %s: %v", b, got)
	}
}

func TestCredentialsAreNotPrinted(t *testing.T) {
	u := User{Tenant: "t", Name: "alice", Credentials: map[string]Scram{"SCRAM-SHA-512": {Salt: []byte("planted"), StoredKey: []byte("planted"), ServerKey: []byte("planted"), Iterations: 8192}}}
	var b strings.Builder
	l := slog.New(slog.NewTextHandler(&b, nil))
	l.Info("x", "user", u, "pointer", &u, "scram", u.Credentials["SCRAM-SHA-512"], "all", u.Credentials)
	for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
		fmt.Fprintf(&b, f+f+f, u, &u, u.Credentials)
	}
	for _, planted := range []string{"planted", "706c616e746564", "112 108 97", "0x70, 0x6c"} {
		if strings.Contains(b.String(), planted) {
			t.Errorf("%q is in\n%s", planted, b.String())
		}
	}
}

func TestRulesAreKeptOnce(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	tenant := tenantNamed(t, c).Name
	var rules []ACL
	for i := range 300 { // more than one transaction holds
		rules = append(rules, ACL{ResourceType: "TOPIC", ResourceName: fmt.Sprint(i), PatternType: "LITERAL", Principal: "User:a", Host: "*", Operation: "READ", Permission: "ALLOW"})
	}
	rev := must(c.PutACLs(t.Context(), tenant, rules))(t)
	before := must(w.RevisionAtLeast(t.Context(), rev))(t)
	if n := len(before.ACLs(tenant)); n != 300 {
		t.Fatalf("%d rules in the snapshot", n)
	}
	must(c.PutACLs(t.Context(), tenant, rules[:10]))(t)
	if got := must(c.ACLs(t.Context(), tenant))(t); len(got) != 300 || got[0].Tenant != tenant {
		t.Errorf("%d rules after some were written again", len(got))
	}
	rev = must(c.DeleteACLs(t.Context(), tenant, append(rules[:299:299], ACL{ResourceName: "was never"})))(t)
	after := must(w.RevisionAtLeast(t.Context(), rev))(t)
	if got := after.ACLs(tenant); len(got) != 1 || got[0].ResourceName != "299" {
		t.Errorf("rules left: %v", got)
	}
	if after.SameACLs(before, tenant) || !after.SameQuotas(before, tenant) || len(before.ACLs(tenant)) < 299 {
		t.Error("the comparison of two snapshots is wrong, or the older one changed")
	}
	// What one field lacks is not made up for by its neighbour.
	x, y := ACL{ResourceType: "TOPIC", ResourceName: "a"}, ACL{ResourceType: "TOPICa"}
	if x.key() == y.key() {
		t.Error("two rules have one key")
	}
}

func TestQuotasCompareTheirRevision(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	tenant, alice := tenantNamed(t, c).Name, "alice"
	both := []EntityPart{{Type: "user", Name: &alice}, {Type: "client-id"}}
	turned := []EntityPart{both[1], both[0]}
	empty := ""
	if EntityKey(both) != EntityKey(turned) || EntityKey([]EntityPart{{Type: "user"}}) == EntityKey([]EntityPart{{Type: "user", Name: &empty}}) {
		t.Error("keys of entities are wrong")
	}
	q := ClientQuota{Entity: both, Values: map[string]float64{"producer_byte_rate": 1e6}}
	rev := must(c.PutQuotas(t.Context(), tenant, []ClientQuota{q}))(t)
	if _, err := c.PutQuotas(t.Context(), tenant, []ClientQuota{{Entity: turned, Values: q.Values}}); !errors.Is(err, ErrConflict) {
		t.Errorf("written as new a second time: %v", err)
	}
	got := must(w.RevisionAtLeast(t.Context(), rev))(t).Quotas(tenant)
	if len(got) != 1 || got[0].Revision != rev || got[0].Values["producer_byte_rate"] != 1e6 || *got[0].Entity[0].Name != "alice" || got[0].Entity[1].Name != nil {
		t.Fatalf("in the snapshot: %+v", got)
	}
	// One of two conflicts: neither is written.
	if _, err := c.PutQuotas(t.Context(), tenant, []ClientQuota{{Entity: both[:1], Values: q.Values}, {Entity: both, Values: q.Values, Revision: rev - 1}}); !errors.Is(err, ErrConflict) {
		t.Errorf("written at an old revision: %v", err)
	}
	rev = must(c.PutQuotas(t.Context(), tenant, []ClientQuota{{Entity: both, Revision: rev}}))(t)
	if got := must(w.RevisionAtLeast(t.Context(), rev))(t).Quotas(tenant); len(got) != 0 {
		t.Errorf("left after the removal: %+v", got)
	}
	must(c.PutQuotas(t.Context(), tenant, []ClientQuota{q}))(t)
	must(c.DeleteQuota(t.Context(), tenant, turned))(t)
	if got := must(c.Quotas(t.Context(), tenant))(t); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}

// An older release does not know the records' keys: it must take them for nothing,
// not for something else.
func TestKeysOfTenants(t *testing.T) {
	for _, name := range []string{"plain", "a/b", "=x", "\x00", "ü", strings.Repeat("n", 1024)} {
		for key, want := range map[string]address{
			tenantKey(name):           {kind: kindTenant, name: name},
			userKey("t/1", name):      {kind: kindUser, tenant: "t/1", name: name},
			aclPrefix(name) + "ab":    {kind: kindACL, tenant: name, name: "ab"},
			quotaPrefix(name) + "ab":  {kind: kindQuota, tenant: name, name: "ab"},
			groupKey(name, name+"/g"): {kind: kindGroup, tenant: name, name: name + "/g"},
		} {
			if got := parseKey(key); got != want {
				t.Errorf("%q is read as %+v", key, got)
			}
		}
	}
}
