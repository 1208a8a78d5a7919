package rules

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func entity(i int) []catalog.EntityPart {
	name := fmt.Sprint("user", i)
	return []catalog.EntityPart{{Type: "user", Name: &name}}
}

// What makes a tenant's quotas no more is allowed, what makes them too many is not.
func TestQuotasAreBounded(t *testing.T) {
	t.Parallel()
	some := map[string]float64{"producer_byte_rate": 1}
	known := func(n int) map[string]catalog.ClientQuota {
		m := map[string]catalog.ClientQuota{}
		for i := range n {
			m[catalog.EntityKey(entity(i))] = catalog.ClientQuota{Entity: entity(i), Values: some}
		}
		return m
	}
	change := func(from, to int, values map[string]float64) (list []catalog.ClientQuota) {
		for i := from; i < to; i++ {
			list = append(list, catalog.ClientQuota{Entity: entity(i), Values: values})
		}
		return list
	}
	full, over := known(MaxQuotas), known(MaxQuotas+10)
	for _, c := range []struct {
		name  string
		known map[string]catalog.ClientQuota
		next  []catalog.ClientQuota
		want  bool
	}{
		{"as many as there may be", nil, change(0, MaxQuotas, some), false},
		{"too many at once", nil, change(0, MaxQuotas+1, some), true},
		{"one too many", full, change(MaxQuotas, MaxQuotas+1, some), true},
		{"other values", full, change(0, 10, some), false},
		{"one for another", full, append(change(0, 1, nil), change(MaxQuotas, MaxQuotas+1, some)...), false},
		{"fewer, though too many still", over, change(0, 1, nil), false},
		{"other values, though too many", over, change(0, 1, some), false},
	} {
		if got := tooMany(c.known, c.next); got != c.want {
			t.Errorf("%s: too many: %t", c.name, got)
		}
	}
}

// Filters that each select everything do not fill the memory, nor go on for nobody.
func TestFiltersSelectABoundedNumber(t *testing.T) {
	t.Parallel()
	rules := make([]acl.Binding, 1000)
	for i := range rules {
		rules[i] = acl.Binding{Type: acl.Topic, Name: fmt.Sprint("t", i), Pattern: acl.Literal, Principal: "User:ann", Host: "*", Operation: acl.Read, Permission: acl.Allow}
	}
	filters := make([]acl.Filter, maxSelected/len(rules))
	for i := range filters {
		filters[i] = acl.Everything()
	}
	by, all, err := selected(t.Context(), rules, filters, make([]error, len(filters)))
	if err != nil || len(all) != len(rules) || len(by[len(by)-1]) != len(rules) {
		t.Errorf("%d rules, %v", len(all), err)
	}
	filters = append(filters, acl.Everything())
	var rejected *span.RejectedError
	if _, _, err = selected(t.Context(), rules, filters, make([]error, len(filters))); !errors.As(err, &rejected) || rejected.Code != wire.InvalidRequest {
		t.Errorf("too many: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = selected(ctx, rules, filters, make([]error, len(filters))); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}

// Many names that are as long as one may be do not fill the catalog either.
func TestNamesAreBoundedTogether(t *testing.T) {
	t.Parallel()
	some := map[string]float64{"producer_byte_rate": 1}
	const size = 4096
	long := func(i int) catalog.ClientQuota {
		name := fmt.Sprintf("%0*d", size, i)
		return catalog.ClientQuota{Entity: []catalog.EntityPart{{Type: "user", Name: &name}}, Values: some}
	}
	known := map[string]catalog.ClientQuota{}
	for i := range MaxQuotaBytes / size {
		known[catalog.EntityKey(long(i).Entity)] = long(i)
	}
	gone, other := long(0), long(MaxQuotas)
	gone.Values = nil
	for _, c := range []struct {
		name string
		next []catalog.ClientQuota
		want bool
	}{
		{"no more than there are", []catalog.ClientQuota{long(0)}, false},
		{"one more", []catalog.ClientQuota{other}, true},
		{"one for another", []catalog.ClientQuota{gone, other}, false},
	} {
		if got := tooLong(known, c.next); got != c.want {
			t.Errorf("%s: too long: %t", c.name, got)
		}
	}
	if n := textBytes([]acl.Binding{{Name: "orders", Principal: "User:ann", Host: "*"}, {Name: "b"}}); n != 16 {
		t.Errorf("%d bytes of names", n)
	}
}
