package coordinator

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// TestConsumerModel drives a consumer group with members of both protocols that do
// anything at any time, topics that come, go and grow, a log that is slow, and changes
// of owner. After each step: no partition has two owners, not even in the eyes of the
// members; epochs never go back; the next owner has the same state. At the end everybody
// behaves, and each partition of each subscribed topic is somebody's.
func TestConsumerModel(t *testing.T) { rapid.Check(t, consumerModel) }

func consumerModel(t *rapid.T) {
	d := newDriver(nopTB{t: t}, Config{
		InitialRebalanceDelay: -1, ConsumerSessionTimeout: 45 * time.Second,
		ConsumerMaxSize:            rapid.SampledFrom([]int{3, 100}).Draw(t, "max size"),
		ConsumerAssignmentInterval: rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "interval"),
		MaxTenantBytes:             rapid.SampledFrom([]int64{0, 0, 3 << 10, 5 << 10}).Draw(t, "bytes"),
		ConsumerMigration:          rapid.SampledFrom([]MigrationPolicy{MigrateBoth, MigrateBoth, MigrateUp, MigrateDisabled}).Draw(t, "policy"),
	})
	d.m.held.counted(new(groupCounts))
	names := []string{"a", "b", "ab"}
	for i, name := range names {
		d.topics.set(name, int32(2+i))
	}
	subscriptions := [][]string{{"a"}, {"a", "b"}, {"a", "b", "ab"}, {}}
	var members []*beater
	for i := range 5 {
		b := d.beater(fmt.Sprint("m", i), "a", "b")
		if i < 2 {
			b.instance = str(fmt.Sprint("i", i))
		}
		members = append(members, b)
	}
	classic := d.client("")
	classic.version, classic.session, classic.rebalance = 5, 45_000, 60_000
	classic.protocols = []protocol{{"range", subscribe("a")}}
	epochs := map[string]int32{}
	var groupEpoch int32
	asked := 0
	one := func(t *rapid.T) *beater { return rapid.SampledFrom(members).Draw(t, "member") }
	retry := func(b *beater) {
		b.epoch, b.owned = 0, assignment{}
	}
	behave := func() {
		for _, b := range members {
			if d.hold {
				return
			}
			asked++
			b.beat()
		}
		d.pass(1000)
	}
	t.Repeat(map[string]func(*rapid.T){
		"beat":   func(t *rapid.T) { asked++; one(t).beat() },
		"behave": func(t *rapid.T) { behave() },
		"again": func(t *rapid.T) {
			// A process that was killed comes back with another member id.
			b := one(t)
			b.id += "'"
			retry(b)
			asked++
			b.beat()
		},
		"stale": func(t *rapid.T) {
			b := one(t)
			b.epoch += int32(rapid.IntRange(-1, 1).Draw(t, "off"))
			if b.epoch <= 0 {
				retry(b)
			}
			asked++
			b.beat()
		},
		"keep": func(t *rapid.T) {
			// It has not revoked anything yet, and says nothing about what it has.
			b := one(t)
			if b.epoch == 0 {
				return
			}
			r := b.request()
			r.owned, r.rebalance, r.hasTopics, r.regex = nil, -1, false, nil
			asked++
			b.send(r)
		},
		"subscribe": func(t *rapid.T) {
			b := one(t)
			b.topics = rapid.SampledFrom(subscriptions).Draw(t, "topics")
			b.regex = rapid.SampledFrom([]*string{str(""), str(""), str("a.*"), str("b|ab")}).Draw(t, "regex")
			b.assignor = rapid.SampledFrom([]*string{nil, str("range"), str("uniform")}).Draw(t, "assignor")
			asked++
			b.beat()
		},
		"leave": func(t *rapid.T) {
			b := one(t)
			asked++
			b.leave(-1)
			retry(b)
		},
		"pause": func(t *rapid.T) {
			if b := members[rapid.IntRange(0, 1).Draw(t, "static")]; b.epoch > 0 {
				asked++
				b.leave(-2)
				retry(b)
			}
		},
		"topics": func(t *rapid.T) {
			name := rapid.SampledFrom(names).Draw(t, "topic")
			n := d.topics.topics[name]
			if rapid.IntRange(0, 4).Draw(t, "gone") == 0 {
				n = 0
			} else {
				n++
			}
			d.topics.set(name, n)
		},
		"classic": func(t *rapid.T) {
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				classic.join()
			case 1:
				if classic.joined != nil {
					all := map[string]string{}
					for _, m := range classic.joined.members {
						all[m.MemberID] = string(appendConsumerAssignment(nil, subscribe("a"), map[string][]int32{"a": {0}}))
					}
					classic.sync(all)
				}
			case 2:
				if classic.id != "" {
					classic.beat()
				}
			case 3:
				classic.leave()
				classic.id = ""
			}
		},
		"pass": func(t *rapid.T) {
			d.pass(int64(rapid.SampledFrom([]int{10, 1000, 11_000, 40_000, 61_000}).Draw(t, "ms")))
		},
		"hold":    func(t *rapid.T) { d.hold = true },
		"release": func(t *rapid.T) { d.release() },
		"takeover": func(t *rapid.T) {
			if rapid.Bool().Draw(t, "all is durable") {
				d.release()
			}
			n := d.successor()
			for _, w := range d.waits {
				if w.lost != nil {
					w.lost(wire.NotCoordinator)
				}
			}
			d.waits = nil
			d.event(func(m *machine) { m.lose(wire.NotCoordinator) })
			d.m, d.log, d.durable, d.waits, d.hold = n.m, n.log, n.durable, nil, false
			epochs, groupEpoch = map[string]int32{}, 0
		},
		"": func(t *rapid.T) {
			weighed(t, d.m)
			g := d.m.groups[testGroup]
			if g == nil || g.consumer == nil {
				epochs, groupEpoch = map[string]int32{}, 0
			} else {
				consumerInvariants(t, g, epochs, &groupEpoch)
				exclusive(t, d, g.consumer, members)
			}
			if !d.hold {
				same(t, d.m, d.successor().m)
			}
		},
	})
	d.release()
	d.event(func(m *machine) { m.lose(wire.NotCoordinator) })
	answered := 0
	for _, b := range members {
		answered += b.answers
	}
	if asked != answered {
		t.Fatalf("%d heartbeats, %d answers", asked, answered)
	}
	d.m.config.MaxTenantBytes = 1 << 40
	// Everybody behaves; the classic member and those that are paused time out. Two join
	// at least, if there is a policy against upgrades once the classic one is gone.
	for _, b := range members {
		if len(b.topics) == 0 {
			b.topics = []string{"a"}
		}
	}
	for range 8 {
		for range 12 {
			behave()
		}
		d.pass(10_000)
	}
	d.pass(4000)
	behave()
	behave()
	behave()
	g := d.m.groups[testGroup]
	if g == nil || g.consumer == nil {
		t.Fatal("there is no consumer group in the end")
	}
	c := g.consumer
	if c.name() != "Stable" {
		t.Fatalf("group is %s in the end", c.name())
	}
	for name, n := range d.topics.topics {
		if !c.subscribedTo(name) {
			continue
		}
		for p := range n {
			if c.owners[idOf(name)][p] == nil {
				t.Fatalf("%s-%d is nobody's in the end", name, p)
			}
		}
	}
	for _, mb := range c.members {
		if !slices.ContainsFunc(members, func(b *beater) bool { return b.id == mb.id }) {
			continue
		}
		b := members[slices.IndexFunc(members, func(b *beater) bool { return b.id == mb.id })]
		for topic, all := range b.owned {
			if !slices.Equal(all, mb.target[topic]) {
				t.Fatalf("%s has %v of its target %v", b.id, b.owned, mb.target)
			}
		}
	}
}

func consumerInvariants(t *rapid.T, g *group, epochs map[string]int32, groupEpoch *int32) {
	c := g.consumer
	if len(g.members) > 0 || len(g.pending) > 0 || g.state != stateEmpty || g.written != nil {
		t.Fatal("a consumer group has something of a classic one")
	}
	if c.epoch < *groupEpoch || c.assigned > c.epoch {
		t.Fatalf("group epoch went from %d to %d, targets are of %d", *groupEpoch, c.epoch, c.assigned)
	}
	*groupEpoch = c.epoch
	owned, targets := map[topicPartition]string{}, map[topicPartition]string{}
	for _, mb := range c.members {
		if mb.epoch >= 0 && mb.epoch < epochs[mb.id] || mb.epoch > c.assigned {
			t.Fatalf("epoch of %s went from %d to %d, targets are of %d", mb.id, epochs[mb.id], mb.epoch, c.assigned)
		}
		epochs[mb.id] = max(mb.epoch, 0)
		for _, h := range []held{mb.assigned, mb.revoking} {
			for topic, all := range h {
				for _, p := range all {
					tp := topicPartition{topic, p.partition}
					if owned[tp] != "" || c.owners[topic][p.partition] != mb || p.epoch > mb.epoch && mb.epoch >= 0 {
						t.Fatalf("%v is assigned to %s and %s", tp, mb.id, owned[tp])
					}
					owned[tp] = mb.id
				}
			}
		}
		for topic, all := range mb.target {
			for _, p := range all {
				if tp := (topicPartition{topic, p}); targets[tp] != "" {
					t.Fatalf("%v is the target of %s and %s", tp, mb.id, targets[tp])
				} else {
					targets[tp] = mb.id
				}
			}
		}
		if (mb.state == memberUnrevoked) != (len(mb.revoking) > 0) && mb.epoch >= 0 {
			t.Fatalf("%s is in state %d and gives up %v", mb.id, mb.state, mb.revoking)
		}
		if mb.session.index < 0 {
			t.Fatalf("session of %s never ends", mb.id)
		}
		if mb.state == memberUnrevoked && mb.classic == nil && mb.epoch >= 0 && mb.rebalance.index < 0 {
			t.Fatalf("%s may hold what it shall give up for ever", mb.id)
		}
	}
	n := 0
	for _, owners := range c.owners {
		n += len(owners)
	}
	if n != len(owned) {
		t.Fatalf("%d partitions have owners, members have %d", n, len(owned))
	}
}

// exclusive looks at what members believe that they have.
func exclusive(t *rapid.T, d *driver, c *consumerGroup, members []*beater) {
	has := map[topicPartition]string{}
	for _, b := range members {
		mb := c.members[b.id]
		if mb == nil || b.epoch == 0 || b.epoch != mb.epoch {
			// It was removed, or is behind: its next heartbeat tells it.
			continue
		}
		for topic, all := range b.owned {
			for _, p := range all {
				tp := topicPartition{topic, p}
				if has[tp] != "" {
					t.Fatalf("%s and %s both have %v", b.id, has[tp], tp)
				}
				has[tp] = b.id
			}
		}
	}
}

// sameConsumer compares what is kept of two consumer groups.
func sameConsumer(t *rapid.T, a, b *consumerGroup) {
	if (a == nil) != (b == nil) {
		t.Fatal("the next owner takes the group for one of the other protocol")
	}
	if a == nil {
		return
	}
	if a.epoch != b.epoch || a.assigned != b.assigned || a.assignedAt != b.assignedAt || a.hash != b.hash || !maps.Equal(a.statics, b.statics) || len(a.members) != len(b.members) {
		t.Fatalf("consumer group is another at the next owner:\n%+v\n%+v", a, b)
	}
	for id, mb := range a.members {
		o := b.members[id]
		if o == nil || !mb.sameIdentity(o) || !mb.target.equal(o.target) || mb.epoch != o.epoch || mb.previous != o.previous || mb.state != o.state ||
			!mb.assigned.equal(o.assigned) || !mb.revoking.equal(o.revoking) {
			t.Fatalf("member is another at the next owner:\n%+v\n%+v", mb, o)
		}
	}
	if len(a.regexes) != len(b.regexes) {
		t.Fatalf("%d expressions, the next owner has %d", len(a.regexes), len(b.regexes))
	}
	for expr, r := range a.regexes {
		if o := b.regexes[expr]; o == nil || !slices.Equal(o.topics, r.topics) {
			t.Fatalf("%s stands for %v, at the next owner for %v", expr, r.topics, o)
		}
	}
}

// TestAssignors checks what both assignors promise, with any members and topics.
func TestAssignors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := rapid.IntRange(0, 5).Draw(t, "topics")
		even := rapid.Bool().Draw(t, "even")
		name := rapid.SampledFrom([]string{assignorUniform, assignorRange}).Draw(t, "assignor")
		s := &assignSpec{partitions: map[catalog.ID]int32{}}
		var ids []catalog.ID
		for i := range topics {
			id := catalog.ID(idOf(fmt.Sprint("t", i)))
			ids = append(ids, id)
			s.partitions[id] = int32(rapid.IntRange(0, 12).Draw(t, "partitions"))
		}
		add := func(id string) {
			m := assignMember{id: id, was: assignment{}}
			for i, topic := range ids {
				if even || rapid.IntRange(0, 2).Draw(t, fmt.Sprint("subscribes ", i)) > 0 {
					m.topics = append(m.topics, topic)
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "static") == 0 {
				m.instance = str("i" + id)
			}
			s.members = append(s.members, m)
		}
		for i := range rapid.IntRange(1, 6).Draw(t, "members") {
			add(fmt.Sprint("m", i))
		}
		for step := range 3 {
			out := assign(name, s)
			again := assign(name, s)
			owner := map[topicPartition]int{}
			subscribers := map[catalog.ID]int{}
			for i := range out {
				for _, topic := range s.members[i].topics {
					subscribers[topic]++
				}
				if !out[i].equal(again[i]) {
					t.Fatal("not deterministic")
				}
				for topic, all := range out[i] {
					if !slices.Contains(s.members[i].topics, topic) || !slices.IsSorted(all) || len(all) == 0 {
						t.Fatalf("%s gets %v of %v", s.members[i].id, all, topic)
					}
					for _, p := range all {
						if o, ok := owner[topicPartition{topic, p}]; ok {
							t.Fatalf("members %d and %d get %v-%d", i, o, topic, p)
						}
						owner[topicPartition{topic, p}] = i
					}
				}
			}
			total, kept := 0, 0
			for topic, n := range s.partitions {
				if subscribers[topic] > 0 {
					total += int(n)
				}
			}
			if len(owner) != total {
				t.Fatalf("%d partitions of %d are assigned", len(owner), total)
			}
			least, most := 1<<30, 0
			for i := range out {
				n := 0
				for topic, all := range out[i] {
					n += len(all)
					for _, p := range s.members[i].was[topic] {
						if slices.Contains(all, p) {
							kept++
						}
					}
				}
				least, most = min(least, n), max(most, n)
			}
			if even && name == assignorUniform && most-least > 1 {
				t.Fatalf("members have from %d to %d", least, most)
			}
			if step == 2 && even && name == assignorUniform {
				// Nothing changed since: nothing may move.
				if kept != total {
					t.Fatalf("%d of %d stayed where they were", kept, total)
				}
			}
			for i := range s.members {
				s.members[i].was = out[i]
			}
			if step == 0 && rapid.Bool().Draw(t, "one goes") && len(s.members) > 1 {
				s.members = s.members[1:]
			}
			if step == 0 && rapid.Bool().Draw(t, "one comes") {
				add("new")
				slices.SortFunc(s.members, func(a, b assignMember) int { return cmp.Compare(a.id, b.id) })
			}
		}
	})
}
