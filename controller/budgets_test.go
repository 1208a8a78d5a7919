package controller

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
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
		sum := catalog.Usage{}
		for r, err := range f.cat.Readings(f.ctx, began) {
			f.check(err)
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

// What cannot be measured counts as it was known last; a part of the sum never lifts a limit
// that is reached. A cluster that fails is asked once in a round.
func TestStorageIsMeasuredAroundFailures(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.tenant("acme", TenantChange{Limits: map[string]int64{"storage.bytes": 1000}})
	var topics []catalog.Topic
	for i := range 4 {
		topic, err := f.topicOf("acme", fmt.Sprintf("orders-%d", i), 2)
		f.check(err)
		topics = append(topics, topic)
	}
	_, err := f.watch.Refresh(f.ctx)
	f.check(err)
	s := f.watch.Snapshot()
	sick := s.Chains(topics[0].ID)[0].Spans[0].Copies[0].Cluster
	there := 0
	for _, topic := range topics {
		if s.Chains(topic.ID)[0].Spans[0].Copies[0].Cluster == sick {
			there++
		}
	}
	asked, each, fails := 0, int64(200), error(nil)
	z := &sizer{last: map[string]map[catalog.ID][]int64{}, of: func(_ context.Context, c *catalog.Copy) ([]int64, error) {
		if c.Cluster == sick {
			asked++
			if fails != nil {
				return nil, fails
			}
		}
		return []int64{each, each}, nil
	}}
	round := func() measured {
		z.away, asked = map[string]bool{}, 0
		return z.measure(f.ctx, s, "acme")
	}
	share := func(old catalog.Share, m measured) catalog.Share {
		f.check(f.cat.PutShare(f.ctx, old, catalog.Fence{}))
		_, err := f.watch.Refresh(f.ctx)
		f.check(err)
		now := f.watch.Snapshot()
		next, _ := nextShare(now, now.Tenant("acme"), nil, m)
		return next
	}
	full := catalog.Share{Tenant: "acme", Stored: 1600, Full: true}

	fails = span.ErrUnavailable
	first := round()
	if first.whole || asked != 1 {
		t.Errorf("%+v; the cluster was asked %d times in a round", first, asked)
	}
	if next := share(full, first); !next.Full || next.Stored != 1600 {
		t.Errorf("a part lifts the limit: %+v", next)
	}
	fails = nil
	if m := round(); m != (measured{1600, true}) || asked != there {
		t.Errorf("%+v, asked %d times", m, asked)
	}
	fails = span.ErrUnavailable
	if m := round(); m != (measured{1600, true}) || asked != 1 {
		t.Errorf("with the last known sizes: %+v, asked %d times", m, asked)
	}
	fails = span.ErrGone
	if m := round(); m.bytes != int64(4-there)*400 || !m.whole || asked != there {
		t.Errorf("topics that are gone count: %+v, asked %d times", m, asked)
	}
	fails, each = nil, 1
	if next := share(full, round()); next.Full || next.Stored != 8 {
		t.Errorf("after records were deleted: %+v", next)
	}
	if next := share(catalog.Share{Tenant: "acme"}, measured{bytes: 1000}); !next.Full || next.Stored != 1000 {
		t.Errorf("a part reaches the limit: %+v", next)
	}
	// A partition that nobody could be asked about keeps its size too.
	if got := z.sizes(f.ctx, &catalog.Copy{Cluster: "other"}, nil); !slices.Equal(got, []int64{1, 1}) {
		t.Error(got)
	}
	z.of = func(context.Context, *catalog.Copy) ([]int64, error) { return []int64{-1, 5}, nil }
	if got := z.sizes(f.ctx, &catalog.Copy{Cluster: "other"}, []int64{7, 9}); !slices.Equal(got, []int64{7, 5}) {
		t.Error(got)
	}
}

// A budget may be what a quota may: bytes are whole.
func TestBudgetsAreWhole(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.tenant("acme", TenantChange{})
	for _, c := range []struct {
		name  string
		value float64
		ok    bool
	}{{"producer_byte_rate", 0.5, false}, {"consumer_byte_rate", 1e30, false}, {"producer_byte_rate", 1, true}, {"request_percentage", 0.5, true}} {
		_, err := f.admin.SetTenant(f.ctx, "acme", TenantChange{Budget: map[string]*float64{c.name: &c.value}})
		if (err == nil) != c.ok {
			t.Errorf("%s of %v: %v", c.name, c.value, err)
		}
	}
}
