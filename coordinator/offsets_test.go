package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/wire"
)

// offset is what the group has committed, -1 if nothing.
func (d *driver) offset(key groupKey, topic string, partition int32) int64 {
	got := d.m.fetch(key, []fetchTopic{{topic, idOf(topic), []int32{partition}}}, false)
	return got[0].partitions[0].offset
}

func simple(version int16, key groupKey, topic string, partition int32, offset int64) *commitRequest {
	return &commitRequest{
		key: key, version: version, generation: -1, retention: -1,
		topics: []topicOffsets{{name: topic, id: idOf(topic), partitions: []partitionOffset{{partition, offset, 7, "meta"}}}},
	}
}

func TestCommitChecks(t *testing.T) {
	type try struct {
		name   string
		state  state
		change func(r *commitRequest)
		want   wire.Code
	}
	for _, tc := range []try{
		{"member", stateStable, func(r *commitRequest) {}, wire.None},
		{"old generation", stateStable, func(r *commitRequest) { r.generation = 0 }, wire.IllegalGeneration},
		{"newer generation", stateStable, func(r *commitRequest) { r.generation = 9 }, wire.IllegalGeneration},
		{"unknown member", stateStable, func(r *commitRequest) { r.memberID = "x" }, wire.UnknownMemberID},
		{"unknown instance", stateStable, func(r *commitRequest) { r.instance = str("x") }, wire.UnknownMemberID},
		{"no member", stateStable, func(r *commitRequest) { r.memberID, r.generation = "", -1 }, wire.UnknownMemberID},
		{"member without generation", stateStable, func(r *commitRequest) { r.generation = -1 }, wire.IllegalGeneration},
		{"while preparing", statePreparing, func(r *commitRequest) {}, wire.None},
		{"while completing", stateCompleting, func(r *commitRequest) {}, wire.RebalanceInProgress},
		{"empty group, simple", stateEmpty, func(r *commitRequest) { r.memberID, r.generation = "", -1 }, wire.None},
		{"empty group, former member", stateEmpty, func(r *commitRequest) {}, wire.UnknownMemberID},
		{"new group, v9", stateEmpty, func(r *commitRequest) { r.key.group = "none" }, wire.GroupIDNotFound},
		{"new group, v8", stateEmpty, func(r *commitRequest) { r.key.group = "none"; r.version = 8 }, wire.IllegalGeneration},
		{"new group, simple", stateEmpty, func(r *commitRequest) { r.key.group, r.generation, r.memberID = "none", -1, "" }, wire.None},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDriver(t, Config{})
			c := d.stable(1)[0]
			switch tc.state {
			case statePreparing:
				d.client("").enter()
			case stateCompleting:
				c.join().wantJoin(wire.None)
			case stateEmpty:
				c.leave()
			}
			d.wantState(tc.state)
			r := simple(9, testGroup, "topic", 3, 42)
			r.generation, r.memberID = c.generation, c.id
			tc.change(r)
			if code := d.commit(r); code == nil || *code != tc.want {
				t.Fatalf("got %v, want %v", code, tc.want)
			}
			want := int64(42)
			if tc.want != wire.None {
				want = -1
			}
			if got := d.offset(r.key, "topic", 3); got != want {
				t.Errorf("offset %d, want %d", got, want)
			}
			if got := d.successor().offset(r.key, "topic", 3); got != want {
				t.Errorf("offset at the next owner %d, want %d", got, want)
			}
		})
	}
}

func TestCommitWaitsForTheLog(t *testing.T) {
	d := newDriver(t, Config{})
	var code *wire.Code
	d.hold = true
	d.event(func(m *machine) { m.commit(simple(9, testGroup, "topic", 0, 1), func(c wire.Code) { code = &c }) })
	if code != nil {
		t.Fatal("answered before the log had it")
	}
	d.release()
	if code == nil || *code != wire.None {
		t.Fatal(code)
	}
}

func TestFetch(t *testing.T) {
	d := newDriver(t, Config{})
	d.commit(simple(9, testGroup, "topic", 1, 10))
	d.commit(simple(9, testGroup, "other", 2, 20))
	got := d.m.fetch(testGroup, []fetchTopic{{"topic", idOf("topic"), []int32{1, 2}}, {"nope", idOf("nope"), []int32{0}}, {"", idOf("x"), []int32{5}}}, false)
	if o := got[0].partitions[0]; o != (fetchedOffset{1, 10, 7, "meta"}) {
		t.Errorf("%+v", o)
	}
	if o := got[0].partitions[1]; o != (fetchedOffset{2, -1, -1, ""}) {
		t.Errorf("%+v", o)
	}
	if o := got[1].partitions[0]; o.offset != -1 || got[1].code != wire.None {
		t.Errorf("%+v", got[1])
	}
	if got[2].code != wire.UnknownTopicID {
		t.Errorf("%+v", got[2])
	}
	if all := d.m.fetch(testGroup, nil, true); len(all) != 2 {
		t.Errorf("%+v", all)
	}
	if all := d.m.fetch(groupKey{"other", "g"}, nil, true); len(all) != 0 {
		t.Errorf("another tenant sees %+v", all)
	}
	// A topic of that name with another id has no offsets.
	if got := d.m.fetch(testGroup, []fetchTopic{{"topic", idOf("new"), []int32{1}}}, false); got[0].partitions[0].offset != -1 {
		t.Error("an offset of the former topic was given for the new one")
	}
}

func TestRecreatedTopicStartsWithoutOffsets(t *testing.T) {
	d := newDriver(t, Config{})
	d.commit(simple(9, testGroup, "topic", 1, 10))
	r := simple(9, testGroup, "topic", 2, 5)
	r.topics[0].id = idOf("again")
	d.commit(r)
	for _, m := range []*machine{d.m, d.successor().m} {
		store := m.groups[testGroup].offsets["topic"]
		if store.id != idOf("again") || len(store.partitions) != 1 || store.partitions[2].offset != 5 {
			t.Errorf("%+v", store)
		}
	}
}

func TestLargeCommitIsSplit(t *testing.T) {
	d := newDriver(t, Config{})
	r := &commitRequest{key: testGroup, version: 9, generation: -1, retention: -1}
	for i := range 3 {
		tp := topicOffsets{name: fmt.Sprint("t", i), id: idOf(fmt.Sprint("t", i))}
		for p := range int32(5000) {
			tp.partitions = append(tp.partitions, partitionOffset{p, int64(p) * 2, -1, ""})
		}
		r.topics = append(r.topics, tp)
	}
	if code := d.commit(r); *code != wire.None {
		t.Fatal(*code)
	}
	if len(d.log) != 4 {
		t.Errorf("%d records", len(d.log))
	}
	n := d.successor()
	for i := range 3 {
		for p := range int32(5000) {
			if got := n.offset(testGroup, fmt.Sprint("t", i), p); got != int64(p)*2 {
				t.Fatalf("t%d-%d: %d", i, p, got)
			}
		}
	}
}

func TestCommitWithMuchMetadataIsSplit(t *testing.T) {
	d := newDriver(t, Config{})
	r := &commitRequest{key: testGroup, version: 9, generation: -1, retention: -1}
	for i := range 2 {
		tp := topicOffsets{name: fmt.Sprint("t", i), id: idOf(fmt.Sprint("t", i))}
		for p := range int32(1000) {
			tp.partitions = append(tp.partitions, partitionOffset{p, int64(p), -1, strings.Repeat("x", 4096)})
		}
		r.topics = append(r.topics, tp)
	}
	if code := d.commit(r); *code != wire.None {
		t.Fatal(*code)
	}
	for _, rec := range d.log {
		if len(rec) > 2*maxOffsetsBytes {
			t.Errorf("a record of %d bytes", len(rec))
		}
	}
	n := d.successor()
	for p := range int32(1000) {
		if n.offset(testGroup, "t0", p) != int64(p) || n.offset(testGroup, "t1", p) != int64(p) {
			t.Fatal(p)
		}
	}
}

func TestDeleteOffsets(t *testing.T) {
	d := newDriver(t, Config{})
	if _, code := d.m.deleteOffsets(testGroup, nil); code != wire.GroupIDNotFound {
		t.Error(code)
	}
	c := d.stable(1)[0]
	c.commit("topic", 0, 1)
	c.commit("left", 0, 1)
	c.commit("left", 1, 1)
	var codes []wire.Code
	var code wire.Code
	d.event(func(m *machine) {
		codes, code = m.deleteOffsets(testGroup, []topicPartitions{{"topic", []int32{0}}, {"left", []int32{0, 5}}})
	})
	if code != wire.None || !slices.Equal(codes, []wire.Code{wire.GroupSubscribedToTopic, wire.None}) {
		t.Fatal(codes, code)
	}
	for _, d := range []*driver{d, d.successor()} {
		if d.offset(testGroup, "topic", 0) != 1 || d.offset(testGroup, "left", 0) != -1 || d.offset(testGroup, "left", 1) != 1 {
			t.Error("wrong offsets are left")
		}
	}
	other := d.client("")
	other.key.group, other.typ = "connect", "connect"
	other.enter()
	if _, code := d.m.deleteOffsets(other.key, nil); code != wire.NonEmptyGroup {
		t.Error(code)
	}
}

func TestDeleteGroup(t *testing.T) {
	d := newDriver(t, Config{})
	c := d.stable(1)[0]
	c.commit("topic", 0, 1)
	if code := d.m.deleteGroup(testGroup); code != wire.NonEmptyGroup {
		t.Error(code)
	}
	c.leave()
	d.event(func(m *machine) {
		if code := m.deleteGroup(testGroup); code != wire.None {
			t.Error(code)
		}
	})
	for _, m := range []*machine{d.m, d.successor().m} {
		if len(m.groups) != 0 {
			t.Error("group is still there")
		}
	}
	// Nothing of the former group calls back.
	d.pass(3_600_000)
}

func TestRetention(t *testing.T) {
	const hour = 3_600_000
	config := Config{OffsetsRetention: 24 * time.Hour, MaxSessionTimeout: 100 * time.Hour}
	t.Run("simple group", func(t *testing.T) {
		d := newDriver(t, config)
		d.commit(simple(9, testGroup, "topic", 0, 1))
		d.pass(20 * hour)
		d.commit(simple(9, testGroup, "topic", 1, 1))
		d.pass(4*hour + hour/2)
		if d.offset(testGroup, "topic", 0) != -1 || d.offset(testGroup, "topic", 1) != 1 {
			t.Error("retention runs from the commit")
		}
		d.pass(20 * hour)
		if len(d.m.groups) != 0 || len(d.successor().m.groups) != 0 {
			t.Error("a group without offsets and members is still there")
		}
	})
	t.Run("from when the group is empty", func(t *testing.T) {
		d := newDriver(t, config)
		c := d.client("")
		c.session = 360_000_000
		c.enter()
		d.pass(6000)
		d.spread([]*client{c})
		c.commit("topic", 0, 1)
		d.pass(30 * hour)
		if d.offset(testGroup, "topic", 0) != 1 {
			t.Fatal("expired in a live group")
		}
		c.leave()
		d.pass(23 * hour)
		if n := d.successor(); n.offset(testGroup, "topic", 0) != 1 {
			t.Fatal("the next owner does not know since when the group is empty")
		}
		d.pass(2 * hour)
		if len(d.m.groups) != 0 {
			t.Error("still there")
		}
	})
	t.Run("topics that nobody reads any more", func(t *testing.T) {
		d := newDriver(t, config)
		c := d.client("")
		c.session = 360_000_000
		c.enter()
		d.pass(6000)
		d.spread([]*client{c})
		c.commit("topic", 0, 1)
		c.commit("former", 0, 1)
		d.pass(25 * hour)
		if d.offset(testGroup, "topic", 0) != 1 || d.offset(testGroup, "former", 0) != -1 {
			t.Error("of a live group, offsets of topics that are not subscribed expire, and only those")
		}
	})
	t.Run("retention of the request", func(t *testing.T) {
		d := newDriver(t, config)
		r := simple(3, testGroup, "topic", 0, 1)
		r.retention = 2 * hour
		d.commit(r)
		d.pass(hour)
		d = d.successor()
		if d.offset(testGroup, "topic", 0) != 1 {
			t.Error("too early")
		}
		d.pass(2 * hour)
		if d.offset(testGroup, "topic", 0) != -1 {
			t.Error("too late")
		}
	})
}

func TestOffsetsOfDeletedTopics(t *testing.T) {
	d := newDriver(t, Config{})
	d.commit(simple(9, testGroup, "topic", 0, 1))
	d.commit(simple(9, testGroup, "kept", 0, 1))
	d.event(func(m *machine) { m.topicGone("default", "topic", idOf("other")) })
	d.event(func(m *machine) { m.topicGone("other", "topic", idOf("topic")) })
	if d.offset(testGroup, "topic", 0) != 1 {
		t.Fatal("another topic was deleted")
	}
	d.event(func(m *machine) { m.topicGone("default", "topic", idOf("topic")) })
	if d.offset(testGroup, "topic", 0) != -1 || d.successor().offset(testGroup, "topic", 0) != -1 {
		t.Error("offset of a deleted topic")
	}
	// Deleted while nobody looked: found at the second look.
	d.topics.gone[idOf("kept")] = true
	d.pass(600_000)
	if d.offset(testGroup, "kept", 0) != 1 {
		t.Error("a topic that was missed once is taken for deleted")
	}
	d.pass(600_000)
	if d.offset(testGroup, "kept", 0) != -1 {
		t.Error("offset of a deleted topic")
	}
}

func TestDescribe(t *testing.T) {
	d := newDriver(t, Config{})
	if g := d.m.describe(testGroup, 5); g.State != "Dead" || g.ErrorCode != 0 {
		t.Errorf("%+v", g)
	}
	if g := d.m.describe(testGroup, 6); g.State != "Dead" || g.ErrorCode != int16(wire.GroupIDNotFound) || g.ErrorMessage == nil {
		t.Errorf("%+v", g)
	}
	c := d.stable(1)[0]
	g := d.m.describe(testGroup, 6)
	if g.State != "Stable" || g.Protocol != "range" || g.ProtocolType != "consumer" || len(g.Members) != 1 ||
		g.Members[0].MemberID != c.id || string(g.Members[0].MemberAssignment) != "a"+c.id || len(g.Members[0].ProtocolMetadata) == 0 {
		t.Errorf("%+v", g)
	}
	c.join()
	g = d.m.describe(testGroup, 6)
	if g.State != "CompletingRebalance" || g.Protocol != "" || len(g.Members[0].ProtocolMetadata) != 0 {
		t.Errorf("%+v", g)
	}
	c.leave()
	if g = d.m.describe(testGroup, 6); g.State != "Empty" || g.ErrorCode != 0 || g.ProtocolType != "consumer" {
		t.Errorf("%+v", g)
	}
}
