package rules

import (
	"errors"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// In a lenient tenant a client makes and takes away rules of topics, the first and the last
// too, but none of the cluster that leaves nobody who may change the rules.
func TestClientsOfALenientTenantMakeRules(t *testing.T) {
	s := store(t)
	ctx := t.Context()
	topic := acl.Binding{Type: acl.Topic, Name: "a", Pattern: acl.Literal, Principal: "User:bob", Host: acl.Wildcard, Operation: acl.Read, Permission: acl.Allow}
	cluster := topic
	cluster.Type, cluster.Name, cluster.Operation = acl.Cluster, acl.ClusterName, acl.Describe
	refused := func(what string, err error, want bool) {
		t.Helper()
		var r *span.RejectedError
		if errors.As(err, &r) && r.Code == wire.PolicyViolation != want || err != nil && !want {
			t.Errorf("%s: %v", what, err)
		} else if err == nil && want {
			t.Errorf("%s was made", what)
		}
	}
	refused("a first rule in a strict tenant", s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{topic}, Options{})[0], true)
	rec, err := s.Catalog.Tenant(ctx, catalog.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	rec.Lenient = true
	if _, err := s.Catalog.UpdateTenant(ctx, rec); err != nil {
		t.Fatal(err)
	}
	refused("a first rule", s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{topic}, Options{})[0], false)
	refused("a rule of the cluster", s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{cluster}, Options{})[0], true)
	refused("rules with an admin", s.CreateACLs(ctx, catalog.DefaultTenant, []acl.Binding{cluster, admin("ann")}, Options{})[0], false)
	_, errs := s.DeleteACLs(ctx, catalog.DefaultTenant, only(admin("ann")), Options{})
	refused("the end of the last admin", errs[0], true)
	deleted, errs := s.DeleteACLs(ctx, catalog.DefaultTenant, []acl.Filter{acl.Everything()}, Options{})
	refused("the end of all", errs[0], false)
	if len(deleted[0]) != 3 {
		t.Errorf("deleted %v", deleted)
	}
}
