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
			var changed []catalog.Share
			for _, tenant := range s.Tenants() {
				if next, news := nextShare(s, tenant, uses, t.stored.of(tenant.Name)); news {
					changed = append(changed, next)
				}
			}
			if err := t.o.Catalog.PutShares(ctx, changed, t.driver.fence); err != nil {
				return err
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
// one that stands will do.
func nextShare(s *catalog.Snapshot, t *catalog.Tenant, uses []catalog.GatewayUse, stored measured) (next catalog.Share, changed bool) {
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
		if stored.whole {
			next.Stored, next.Full = stored.bytes, stored.bytes >= most
		} else {
			// A part can show that the limit is reached, never that it is not.
			next.Stored, next.Full = max(next.Stored, stored.bytes), next.Full || stored.bytes >= most
		}
		if d := next.Stored - old.Stored; next.Full == old.Full && d < most/50 && d > -most/50 {
			next.Stored = old.Stored
		}
	}
	return next, changed || next.Full != old.Full || next.Stored != old.Stored
}

// stored is what tenants' topics were measured to hold.
type stored struct {
	mu sync.Mutex
	by map[string]measured
}

// measured is what a tenant's topics hold. The zero value is that of one that was not measured.
type measured struct {
	bytes int64
	whole bool // else there is more, whose size is not known
}

func (s *stored) of(tenant string) measured {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[tenant]
}

func (s *stored) set(tenant string, m measured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]measured{}
	}
	s.by[tenant] = m
}

// sizer measures tenants, round by round. It is for one goroutine.
type sizer struct {
	of func(ctx context.Context, c *catalog.Copy) ([]int64, error)
	// last are the latest sizes of physical topics' partitions, by tenant: what stands in
	// where one cannot be measured. -1 is a size that was never known.
	last map[string]map[catalog.ID][]int64
	// away are clusters that failed in this round: each further call would wait as long.
	away map[string]bool
}

// measureTenants measures what tenants hold: those with a limit in each round, the others
// in each measureOthers-th, since every topic of every cluster is asked for then.
func (t *term) measureTenants(ctx context.Context) error {
	z := &sizer{last: map[string]map[catalog.ID][]int64{}, of: func(ctx context.Context, c *catalog.Copy) ([]int64, error) {
		return t.sizesOf(ctx, &keeper{sizes: map[catalog.ID][]int64{}}, c)
	}}
	for round := 0; ; round++ {
		s := t.o.Watcher.Snapshot()
		z.away = map[string]bool{}
		for _, x := range s.Tenants() {
			if x.Limits.StorageBytes > 0 || round%measureOthers == 0 {
				m := z.measure(ctx, s, x.Name)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				t.stored.set(x.Name, m)
			}
		}
		maps.DeleteFunc(z.last, func(tenant string, _ map[catalog.ID][]int64) bool { return s.Tenant(tenant) == nil })
		if err := pause(ctx, t.o.MeasureEvery); err != nil {
			return err
		}
	}
}

// measureOthers is how many rounds of measuring pass by tenants that have no limit of storage.
const measureOthers = 20

// measure sums the bytes of one copy of a tenant's records, with the last known sizes of
// what cannot be measured now.
func (z *sizer) measure(ctx context.Context, s *catalog.Snapshot, tenant string) measured {
	sum := measured{whole: true}
	before, now := z.last[tenant], map[catalog.ID][]int64{}
	for topic := range s.Topics(tenant) {
		for _, ch := range s.Chains(topic.ID) {
			for i := range ch.Spans {
				c := &ch.Spans[i].Copies[0]
				sizes, asked := now[c.TopicID]
				if !asked {
					sizes = z.sizes(ctx, c, before[c.TopicID])
					now[c.TopicID] = sizes
				}
				switch {
				case sizes == nil: // counts for nothing
				case int(c.Partition) < len(sizes) && sizes[c.Partition] >= 0:
					sum.bytes += sizes[c.Partition]
				default:
					sum.whole = false
				}
			}
		}
	}
	z.last[tenant] = now
	return sum
}

// sizes measures a physical topic; last are its sizes as they were known. nil is a topic that
// counts for nothing: one that is gone, or whose cluster can or may not tell.
func (z *sizer) sizes(ctx context.Context, c *catalog.Copy, last []int64) []int64 {
	var sizes []int64
	if !z.away[c.Cluster] {
		var err error
		sizes, err = z.of(ctx, c)
		switch {
		case errors.Is(err, span.ErrGone):
			return nil
		case err != nil:
			z.away[c.Cluster] = true
			sizes = nil
		case sizes == nil && len(last) == 0:
			return nil
		}
	}
	if sizes == nil {
		if last == nil {
			return []int64{}
		}
		return last
	}
	sizes = slices.Clone(sizes)
	for p := range sizes {
		if sizes[p] < 0 && p < len(last) {
			sizes[p] = last[p]
		}
	}
	return sizes
}

// budgetEvery and measureEvery are the defaults of Options.
const (
	budgetEvery  = 2 * time.Second
	measureEvery = 15 * time.Second
)
