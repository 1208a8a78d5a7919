package controller

import (
	"fmt"
	"testing"

	"github.com/braidstream/braid/catalog"
)

// BenchmarkSharesOf5000Tenants is one round of the leader's division, of tenants that all have a budget and a
// limit and use something on each of ten gateways.
func BenchmarkSharesOf5000Tenants(b *testing.B) {
	f := newFleet(b, "a")
	const tenants, gateways = 5000, 10
	rate := 1e6
	for i := range 8 { // of the catalog's; the others differ by their names only
		f.tenant(fmt.Sprintf("t-%d", i), TenantChange{Budget: map[string]*float64{"producer_byte_rate": &rate, "consumer_byte_rate": &rate}, Limits: map[string]int64{"connections": 100}})
	}
	for node := range int32(gateways) {
		s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: node + 1}, 0)
		f.check(err)
		b.Cleanup(func() { f.check(s.Close(f.ctx)) })
	}
	s, err := f.watch.Refresh(f.ctx)
	f.check(err)
	var list []*catalog.Tenant
	uses := make([]catalog.GatewayUse, gateways)
	for i := range uses {
		uses[i] = catalog.GatewayUse{Node: int32(i + 1), Tenants: map[string]catalog.TenantUse{}}
	}
	for i := range tenants {
		t := *s.Tenant(fmt.Sprintf("t-%d", i%8))
		t.Name = fmt.Sprintf("tenant-%d", i)
		list = append(list, &t)
		for _, u := range uses {
			u.Tenants[t.Name] = catalog.TenantUse{Rates: map[string]float64{"producer_byte_rate": float64(i), "consumer_byte_rate": 5}, Connections: 3}
		}
	}
	for b.Loop() {
		for _, t := range list {
			if _, changed := nextShare(s, t, uses, measured{}); !changed {
				b.Fatal("nothing is shared")
			}
		}
	}
}
