package coordinator

import (
	"testing"
	"time"

	"github.com/braidstream/braid/wire"
)

func str(s string) *string { return &s }

func TestJoinAsksForAMemberID(t *testing.T) {
	d := newDriver(t, Config{})
	c := d.client("").join().wantJoin(wire.MemberIDRequired)
	if c.id == "" || c.id != "client-id1" {
		t.Fatalf("member id %q", c.id)
	}
	c.join().wantParked()
	old := d.client("")
	old.version = 3
	old.join().wantParked()
}

func TestInitialDelayIsProlongedByNewMembers(t *testing.T) {
	d := newDriver(t, Config{InitialRebalanceDelay: 3 * time.Second})
	a := d.client("").enter().wantParked()
	d.pass(2000)
	b := d.client("").enter().wantParked()
	d.pass(1000)
	a.wantParked() // b came meanwhile
	d.pass(2999)
	b.wantParked()
	d.pass(1)
	a.wantJoin(wire.None)
	b.wantJoin(wire.None)
	if a.generation != 1 || a.joined.leader != a.id || len(a.joined.members) != 2 || len(b.joined.members) != 0 {
		t.Fatalf("%+v %+v", a.joined, b.joined)
	}
	if got := *a.joined.protocol; got != "range" {
		t.Errorf("protocol %s", got)
	}
}

func TestInitialDelayIsBoundedByRebalanceTimeout(t *testing.T) {
	d := newDriver(t, Config{InitialRebalanceDelay: 3 * time.Second})
	first := d.client("")
	first.rebalance = 7000
	first.enter()
	for range 10 {
		d.pass(900)
		c := d.client("")
		c.rebalance = 7000
		c.enter()
	}
	// 3 s, 3 s and the 1 s that is left.
	first.wantJoin(wire.None)
}

func TestRebalanceRound(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.stable(3)
	if code := all[1].beat(); code != wire.None {
		t.Fatal(code)
	}
	n := d.client("").enter().wantParked()
	d.wantState(statePreparing)
	for _, c := range all {
		if code := c.beat(); code != wire.RebalanceInProgress {
			t.Fatal(code)
		}
		c.join()
	}
	d.spread(append(all, n))
	for _, c := range all {
		if c.generation != 2 {
			t.Errorf("generation %d", c.generation)
		}
	}
	if code := all[0].leave(); code != wire.None {
		t.Fatal(code)
	}
	d.wantState(statePreparing)
	for _, c := range append(all[1:], n) {
		c.join()
	}
	d.spread(append(all[1:], n))
}

func TestWhoDoesNotRejoinIsRemoved(t *testing.T) {
	d := newDriver(t, Config{MinSessionTimeout: time.Second})
	all := d.stable(2)
	n := d.client("").enter()
	all[0].join().wantParked()
	for range 10 {
		d.pass(5999)
		all[1].beat() // alive, and never joins
	}
	n.wantParked()
	d.pass(100)
	n.wantJoin(wire.None)
	if code := all[1].beat(); code != wire.UnknownMemberID {
		t.Error(code)
	}
	d.spread([]*client{all[0], n})
}

func TestSessionExpiry(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.stable(2)
	d.pass(9999)
	all[0].beat()
	d.pass(1)
	d.wantState(statePreparing)
	if code := all[1].beat(); code != wire.UnknownMemberID {
		t.Error(code)
	}
	all[0].join()
	d.spread(all[:1])
	d.pass(10_000)
	d.wantState(stateEmpty)
	if g := d.m.groups[testGroup]; g.generation != 3 {
		t.Errorf("generation %d", g.generation)
	}
}

func TestCommitKeepsTheSessionAlive(t *testing.T) {
	d := newDriver(t, Config{})
	c := d.stable(1)[0]
	for range 5 {
		d.pass(9000)
		if code := c.commit("topic", 0, 1); code == nil || *code != wire.None {
			t.Fatal(code)
		}
	}
	d.wantState(stateStable)
}

func TestPendingMemberExpires(t *testing.T) {
	d := newDriver(t, Config{})
	a := d.client("").enter()
	b := d.client("").join().wantJoin(wire.MemberIDRequired)
	d.pass(9999)
	// Nobody waits for b's id beyond the session timeout; a's group is complete by then.
	b.join()
	d.pass(20_000)
	a.wantJoin(wire.None)
	c := d.client("").join()
	d.pass(10_001)
	c.join().wantJoin(wire.UnknownMemberID)
}

func TestMemberThatNeverSyncsIsRemoved(t *testing.T) {
	d := newDriver(t, Config{})
	a, b := d.client(""), d.client("")
	a.rebalance, b.rebalance = 15_000, 15_000
	a.enter()
	b.enter()
	d.pass(6000)
	a.wantJoin(wire.None)
	a.sync(map[string]string{a.id: "x"}).wantSync(wire.None, "x")
	for range 5 {
		d.pass(3000)
		a.beat()
		b.beat()
	}
	d.wantState(statePreparing)
	if code := b.beat(); code != wire.UnknownMemberID {
		t.Error(code)
	}
}

func TestLeaderThatNeverSyncsIsReplaced(t *testing.T) {
	d := newDriver(t, Config{})
	a := d.client("").enter()
	b := d.client("").enter()
	d.pass(6000)
	b.sync(nil)
	if b.synced != nil {
		t.Fatal("follower was answered without the leader")
	}
	d.pass(10_000)
	b.wantSync(wire.RebalanceInProgress, "")
	if code := a.beat(); code != wire.UnknownMemberID {
		t.Error(code)
	}
	b.join()
	d.spread([]*client{b})
}

func TestJoinInEachState(t *testing.T) {
	d := newDriver(t, Config{})
	a := d.client("").enter()
	b := d.client("").enter()
	d.pass(6000)
	// Completing: the answer was lost, the same one is given again.
	a.join().wantJoin(wire.None)
	if len(a.joined.members) != 2 || a.generation != 1 {
		t.Fatalf("%+v", a.joined)
	}
	b.join().wantJoin(wire.None)
	if len(b.joined.members) != 0 {
		t.Fatal("follower got the members")
	}
	// Completing, with other metadata: a new round.
	b.protocols = []protocol{{"range", subscribe("other")}}
	b.join().wantParked()
	d.wantState(statePreparing)
	a.join()
	d.spread([]*client{a, b})
	if a.generation != 2 {
		t.Fatal(a.generation)
	}
	// Stable, follower unchanged: the current generation.
	b.join().wantJoin(wire.None)
	if b.generation != 2 {
		t.Fatal(b.generation)
	}
	d.wantState(stateStable)
	// Stable, leader: always a new round.
	a.join().wantParked()
	b.join()
	d.spread([]*client{a, b})
}

func TestJoinErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *client)
		want   wire.Code
	}{
		{"other type", func(c *client) { c.typ = "connect" }, wire.InconsistentGroupProtocol},
		{"no common protocol", func(c *client) { c.protocols = []protocol{{"sticky", nil}} }, wire.InconsistentGroupProtocol},
		{"no protocol", func(c *client) { c.protocols = nil }, wire.InconsistentGroupProtocol},
		{"unknown member", func(c *client) { c.id = "made up" }, wire.UnknownMemberID},
		{"unknown group", func(c *client) { c.id = "made up"; c.key.group = "none" }, wire.UnknownMemberID},
		{"unknown instance", func(c *client) { c.id = "made up"; c.instance = str("i") }, wire.UnknownMemberID},
		{"new group, no type", func(c *client) { c.key.group = "none"; c.typ = "" }, wire.InconsistentGroupProtocol},
		{"new group, no protocol", func(c *client) { c.key.group = "none"; c.protocols = nil }, wire.InconsistentGroupProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDriver(t, Config{})
			d.stable(2)
			c := d.client("")
			tc.change(c)
			c.join().wantJoin(tc.want)
			if _, ok := d.m.groups[groupKey{"default", "none"}]; ok {
				t.Error("a refused join made a group")
			}
		})
	}
}

func TestMaxGroupSize(t *testing.T) {
	d := newDriver(t, Config{MaxGroupSize: 2})
	d.stable(2)
	d.client("").join().wantJoin(wire.GroupMaxSizeReached)
	d = newDriver(t, Config{MaxGroupSize: 2})
	d.client("").enter()
	d.client("").enter()
	d.client("").enter().wantJoin(wire.GroupMaxSizeReached)
}

func TestSyncErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(c *client, r *syncRequest)
		want   wire.Code
	}{
		{"unknown member", func(c *client, r *syncRequest) { r.memberID = "made up" }, wire.UnknownMemberID},
		{"unknown group", func(c *client, r *syncRequest) { r.key.group = "none" }, wire.UnknownMemberID},
		{"old generation", func(c *client, r *syncRequest) { r.generation-- }, wire.IllegalGeneration},
		{"other type", func(c *client, r *syncRequest) { r.protocolType = str("connect") }, wire.InconsistentGroupProtocol},
		{"other protocol", func(c *client, r *syncRequest) { r.protocol = str("sticky") }, wire.InconsistentGroupProtocol},
		{"unknown instance", func(c *client, r *syncRequest) { r.instance = str("i") }, wire.UnknownMemberID},
		{"right", func(c *client, r *syncRequest) { r.protocolType, r.protocol = str("consumer"), str("range") }, wire.None},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDriver(t, Config{})
			c := d.stable(1)[0]
			var got *syncAnswer
			r := &syncRequest{key: c.key, generation: c.generation, memberID: c.id, done: func(a syncAnswer) { got = &a }}
			tc.change(c, r)
			d.event(func(m *machine) { m.sync(r) })
			if got == nil || got.code != tc.want {
				t.Errorf("got %+v, want %v", got, tc.want)
			}
		})
	}
	d := newDriver(t, Config{})
	all := d.stable(2)
	d.client("").enter()
	all[0].sync(nil).wantSync(wire.RebalanceInProgress, "")
}

func TestHeartbeatErrors(t *testing.T) {
	d := newDriver(t, Config{})
	c := d.stable(1)[0]
	for _, tc := range []struct {
		name   string
		change func(c *client)
		want   wire.Code
	}{
		{"right", func(c *client) {}, wire.None},
		{"unknown group", func(c *client) { c.key.group = "none" }, wire.UnknownMemberID},
		{"unknown member", func(c *client) { c.id = "made up" }, wire.UnknownMemberID},
		{"old generation", func(c *client) { c.generation-- }, wire.IllegalGeneration},
		{"unknown instance", func(c *client) { c.instance = str("i") }, wire.UnknownMemberID},
	} {
		one := *c
		tc.change(&one)
		if got := one.beat(); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestLeave(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.stable(3)
	p := d.client("")
	p.join().wantJoin(wire.MemberIDRequired)
	var codes []wire.Code
	d.event(func(m *machine) {
		codes = m.leave(testGroup, []leaver{{memberID: all[0].id}, {memberID: "made up"}, {memberID: p.id}, {instance: str("i")}, {memberID: all[1].id, instance: str("i")}})
	})
	for i, want := range []wire.Code{wire.None, wire.UnknownMemberID, wire.None, wire.UnknownMemberID, wire.UnknownMemberID} {
		if codes[i] != want {
			t.Errorf("%d: %v, want %v", i, codes[i], want)
		}
	}
	d.wantState(statePreparing)
	d.event(func(m *machine) { codes = m.leave(groupKey{"default", "none"}, []leaver{{memberID: "x"}}) })
	if codes[0] != wire.UnknownMemberID {
		t.Error(codes)
	}
	all[1].join()
	all[2].leave()
	d.spread(all[1:2])
	all[1].leave()
	d.wantState(stateEmpty)
}

func TestTenantsDoNotSeeOneAnother(t *testing.T) {
	d := newDriver(t, Config{})
	c := d.stable(1)[0]
	other := *c
	other.key.tenant = "other"
	if code := other.beat(); code != wire.UnknownMemberID {
		t.Error(code)
	}
	other.join().wantJoin(wire.UnknownMemberID)
	if d.m.describe(other.key, 6).ErrorCode != int16(wire.GroupIDNotFound) {
		t.Error("group of another tenant is described")
	}
	if code := d.m.deleteGroup(other.key); code != wire.GroupIDNotFound {
		t.Error(code)
	}
}

func TestProtocolVote(t *testing.T) {
	d := newDriver(t, Config{})
	lists := [][]protocol{
		{{"range", nil}, {"sticky", nil}, {"roundrobin", nil}},
		{{"sticky", nil}, {"range", nil}},
		{{"sticky", nil}, {"range", nil}, {"roundrobin", nil}},
	}
	var all []*client
	for _, l := range lists {
		c := d.client("")
		c.typ, c.protocols = "connect", l
		all = append(all, c.enter())
	}
	d.pass(20_000)
	for _, c := range all {
		if got := *c.wantJoin(wire.None).joined.protocol; got != "sticky" {
			t.Errorf("protocol %s", got)
		}
	}
	if d.m.groups[testGroup].subscribed != nil {
		t.Error("subscriptions of a connect group are known")
	}
}
