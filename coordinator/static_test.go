package coordinator

import (
	"testing"

	"github.com/braidstream/braid/wire"
)

// statics makes a stable group of n static members.
func (d *driver) statics(n int) []*client {
	d.t.Helper()
	var all []*client
	for i := range n {
		c := d.client("")
		c.instance = str(string(rune('a' + i)))
		all = append(all, c.join().wantParked())
	}
	d.pass(3000 * int64(n+1))
	d.spread(all)
	return all
}

func TestStaticMemberComesBack(t *testing.T) {
	for _, version := range []int16{8, 9} {
		for who := range 2 {
			d := newDriver(t, Config{})
			all := d.statics(2)
			old := *all[who]
			leader := all[who].joined.leader
			back := d.client("")
			back.instance, back.version = old.instance, version
			d.hold = true
			back.join().wantParked() // until the new id is in the log
			d.release()
			back.wantJoin(wire.None)
			d.wantState(stateStable)
			if back.id == old.id || back.generation != old.generation {
				t.Fatalf("id %q, generation %d", back.id, back.generation)
			}
			isLeader := leader == old.id
			switch {
			case version >= 9 && isLeader:
				if !back.joined.skip || len(back.joined.members) != 2 || back.joined.leader != back.id {
					t.Errorf("leader is not told to skip: %+v", back.joined)
				}
			case isLeader:
				// The former id, so that the client takes itself for a follower.
				if back.joined.leader != old.id || back.joined.skip || len(back.joined.members) != 0 {
					t.Errorf("%+v", back.joined)
				}
			}
			back.sync(nil).wantSync(wire.None, "a"+old.id)
			if code := old.beat(); code != wire.FencedInstanceID {
				t.Error(code)
			}
			if code := old.leave(); code != wire.FencedInstanceID {
				t.Error(code)
			}
			old.join().wantJoin(wire.FencedInstanceID)
			old.sync(nil).wantSync(wire.FencedInstanceID, "")
			if code := old.commit("topic", 0, 1); *code != wire.FencedInstanceID {
				t.Error(*code)
			}
			// The next owner knows the new id.
			n := d.successor()
			back.d = n
			if code := back.beat(); code != wire.None {
				t.Error(code)
			}
		}
	}
}

func TestStaticMemberWithOtherProtocolRebalances(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.statics(1)
	back := d.client("")
	back.instance = all[0].instance
	back.protocols = []protocol{{"roundrobin", subscribe("topic")}, {"range", subscribe("topic")}}
	back.join()
	d.spread([]*client{back})
	if back.generation != 2 {
		t.Error(back.generation)
	}
}

func TestStaticMemberReplacedWhileCompleting(t *testing.T) {
	d := newDriver(t, Config{})
	a, b := d.client(""), d.client("")
	a.instance, b.instance = str("a"), str("b")
	a.join()
	b.join()
	d.pass(6000)
	b.wantJoin(wire.None)
	b.sync(nil)
	back := d.client("")
	back.instance = b.instance
	back.join().wantParked()
	b.wantSync(wire.FencedInstanceID, "")
	d.wantState(statePreparing)
	a.join()
	d.spread([]*client{a, back})
}

func TestStaticMemberReplacedWhileJoining(t *testing.T) {
	d := newDriver(t, Config{})
	a := d.client("")
	a.instance = str("a")
	a.join().wantParked()
	back := d.client("")
	back.instance = a.instance
	back.join().wantParked()
	a.wantJoin(wire.FencedInstanceID)
	d.pass(6000)
	d.spread([]*client{back})
}

func TestStaticMembersStayInARebalance(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.statics(2)
	for _, c := range all {
		d.m.groups[testGroup].members[c.id].sessionTimeout = 600_000
		c.beat()
	}
	n := d.client("").enter()
	all[0].join()
	d.pass(60_000)
	n.wantJoin(wire.None)
	all[0].wantJoin(wire.None)
	if len(d.m.groups[testGroup].members) != 3 {
		t.Error("the static member that did not rejoin is gone")
	}
}

func TestAllStaticMembersMissing(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.statics(2)
	dynamic := d.client("").enter()
	for _, c := range all {
		c.beat()
	}
	dynamic.leave()
	d.wantState(statePreparing)
	// Nobody joins: the round is put off until their sessions end.
	d.pass(10_000)
	d.pass(120_000)
	d.wantState(stateEmpty)
}

// A rebalance timeout of 0 must not keep the machine busy for ever.
func TestStaticMembersMissingWithoutRebalanceTimeout(t *testing.T) {
	d := newDriver(t, Config{})
	c := d.client("")
	c.instance = str("a")
	c.join()
	d.pass(6000)
	d.spread([]*client{c})
	d.m.groups[testGroup].members[c.id].rebalanceTimeout = 0
	n := d.client("")
	n.rebalance = 0
	n.enter()
	n.leave()
	d.wantState(statePreparing)
	d.pass(10_000)
	d.wantState(stateEmpty)
}

// The record of a replaced static member was so long on its way that its session
// ended meanwhile: it must not live for ever.
func TestSessionGoesOnAfterASlowRecord(t *testing.T) {
	d := newDriver(t, Config{})
	all := d.statics(1)
	back := d.client("")
	back.instance = all[0].instance
	d.hold = true
	back.join().wantParked()
	d.pass(20_000)
	d.release()
	back.wantJoin(wire.None)
	d.wantState(stateStable)
	d.pass(10_000)
	d.wantState(stateEmpty)
}

func TestAdminRemovesStaticMember(t *testing.T) {
	d := newDriver(t, Config{})
	d.statics(1)
	var codes []wire.Code
	d.event(func(m *machine) { codes = m.leave(testGroup, []leaver{{instance: str("a")}}) })
	if codes[0] != wire.None {
		t.Error(codes)
	}
	d.wantState(stateEmpty)
}
