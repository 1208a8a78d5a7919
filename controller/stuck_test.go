package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
)

// Topics that are to go on without their cluster, and are on it yet, are named with the reason.
func TestStuck(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	on := f.topic("on", 2, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	f.topic("waits", 1, "a", nil)
	_, err := f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: catalog.SystemTenant, Name: "__braid_coordinator", Partitions: 3}, "a")
	f.check(err)
	g, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, time.Minute)
	f.check(err)
	defer func() { f.check(g.Close(f.ctx)) }()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	vote := func(cluster string, up bool, since time.Time) {
		f.check(f.cat.PutClusterVote(f.ctx, g, catalog.ClusterVote{Cluster: cluster, Up: up, Since: since}))
	}
	ref := catalog.TopicRef{Tenant: on.Tenant, Name: on.Name, ID: on.ID}
	failover := func(id string, state catalog.OpState, cancel bool) catalog.Op {
		return catalog.Op{ID: id, Kind: catalog.OpFailover, Cluster: "a", State: state, Cancel: cancel, Message: "no such luck", Topics: []catalog.TopicRef{ref}}
	}
	is := func(ops []catalog.Op, reason string) {
		t.Helper()
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		got := Stuck(s, ops, s.TopicByName(catalog.DefaultTenant, "on"))
		want := Wait{Cluster: "a", Since: since, Partitions: 2, Reason: reason}
		if reason == "" && len(got) > 0 || reason != "" && (len(got) != 1 || got[0] != want) {
			t.Errorf("%+v, want %q", got, reason)
		}
		if w := Stuck(s, ops, s.TopicByName(catalog.DefaultTenant, "waits")); len(w) > 0 {
			t.Errorf("an ordered topic: %+v", w)
		}
	}
	vote("a", true, since)
	is(nil, "")
	vote("a", false, time.Now().Add(time.Hour)) // a moment ago, however slow this is
	is(nil, "")
	vote("a", false, since)
	is(nil, "no failover of the cluster has begun (braid failover a begins one)")
	f.puts("a", catalog.ClusterFailed)
	is(nil, "it goes on within seconds")
	is([]catalog.Op{failover("1", catalog.OpRunning, false)}, "operation 1 is under way (braid op watch 1 follows it)")
	is([]catalog.Op{failover("1", catalog.OpCancelled, true)}, "operation 1 was cancelled (braid failover a begins another)")
	is([]catalog.Op{failover("1", catalog.OpFailed, false)}, "operation 1 failed, and is tried again: no such luck")
	vote("b", false, since)
	is([]catalog.Op{failover("1", catalog.OpFailed, false)}, "no other cluster takes it: b is down; it goes on as soon as one does (braid cluster add adds one)")
	want := []string{"2 topics that go on without their cluster are still on a, away since 2026-01-02T03:04:05Z (__braid_coordinator, on): no other cluster takes it: b is down; it goes on as soon as one does (braid cluster add adds one)"}
	s, err := f.watch.Refresh(f.ctx)
	f.check(err)
	if got := StuckTexts(s, nil); !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	vote("a", true, since)
	s, err = f.watch.Refresh(f.ctx)
	f.check(err)
	if got := StuckTexts(s, nil); len(got) > 0 {
		t.Errorf("its cluster is up: %s", got)
	}
}
