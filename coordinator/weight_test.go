package coordinator

import (
	"strings"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// fataler is a test, or a check of rapid's.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// weighed counts anew what a machine's groups and transactional ids hold, and compares.
func weighed(t fataler, m *machine) {
	t.Helper()
	all := map[string]int64{}
	for key, g := range m.groups {
		n := recount(g)
		if g.load.n != n {
			t.Fatalf("group %v holds %d, counted %d", key, n, g.load.n)
		}
		all[key.tenant] += n
	}
	for key, x := range m.txns {
		n := weightOf(key, weightTxn) + x.weigh()
		if x.open != x.weigh() {
			t.Fatalf("the transaction of %v holds %d, counted %d", key, x.weigh(), x.open)
		}
		for _, f := range x.formers {
			n += f.weight()
		}
		if x.load.n != n {
			t.Fatalf("transactional id %v holds %d, counted %d", key, n, x.load.n)
		}
		all[key.tenant] += n
	}
	for tenant, n := range all {
		if m.held.by[tenant] != n {
			t.Fatalf("tenant %s holds %d, counted %d", tenant, n, m.held.by[tenant])
		}
	}
	if len(m.held.by) != len(all) {
		t.Fatalf("%d tenants hold something, counted %d", len(all), len(m.held.by))
	}
}

func recount(g *group) int64 {
	n := weightOf(g.key, weightGroup) + int64(len(g.written))
	for id := range g.pending {
		n += weightPendingIDs + int64(len(id))
	}
	for _, mb := range g.members {
		n += mb.weight()
	}
	if c := g.consumer; c != nil {
		for _, mb := range c.members {
			n += mb.weight()
		}
		for expr, r := range c.regexes {
			n += r.weight(expr)
		}
	}
	for name, s := range g.offsets {
		n += weightOfTopic(name)
		for _, o := range s.partitions {
			n += o.weight()
		}
	}
	for _, p := range g.txns {
		for name, t := range p.topics {
			n += weightOfTopic(name)
			for _, o := range t.partitions {
				n += o.weight()
			}
		}
	}
	return n
}

// What a tenant's groups and transactional ids hold is bounded: what would make it more is refused, and changes nothing; what
// makes no more, what goes, and what the log says is not, nor are other tenants.
func TestWhatATenantHoldsIsBounded(t *testing.T) {
	t.Parallel()
	d := newDriver(t, Config{MaxTenantBytes: 64 << 10, InitialRebalanceDelay: -1})
	var total groupCounts
	d.m.held.counted(&total)
	commit := func(tenant, group string, partitions int, metadata string) (code wire.Code) {
		r := &commitRequest{key: groupKey{tenant, group}, version: 8, generation: -1, retention: -1}
		to := topicOffsets{name: "a", id: catalog.ID{1}}
		for p := range partitions {
			to.partitions = append(to.partitions, partitionOffset{partition: int32(p), offset: 7, leaderEpoch: -1, metadata: metadata})
		}
		r.topics = []topicOffsets{to}
		d.event(func(m *machine) { m.commit(r, func(c wire.Code) { code = c }) })
		weighed(t, d.m)
		return code
	}
	refused := func(what string, want wire.Code, do func() wire.Code) {
		t.Helper()
		before, records := total.of("acme"), len(d.log)
		if got := do(); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		if n := total.of("acme"); n != before || len(d.log) != records {
			t.Errorf("%s: holds %d, before %d; %d records", what, n, before, len(d.log)-records)
		}
		weighed(t, d.m)
	}
	large := strings.Repeat("x", 4096)
	for i, want := range []wire.Code{wire.None, wire.None, wire.PolicyViolation} {
		if got := commit("acme", string(rune('g'+i)), 6, large); got != want {
			t.Errorf("commit %d: %v, want %v", i, got, want)
		}
	}
	refused("another partition", wire.PolicyViolation, func() wire.Code { return commit("acme", "g", 10, large) })
	refused("a member", wire.GroupMaxSizeReached, func() wire.Code {
		c := d.client("")
		c.key = groupKey{"acme", "members"}
		c.protocols = []protocol{{"range", []byte(large + large)}}
		c.join()
		return c.joined.code
	})
	begin := func(tenant string) wire.Code {
		_, code := d.m.initProducer(&initRequest{key: groupKey{tenant, "id"}, timeout: 1000, producer: noID, epoch: noEpoch, fresh: 7})
		return code
	}
	if code := begin("acme"); code != wire.None {
		t.Fatal(code)
	}
	d.event(func(*machine) {})
	add := func(groups ...string) (code wire.Code) {
		d.event(func(m *machine) {
			code = m.addToTxn(&addRequest{key: groupKey{"acme", "id"}, producer: 7, epoch: 0, groups: groups})
		})
		return code
	}
	many := []string{large + "1", large + "2", large + "3", large + "4"}
	refused("groups of a transaction", wire.PolicyViolation, func() wire.Code { return add(many...) })
	if code := add("g"); code != wire.None {
		t.Error(code)
	}
	pending := func(partitions int) (code wire.Code) {
		to := topicOffsets{name: "a", id: catalog.ID{1}}
		for p := range partitions {
			to.partitions = append(to.partitions, partitionOffset{partition: int32(p), offset: 9, leaderEpoch: -1, metadata: large})
		}
		d.event(func(m *machine) {
			code = m.commitPending(&commitRequest{key: groupKey{"acme", "g"}, version: 9, generation: -1, retention: -1, topics: []topicOffsets{to}}, 7, 1)
		})
		return code
	}
	refused("offsets of a transaction", wire.PolicyViolation, func() wire.Code { return pending(5) })
	if code := pending(1); code != wire.None {
		t.Error(code)
	}
	// What is there goes on, and so do others.
	if code := commit("acme", "g", 6, large); code != wire.None {
		t.Errorf("a commit in the place of another: %v", code)
	}
	if code := commit("globex", "g", 6, large); code != wire.None {
		t.Errorf("another tenant: %v", code)
	}
	// A new owner has all of it, whatever the limit is by then.
	n := d.successor()
	n.m.config.MaxTenantBytes = 1
	weighed(t, n.m)
	if a, b := n.m.held.by["acme"], d.m.held.by["acme"]; a != b {
		t.Errorf("a new owner counts %d, the former one %d", a, b)
	}
	d.event(func(m *machine) {
		m.forget(groupKey{"acme", "h"}, []topicPartitions{{name: "a", partitions: []int32{0, 1, 2, 3, 4, 5}}})
	})
	if code := commit("acme", "k", 5, large); code != wire.None {
		t.Errorf("after some have gone: %v", code)
	}
	d.m.held.uncounted()
	if n := total.of("acme"); n != 0 {
		t.Errorf("%d bytes of a shard that is another's", n)
	}
	if total.refused.Load() == 0 {
		t.Error("refusals are not counted")
	}
}

// A subscription that the tenant has no room for is refused, and partitions that come to subscribed topics are assigned once there
// is; until then members go on with what they have.
func TestSubscriptionsOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	d := newConsumerDriver(t, Config{MaxTenantBytes: 8 << 10}, map[string]int32{"a": 2})
	d.m.held.counted(new(groupCounts))
	x := d.beater("x", "a").beat().want(wire.None).has(2, "a-0 a-1")
	records := len(d.log)
	long := make([]string, 40)
	for i := range long {
		long[i] = strings.Repeat("x", 200) + string(rune('a'+i))
	}
	d.beater("y", long...).beat().want(wire.GroupMaxSizeReached)
	topics := x.topics
	x.topics = long
	x.beat().want(wire.GroupMaxSizeReached)
	x.topics = topics
	if n := len(d.log) - records; n != 0 {
		t.Errorf("%d records of what was refused", n)
	}
	weighed(t, d.m)
	x.beat().want(wire.None).has(2, "a-0 a-1")
	d.topics.set("a", 1000)
	x.beat().want(wire.None).has(2, "a-0 a-1")
	d.wantConsumer("Assigning", 3)
	weighed(t, d.m)
	d.m.config.MaxTenantBytes = 1 << 20
	x.beat().want(wire.None)
	if n := len(strings.Fields(d.names(x.owned))); n != 1000 {
		t.Errorf("%d partitions are assigned once there is room", n)
	}
	weighed(t, d.m)
	weighed(t, d.successor().m)
}

// A leader whose assignments the tenant has no room for is told so, and its group rebalances again.
func TestAssignmentsOfATenantAreBounded(t *testing.T) {
	t.Parallel()
	d := newDriver(t, Config{MaxTenantBytes: 8 << 10})
	d.m.held.counted(new(groupCounts))
	all := d.stable(2)
	leader, other := all[0], all[1]
	if leader.joined.leader != leader.id {
		leader, other = other, leader
	}
	leader.join()
	other.join()
	leader.wantJoin(wire.None)
	records := len(d.log)
	leader.sync(map[string]string{other.id: strings.Repeat("x", 8<<10)})
	if leader.synced == nil || leader.synced.code != wire.PolicyViolation || len(d.log) != records {
		t.Fatalf("%+v, %d records", leader.synced, len(d.log)-records)
	}
	weighed(t, d.m)
	leader.sync(map[string]string{leader.id: "a", other.id: "b"})
	if leader.synced == nil || leader.synced.code != wire.None {
		t.Fatalf("smaller ones: %+v", leader.synced)
	}
	weighed(t, d.m)
	weighed(t, d.successor().m)
}
