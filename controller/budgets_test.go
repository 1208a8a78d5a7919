package controller

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/usage"
)

// shareUntil waits for a tenant's share to be as wanted.
func (f *fleet) shareUntil(tenant string, ok func(*catalog.Share) bool) *catalog.Share {
	f.t.Helper()
	changed := make(chan struct{}, 1)
	stop := f.watch.OnChange(func(catalog.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	for {
		if s := f.watch.Snapshot().Share(tenant); s != nil && ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			f.t.Fatalf("the share is %+v", f.watch.Snapshot().Share(tenant))
		}
	}
}

// The leader divides budgets towards where the traffic is, counts what tenants have over
// all gateways, and measures what they store.
func TestBudgetsAreDivided(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	rate := 900.0
	f.tenant("acme", TenantChange{Budget: map[string]*float64{"producer_byte_rate": &rate}, Limits: map[string]int64{"connections": 10, "storage.bytes": 1 << 40}})
	f.tenant("free", TenantChange{})
	topic, err := f.topicOf("acme", "orders", 2)
	f.check(err)
	var sessions []*catalog.Session
	for node := range int32(3) {
		s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: node + 1}, time.Minute)
		f.check(err)
		t.Cleanup(func() { f.check(s.Close(f.ctx)) })
		sessions = append(sessions, s)
	}
	f.controller(func(o *Options) { o.BudgetEvery, o.MeasureEvery = 5*time.Millisecond, 5*time.Millisecond })
	const name = "producer_byte_rate"
	f.shareUntil("acme", func(s *catalog.Share) bool {
		return s.Of[name] == 900 && len(s.Rates[name]) == 3 && s.Rates[name][1] > 299 && s.Rates[name][3] > 299
	})
	f.check(sessions[1].PutUse(f.ctx, catalog.GatewayUse{Node: 2, Tenants: map[string]catalog.TenantUse{
		"acme": {Rates: map[string]float64{name: 300}, Limited: []string{name}, Connections: 7}, "gone": {Connections: 1}}}))
	got := f.shareUntil("acme", func(s *catalog.Share) bool { return s.Rates[name][2] > 880 && s.Connections[2] == 7 })
	total := 0.0
	for _, r := range got.Rates[name] {
		total += r
	}
	if total > 900*1.000001 || got.Rates[name][1] <= 0 {
		t.Errorf("%+v", got)
	}
	// Another budget is divided at once, and one that is taken away is in no share.
	half := 450.0
	_, err = f.admin.SetTenant(f.ctx, "acme", TenantChange{Budget: map[string]*float64{name: &half}})
	f.check(err)
	f.shareUntil("acme", func(s *catalog.Share) bool { return s.Of[name] == 450 && s.Rates[name][2] < 451 })
	_, err = f.admin.SetTenant(f.ctx, "acme", TenantChange{Budget: map[string]*float64{name: nil}})
	f.check(err)
	f.shareUntil("acme", func(s *catalog.Share) bool { return len(s.Of) == 0 && len(s.Rates) == 0 })

	// What is stored reaches the limit when that is lowered below it.
	f.writer(topic, 0, 7).append(100)
	f.shareUntil("acme", func(s *catalog.Share) bool { return !s.Full })
	_, err = f.admin.SetTenant(f.ctx, "acme", TenantChange{Limits: map[string]int64{"storage.bytes": 1}})
	f.check(err)
	f.shareUntil("acme", func(s *catalog.Share) bool { return s.Full && s.Stored > 1 })
	_, err = f.admin.SetTenant(f.ctx, "acme", TenantChange{Limits: map[string]int64{"storage.bytes": 1 << 40}})
	f.check(err)
	f.shareUntil("acme", func(s *catalog.Share) bool { return !s.Full })
	if s := f.watch.Snapshot().Share("free"); s != nil {
		t.Errorf("%+v of a tenant that has nothing to share", s)
	}
}

// The leader writes down what tenants hold; the next leader goes on, and nothing counts twice.
func TestHoldingsAreMetered(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.tenant("acme", TenantChange{})
	_, err := f.topicOf("acme", "orders", 5)
	f.check(err)
	_, err = f.watch.Refresh(f.ctx)
	f.check(err)
	began := time.Now()
	held := func() catalog.Usage {
		all, err := f.cat.Readings(f.ctx, began)
		f.check(err)
		sum := catalog.Usage{}
		for _, r := range all {
			sum = sum.Add(r.Tenants["acme"])
		}
		return sum
	}
	last := 0.0
	for range 2 {
		c := New(f.options())
		c.o.MeterEvery, c.o.Holdings = 5*time.Millisecond, &usage.Holdings{}
		c.Start()
		tick := time.NewTicker(5 * time.Millisecond)
		for held().PartitionSeconds < last+0.5 {
			select {
			case <-tick.C:
			case <-f.ctx.Done():
				t.Fatalf("%+v is written down", held())
			}
		}
		tick.Stop()
		c.Close()
		last = held().PartitionSeconds
		if most := 5 * time.Since(began).Seconds(); last > most {
			t.Errorf("%v partition seconds, %v have passed", last, most)
		}
	}
}
