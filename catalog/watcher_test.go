package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model writes random values under random keys at growing revisions, and keeps
// what a fresh load would give.
type model struct {
	revision int64
	state    map[string]item
	log      []event
}

func (m *model) write(key string, value any, deleted bool) {
	m.revision++
	b, err := encode(value)
	if err != nil {
		panic(err)
	}
	ev := event{item{key, []byte(b), m.revision, 0}, deleted}
	if deleted {
		if _, ok := m.state[key]; !ok {
			return
		}
		delete(m.state, key)
	} else {
		m.state[key] = ev.item
	}
	m.log = append(m.log, ev)
}

func (m *model) step(t *rapid.T, ids []ID) {
	deleted := rapid.IntRange(0, 3).Draw(t, "delete") == 0
	n := rapid.IntRange(0, 3).Draw(t, "n")
	id := ids[n]
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0:
		m.write(clusterKey(fmt.Sprint(n)), Cluster{Name: fmt.Sprint(n)}, deleted)
	case 1:
		m.write(gatewayKey(int32(n)), Gateway{Node: int32(n)}, deleted)
	case 2:
		m.write(votePrefix("c")+fmt.Sprint(n), ClusterVote{Node: int32(n), Up: deleted}, deleted)
	case 3:
		m.write(extendKey("t", id), Extend{Op: fmt.Sprint(m.revision)}, deleted)
	case 4:
		m.write(topicKey("t", id), Topic{Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"), ID: id, Tenant: "t",
			Partitions: int32(rapid.IntRange(1, 40).Draw(t, "partitions")), Deleting: rapid.Bool().Draw(t, "deleting")}, deleted)
	case 5:
		m.write(pageKey("t", id, 0), Page{Topic: id, Chains: make([]Chain, PageSize)}, deleted)
	case 7:
		m.write(groupKey("t", fmt.Sprint(n)), GroupConfig{Tenant: "t", Group: fmt.Sprint(n), Config: map[string]string{"k": fmt.Sprint(m.revision)}}, deleted)
	case 8:
		m.write(tenantKey(fmt.Sprint(n)), Tenant{Name: fmt.Sprint(n), DisplayName: fmt.Sprint(m.revision)}, deleted)
	case 9:
		of := rapid.SampledFrom([]string{"t", "u"}).Draw(t, "of")
		m.write(userKey(of, fmt.Sprint(n)), User{Tenant: of, Name: fmt.Sprint(n), CreatedAt: time.Unix(m.revision, 0).UTC()}, deleted)
	case 10:
		a := ACL{Tenant: "t", ResourceName: fmt.Sprint(n)}
		m.write(aclPrefix("t")+a.key(), a, deleted)
	case 11:
		q := ClientQuota{Tenant: "t", Entity: []EntityPart{{Type: fmt.Sprint(n)}}, Values: map[string]float64{"x": float64(m.revision)}}
		m.write(quotaPrefix("t")+EntityKey(q.Entity), q, deleted)
	case 6:
		m.write(pageKey("t", id, PageSize), Page{Topic: id, First: PageSize, Chains: make([]Chain, 8)}, deleted)
	}
}

func newWatcher() *Watcher {
	w := &Watcher{logger: quiet(), applied: make(chan struct{}), floors: map[ID]int64{}, subs: map[int]func(Change){}}
	w.snapshot.Store(&Snapshot{})
	return w
}

// show gives everything that a snapshot tells, for comparison.
func show(s *Snapshot, ids []ID) string {
	out := map[string]any{}
	for i, c := range s.Clusters() {
		out[fmt.Sprint("cluster", i)] = *c
	}
	for i, g := range s.Gateways() {
		out[fmt.Sprint("gateway", i)] = *g
	}
	for g := range s.GroupConfigs("t") {
		out["group"+g.Group] = *g
	}
	for v := range s.ClusterVotes("c") {
		out[fmt.Sprint("vote", v.Node)] = *v
	}
	out["tenants"], out["acls"], out["quotas"] = s.Tenants(), s.ACLs("t"), s.Quotas("t")
	for _, of := range []string{"t", "u"} {
		out["users of "+of] = s.Users(of)
	}
	for i := range 4 {
		out[fmt.Sprint("tenant", i)], out[fmt.Sprint("user", i)] = s.Tenant(fmt.Sprint(i)), s.User("t", fmt.Sprint(i))
		out[fmt.Sprint("users named ", i)] = s.UsersNamed(fmt.Sprint(i))
	}
	out["user names"] = s.usersNamed.n
	for i, id := range ids {
		out[fmt.Sprint("topic", i)] = s.TopicByID(id)
		out[fmt.Sprint("extend", i)] = s.Extend(id)
		if e := s.Extend(id); e != nil {
			out[fmt.Sprint("extendrev", i)] = e.Revision
		}
		for p := int32(0); p < 45; p += 8 {
			c, rev := s.Chain(id, p)
			out[fmt.Sprint("chain", i, "-", p)] = []any{c, rev}
		}
	}
	var names []string
	for t := range s.Topics("t") {
		names = append(names, t.Name+" "+t.ID.String())
	}
	out["names"], out["count"] = names, s.topics.n
	for _, n := range []string{"a", "b", "c"} {
		out["by name "+n] = s.TopicByName("t", n)
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// A snapshot that a watch fed, in batches, with repeats, in part refreshed ahead
// of it and in part reloaded, equals a fresh load; and it never goes back.
func TestWatchedSnapshotEqualsFreshLoad(t *testing.T) {
	ids := []ID{RandomID(), RandomID(), RandomID(), RandomID()}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{state: map[string]item{}}
		w := newWatcher()
		told := map[ID]int64{}
		w.subs[0] = func(c Change) {
			untold(t, c)
			for _, id := range ids {
				var was, is int64
				if old := c.Old.TopicByID(id); old != nil {
					was = old.Revision
				}
				if now := c.New.TopicByID(id); now != nil {
					is = now.Revision
				}
				if is != was && !slices.Contains(c.Topics, id) {
					t.Fatalf("a change of topic %s was not told", id)
				}
				if is != 0 && is < told[id] {
					t.Fatalf("topic %s went back from %d to %d", id, told[id], is)
				}
				told[id] = max(told[id], is)
			}
		}
		sent := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "action") {
			case 0, 1, 2:
				m.step(t, ids)
			case 3: // the watch delivers some more, and repeats some
				from := rapid.IntRange(0, sent).Draw(t, "repeat from")
				to := rapid.IntRange(sent, len(m.log)).Draw(t, "up to")
				evs := m.log[from:to]
				sent = to
				revision := int64(0)
				if to > 0 {
					revision = m.log[to-1].revision
				}
				w.apply(evs, revision)
			case 4: // one topic is read ahead of the watch
				readAhead(w, m, ids[rapid.IntRange(0, 3).Draw(t, "ahead")])
			case 5: // compaction: everything is loaded
				reload(w, m)
				sent = len(m.log)
			}
		}
		w.apply(m.log[sent:], m.revision)
		fresh := newWatcher()
		reload(fresh, m)
		if got, want := show(w.Snapshot(), ids), show(fresh.Snapshot(), ids); got != want {
			t.Fatalf("watched\n%s\nloaded\n%s", got, want)
		}
		if len(w.floors) != 0 {
			t.Fatalf("floors are left: %v", w.floors)
		}
	})
}

// untold fails where a change of a tenant's records is not in the change.
func untold(t *rapid.T, c Change) {
	for _, tenant := range []string{"t", "u", "0", "1", "2", "3"} {
		for what, is := range map[string]struct {
			same bool
			told []string
		}{
			"record": {c.Old.Tenant(tenant) == c.New.Tenant(tenant), c.Tenants},
			"users":  {slices.Equal(c.Old.Users(tenant), c.New.Users(tenant)), c.Users},
			"ACLs":   {slices.Equal(c.Old.ACLs(tenant), c.New.ACLs(tenant)), c.ACLs},
			"quotas": {slices.Equal(c.Old.Quotas(tenant), c.New.Quotas(tenant)), c.Quotas},
		} {
			if !is.same && !slices.Contains(is.told, tenant) {
				t.Fatalf("a change of %s of tenant %s was not told", what, tenant)
			}
		}
		if c.Old.SameACLs(c.New, tenant) && !slices.Equal(c.Old.ACLs(tenant), c.New.ACLs(tenant)) ||
			c.Old.SameQuotas(c.New, tenant) && !slices.Equal(c.Old.Quotas(tenant), c.New.Quotas(tenant)) {
			t.Fatalf("what differs of tenant %s is called the same", tenant)
		}
	}
}

func (m *model) items(prefix string) []item {
	var out []item
	for _, k := range slices.Sorted(maps.Keys(m.state)) {
		if len(k) >= len(prefix) && k[:len(prefix)] == prefix {
			out = append(out, m.state[k])
		}
	}
	return out
}

func reload(w *Watcher, m *model) { w.take(m.items(root), m.revision) }

func readAhead(w *Watcher, m *model, id ID) {
	if err := w.takeTopic(id, m.items(topicKey("t", id)), m.revision); err != nil {
		panic(err)
	}
}

func TestRefreshTopicSeesTheLastCommit(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	w := watch(t, c, tenant)
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "t"}, chains(3)))(t)
	for i := range 50 {
		_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
		if err != nil {
			t.Fatal(err)
		}
		pages[0].Chains[1].Start = int64(i)
		if err := c.CommitPages(t.Context(), CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: pages}); err != nil {
			t.Fatal(err)
		}
		s := must(w.RefreshTopic(t.Context(), tenant, topic.ID))(t)
		if ch, _ := s.Chain(topic.ID, 1); ch == nil || ch.Start != int64(i) {
			t.Fatalf("commit %d is not seen: %+v", i, ch)
		}
	}
	marked := must(c.MarkDeleting(t.Context(), topic))(t)
	if err := c.RemoveTopic(t.Context(), marked, Fence{}); err != nil {
		t.Fatal(err)
	}
	if s := must(w.RefreshTopic(t.Context(), tenant, topic.ID))(t); s.TopicByID(topic.ID) != nil {
		t.Error("a removed topic is still seen")
	}
}

// The watch is loaded anew after the history it needs was compacted away.
func TestWatcherSurvivesCompaction(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	w := watch(t, c, tenant)
	must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "gone"}, chains(1)))(t)
	gone := must(w.Refresh(t.Context()))(t).TopicByName(tenant, "gone")
	w.Close()
	if err := c.RemoveTopic(t.Context(), must(c.MarkDeleting(t.Context(), *gone))(t), Fence{}); err != nil {
		t.Fatal(err)
	}
	kept := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "kept"}, chains(1)))(t)
	if _, err := c.cli.Compact(t.Context(), kept.Revision); err != nil {
		t.Fatal(err)
	}
	behind := w.Snapshot().Revision()
	if err := w.follow(t.Context(), behind); err == nil || errors.Is(err, t.Context().Err()) {
		t.Fatalf("following from a compacted revision: %v", err)
	}
	if _, err := w.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := w.Snapshot(); s.TopicByName(tenant, "kept") == nil || s.TopicByName(tenant, "gone") != nil {
		t.Error("the load did not bring the snapshot up to date")
	}
}

func TestTopicsAreInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &nameList{}
		want := map[named]bool{}
		for range rapid.IntRange(0, 3000).Draw(t, "n") {
			e := named{name: fmt.Sprint(rapid.IntRange(0, 2000).Draw(t, "name"))}
			if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
				l = l.remove(e)
				delete(want, e)
			} else {
				l = l.insert(e)
				want[e] = true
			}
		}
		from := fmt.Sprint(rapid.IntRange(0, 2000).Draw(t, "from"))
		var sorted []string
		for e := range want {
			if e.name >= from {
				sorted = append(sorted, e.name)
			}
		}
		sort.Strings(sorted)
		var got []string
		for e := range l.from(from) {
			got = append(got, e.name)
		}
		if !slices.Equal(got, sorted) || l.n != len(want) {
			t.Fatalf("got %d of %d", len(got), len(sorted))
		}
	})
}

// One change must not cost what the fleet costs.
func BenchmarkApplyOneChangeOf100kTopics(b *testing.B) {
	w := newWatcher()
	var items []item
	ids := make([]ID, 100_000)
	for i := range ids {
		ids[i] = RandomID()
		for k, v := range map[string]any{topicKey("t", ids[i]): Topic{Name: fmt.Sprintf("topic-%06d", i), Partitions: 1},
			pageKey("t", ids[i], 0): Page{Topic: ids[i], Chains: chains(1)}} {
			s, err := encode(v)
			if err != nil {
				b.Fatal(err)
			}
			items = append(items, item{k, []byte(s), 1, 0})
		}
	}
	w.take(items, 1)
	value, err := encode(Page{Chains: chains(1)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.apply([]event{{item{pageKey("t", ids[i%len(ids)], 0), []byte(value), int64(i + 2), 0}, false}}, int64(i+2))
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"x"}`))
	f.Add([]byte{0x1f, 0x8b, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		for k := kindCluster; k <= kindExtend; k++ {
			if v, err := decoded(address{kind: k}, item{value: b}); err == nil && v == nil {
				t.Error("neither value nor error")
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	id := RandomID()
	for _, k := range []string{clusterKey("a/b"), pageKey("t", id, 64), extendKey("t", id), votePrefix("c") + "3", shardKey(3), fleetRoot, tenantRoot + "//"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, k string) {
		if a := parseKey(k); a.kind == kindPage && a.number%PageSize != 0 {
			t.Errorf("page at %d", a.number)
		}
	})
}

func TestKeysRoundTrip(t *testing.T) {
	id := RandomID()
	for _, tc := range []struct {
		key  string
		want address
	}{
		{clusterKey("a/b"), address{kind: kindCluster, name: "a/b"}},
		{clusterKey("=x"), address{kind: kindCluster, name: "=x"}},
		{gatewayKey(3), address{kind: kindGateway, number: 3}},
		{processKey("p"), address{kind: kindProcess, name: "p"}},
		{shardKey(0), address{kind: kindShard}},
		{votePrefix("c/d") + "9", address{kind: kindVote, name: "c/d", number: 9}},
		{topicKey("t", id), address{kind: kindTopic, tenant: "t", id: id}},
		{pageKey("t", id, 64), address{kind: kindPage, tenant: "t", id: id, number: 64}},
		{extendKey("..", id), address{kind: kindExtend, tenant: "..", id: id}},
		{root + "x", address{}},
		{topicKey("t", id) + "/1", address{tenant: "t", id: id}},
	} {
		got := parseKey(tc.key)
		if got.kind == kindOther {
			got = address{}
		}
		if tc.want.kind == kindOther {
			tc.want = address{}
		}
		if got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.key, got, tc.want)
		}
	}
}
