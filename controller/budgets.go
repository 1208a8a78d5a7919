package controller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/usage"
)

// divideBudgets divides the tenants' budgets over the gateways, towards where their
// traffic is, and tells what tenants have over all gateways. A tenant's share is written
// only when it differs by what counts, so that tenants without load cost a look.
func (t *term) divideBudgets(ctx context.Context) error {
	for {
		s := t.o.Watcher.Snapshot()
		if t.anyShared(s) {
			uses, err := t.o.Catalog.Uses(ctx)
			if err != nil {
				return err
			}
			for _, tenant := range s.Tenants() {
				next, changed := nextShare(s, tenant, uses, t.stored.of(tenant.Name))
				if !changed {
					continue
				}
				err := t.o.Catalog.PutShare(ctx, next, t.driver.fence)
				if errors.Is(err, catalog.ErrNoTenant) {
					continue // it was removed meanwhile
				}
				if err != nil {
					return err
				}
			}
		}
		if err := pause(ctx, t.o.BudgetEvery); err != nil {
			return err
		}
	}
}

// anyShared tells whether a tenant has anything that is counted over gateways, or had.
func (t *term) anyShared(s *catalog.Snapshot) bool {
	return slices.ContainsFunc(s.Tenants(), func(x *catalog.Tenant) bool { return shared(x) || s.Share(x.Name) != nil })
}

func shared(t *catalog.Tenant) bool {
	return len(t.Budget) > 0 || t.Limits.Connections > 0 || t.Limits.Groups > 0 || t.Limits.StorageBytes > 0
}

// nextShare makes a tenant's share from what the gateways told; changed is false if the
// one that stands will do. stored is what its topics hold, -1 if that is not known.
func nextShare(s *catalog.Snapshot, t *catalog.Tenant, uses []catalog.GatewayUse, stored int64) (next catalog.Share, changed bool) {
	next = catalog.Share{Tenant: t.Name}
	old := s.Share(t.Name)
	if old == nil {
		if !shared(t) {
			return next, false
		}
		old, changed = &catalog.Share{}, true
	}
	told := map[int32]catalog.TenantUse{}
	for _, u := range uses {
		if x, ok := u.Tenants[t.Name]; ok && s.Gateway(u.Node) != nil {
			told[u.Node] = x
		}
	}
	for name, whole := range t.Budget {
		var demands []usage.Demand
		for _, g := range s.Gateways() {
			u := told[g.Node]
			demands = append(demands, usage.Demand{Node: g.Node, Rate: u.Rates[name], Limited: slices.Contains(u.Limited, name)})
		}
		shares := usage.Divide(whole, demands)
		if old.Of[name] == whole && !usage.Moved(whole, old.Rates[name], shares) {
			shares = old.Rates[name]
		} else {
			changed = true
		}
		if next.Rates == nil {
			next.Rates, next.Of = map[string]map[int32]float64{}, map[string]float64{}
		}
		next.Rates[name], next.Of[name] = shares, whole
	}
	changed = changed || len(next.Of) != len(old.Of)
	count := func(of func(catalog.TenantUse) int64) map[int32]int64 {
		out := map[int32]int64{}
		for node, u := range told {
			if n := of(u); n > 0 {
				out[node] = n
			}
		}
		return out
	}
	if t.Limits.Connections > 0 {
		next.Connections = count(func(u catalog.TenantUse) int64 { return u.Connections })
	}
	if t.Limits.Groups > 0 {
		next.Groups = count(func(u catalog.TenantUse) int64 { return u.Groups })
	}
	changed = changed || !maps.Equal(next.Connections, old.Connections) || !maps.Equal(next.Groups, old.Groups)
	if most := t.Limits.StorageBytes; most > 0 {
		next.Stored, next.Full = old.Stored, old.Full && old.Stored >= most
		if stored >= 0 {
			next.Stored, next.Full = stored, stored >= most
		}
		if d := next.Stored - old.Stored; next.Full == old.Full && d < most/50 && d > -most/50 {
			next.Stored = old.Stored
		}
	}
	return next, changed || next.Full != old.Full || next.Stored != old.Stored
}

// stored is what tenants' topics were measured to hold.
type stored struct {
	mu    sync.Mutex
	bytes map[string]int64
}

func (s *stored) of(tenant string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.bytes[tenant]; ok {
		return n
	}
	return -1
}

func (s *stored) set(tenant string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes == nil {
		s.bytes = map[string]int64{}
	}
	s.bytes[tenant] = n
}

// measureTenants measures what tenants hold: those with a limit in each round, the others
// in each measureOthers-th, since every topic of every cluster is asked for then.
func (t *term) measureTenants(ctx context.Context) error {
	for round := 0; ; round++ {
		s := t.o.Watcher.Snapshot()
		for _, x := range s.Tenants() {
			if x.Limits.StorageBytes > 0 || round%measureOthers == 0 {
				if n, ok := t.measureTenant(ctx, s, x.Name); ok {
					t.stored.set(x.Name, n)
				}
			}
		}
		if err := pause(ctx, t.o.MeasureEvery); err != nil {
			return err
		}
	}
}

// measureOthers is how many rounds of measuring pass by tenants that have no limit of storage.
const measureOthers = 20

// measureTenant sums the bytes of one copy of a tenant's records. What cannot be
// measured now is left out; false means that nothing could be.
func (t *term) measureTenant(ctx context.Context, s *catalog.Snapshot, tenant string) (total int64, ok bool) {
	ok = true
	known := 0
	for topic := range s.Topics(tenant) {
		if ctx.Err() != nil {
			return 0, false
		}
		k := &keeper{sizes: map[catalog.ID][]int64{}}
		for _, ch := range s.Chains(topic.ID) {
			for i := range ch.Spans {
				c := &ch.Spans[i].Copies[0]
				sizes, err := t.sizesOf(ctx, k, c)
				if err != nil {
					if !errors.Is(err, span.ErrGone) {
						ok = false
					}
					k.sizes[c.TopicID] = nil // asked once
					continue
				}
				if int(c.Partition) < len(sizes) && sizes[c.Partition] >= 0 {
					total += sizes[c.Partition]
					known++
				}
			}
		}
	}
	return total, ok || known > 0
}

// budgetEvery and measureEvery are the defaults of Options.
const (
	budgetEvery  = 2 * time.Second
	measureEvery = 15 * time.Second
)
