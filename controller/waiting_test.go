package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Topics whose guarantee makes them wait for a cluster say so, and which and since when; those that go on do not.
func TestWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.topic("orders", 3, "a", nil)
	f.topic("clicks", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	f.topic("other", 1, "b", nil)
	g, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, time.Minute)
	f.check(err)
	defer func() { f.check(g.Close(f.ctx)) }()
	vote := func(up bool, since time.Time) *catalog.Snapshot {
		f.check(f.cat.PutClusterVote(f.ctx, g, catalog.ClusterVote{Cluster: "a", Up: up, Since: since}))
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		return s
	}
	of := func(s *catalog.Snapshot, name string) []Wait {
		return Waits(s, s.TopicByName(catalog.DefaultTenant, name))
	}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := vote(true, since)
	if w := of(s, "orders"); len(w) != 0 || len(Waiting(s)) != 0 {
		t.Errorf("while its cluster is up: %+v", w)
	}
	s = vote(false, since)
	if w := of(s, "orders"); len(w) != 1 || w[0] != (Wait{Cluster: "a", Since: since, Partitions: 3}) {
		t.Errorf("waits: %+v", w)
	}
	for _, name := range []string{"clicks", "other"} {
		if w := of(s, name); len(w) != 0 {
			t.Errorf("%s waits: %+v", name, w)
		}
	}
	all := Waiting(s)
	if len(all) != 1 || len(all["a"]) != 1 || all["a"][0] != "orders" {
		t.Errorf("%v", all)
	}
	text := WaitText(s, "a", all["a"])
	for _, want := range []string{"1 topic with braid.guarantee=ordered waits for cluster a, away since 2026-01-02T03:04:05Z (orders)", "braid failover a --force", "--dry-run"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
}
