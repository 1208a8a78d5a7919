package coordinator

import (
	"slices"
	"testing"

	"github.com/braidstream/braid/wire"
)

// classicOwns makes the leader of a classic group assign partitions of topic a.
func classicOwns(c *client, partitions ...int32) map[string]string {
	return map[string]string{c.id: string(appendConsumerAssignment(nil, subscribe("a"), map[string][]int32{"a": partitions}))}
}

// A classic group with a member is joined by one of the consumer protocol, and goes back
// when that leaves: offsets stay, nobody is thrown out, partitions are handed over.
func TestGroupsMigrateBothWays(t *testing.T) {
	d := newConsumerDriver(t, Config{InitialRebalanceDelay: -1}, map[string]int32{"a": 2})
	old := d.client("")
	old.protocols = []protocol{{"range", subscribe("a")}}
	old.enter()
	d.pass(1)
	old.wantJoin(wire.None)
	old.sync(classicOwns(old, 0, 1)).wantSync(wire.None, classicOwns(old, 0, 1)[old.id])
	if code := old.commit("a", 0, 5); *code != wire.None {
		t.Fatal(*code)
	}
	d.wantState(stateStable)

	x := d.beater("x", "a")
	x.beat().want(wire.None).has(2, "") // the classic member has both
	d.wantConsumer("Reconciling", 2)
	if got := d.offset(testGroup, "a", 0); got != 5 {
		t.Fatalf("offset is %d after the upgrade", got)
	}
	if code := old.beat(); code != wire.RebalanceInProgress {
		t.Fatalf("heartbeat of the classic member: %v", code)
	}
	old.join().wantJoin(wire.None)
	if old.generation != 2 || len(old.joined.members) > 0 {
		t.Fatalf("%+v", old.joined)
	}
	old.sync(nil).wantSync(wire.None, classicOwns(old, 0)[old.id])
	x.beat().has(2, "a-1")
	d.wantConsumer("Stable", 2)
	if code := old.beat(); code != wire.None {
		t.Fatal(code)
	}
	if code := *old.commit("a", 0, 6); code != wire.None {
		t.Fatal(code)
	}
	n := d.successor()
	sameConsumerGroups(t, d, n)

	// The only member of the consumer protocol leaves: classic again, and it rebalances.
	x.leave(-1).want(wire.None)
	d.wantState(statePreparing)
	if code := old.beat(); code != wire.RebalanceInProgress {
		t.Fatal(code)
	}
	old.join().wantJoin(wire.None)
	old.sync(classicOwns(old, 0, 1)).wantSync(wire.None, classicOwns(old, 0, 1)[old.id])
	d.wantState(stateStable)
	if g := d.successor().m.groups[testGroup]; g.consumer != nil || len(g.members) != 1 || d.offset(testGroup, "a", 0) != 6 {
		t.Fatalf("%+v", g)
	}
}

func sameConsumerGroups(t *testing.T, a, b *driver) {
	t.Helper()
	x, y := a.consumers(), b.consumers()
	if x.epoch != y.epoch || x.assigned != y.assigned || len(x.members) != len(y.members) {
		t.Fatalf("the next owner has %+v instead of %+v", y, x)
	}
}

func TestMigrationPolicies(t *testing.T) {
	for _, tc := range []struct {
		policy   MigrationPolicy
		up, join wire.Code
		down     bool
	}{
		{MigrateBoth, wire.None, wire.None, true},
		{MigrateUp, wire.None, wire.None, false},
		{MigrateDown, wire.GroupIDNotFound, wire.None, true},
		{MigrateDisabled, wire.GroupIDNotFound, wire.InconsistentGroupProtocol, false},
	} {
		config := Config{InitialRebalanceDelay: -1, ConsumerMigration: tc.policy}
		d := newConsumerDriver(t, config, map[string]int32{"a": 2})
		old := d.client("")
		old.protocols = []protocol{{"range", subscribe("a")}}
		old.enter()
		d.pass(1)
		old.wantJoin(wire.None)
		d.beater("x", "a").beat().want(tc.up)

		d = newConsumerDriver(t, config, map[string]int32{"a": 2})
		x := d.beater("x", "a")
		x.beat().want(wire.None)
		old = d.client("")
		old.protocols = []protocol{{"range", subscribe("a")}}
		old.join()
		if tc.join != wire.None {
			old.wantJoin(tc.join)
			continue
		}
		old.wantJoin(wire.MemberIDRequired)
		old.join().wantJoin(wire.None)
		x.leave(-1)
		if down := d.m.groups[testGroup].consumer == nil; down != tc.down {
			t.Errorf("%s: became classic again: %v", tc.policy, down)
		}
	}
	// What cannot be upgraded: other protocol types, and assignors that keep data of their own.
	d := newConsumerDriver(t, Config{InitialRebalanceDelay: -1}, map[string]int32{"a": 2})
	old := d.client("")
	old.typ = "connect"
	old.enter()
	d.pass(1)
	old.wantJoin(wire.None)
	d.beater("x", "a").beat().want(wire.GroupIDNotFound)
	d = newConsumerDriver(t, Config{InitialRebalanceDelay: -1}, map[string]int32{"a": 2})
	old = d.client("")
	old.protocols = []protocol{{"range", subscribe("a")}}
	old.enter()
	d.pass(1)
	old.wantJoin(wire.None)
	own := slices.Concat(appendConsumerAssignment(nil, subscribe("a"), nil)[:6], []byte{0, 0, 0, 1, 7})
	old.sync(map[string]string{old.id: string(own)})
	d.beater("x", "a").beat().want(wire.GroupIDNotFound)
	d.wantState(stateStable)
}
