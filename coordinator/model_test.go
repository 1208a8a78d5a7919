package coordinator

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/wire"
)

// TestModel drives a machine with clients that do anything at any time, some of
// it wrong, with a log that is slow now and then, and checks after each step
// what must always hold; at the end, that every request was answered once.
func TestModel(t *testing.T) { rapid.Check(t, model) }

func model(t *rapid.T) {
	config := Config{
		MaxGroupSize:          rapid.SampledFrom([]int{2, 4, 100}).Draw(t, "max size"),
		InitialRebalanceDelay: rapid.SampledFrom([]time.Duration{-1, time.Second, 3 * time.Second}).Draw(t, "delay"),
		OffsetsRetention:      time.Hour,
		MaxTenantBytes:        rapid.SampledFrom([]int64{0, 0, 6 << 10}).Draw(t, "bytes"),
	}
	d := newDriver(nopTB{t: t}, config)
	d.m.held.counted(new(groupCounts))
	asked, answered := 0, 0
	offsets := map[string]int64{} // acknowledged, by topic and partition
	var clients []*modelClient
	for i := range 5 {
		c := d.client("")
		c.session, c.rebalance = 6000+int32(i)*1000, 10_000
		if i < 2 {
			c.instance = str(fmt.Sprint("i", i))
		}
		if i == 4 {
			c.version = 3
		}
		clients = append(clients, &modelClient{client: c})
	}
	one := func(t *rapid.T) *modelClient { return rapid.SampledFrom(clients).Draw(t, "client") }
	t.Repeat(map[string]func(*rapid.T){
		"join": func(t *rapid.T) {
			c := one(t)
			if rapid.IntRange(0, 4).Draw(t, "change") == 0 {
				c.protocols = []protocol{{"range", subscribe(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "topic"))}}
			}
			if rapid.IntRange(0, 4).Draw(t, "forget") == 0 {
				c.id = ""
			}
			asked++
			c.join()
		},
		"cooperate": func(t *rapid.T) {
			// All clients do what clients do, so that stable groups are common.
			for range 3 {
				for _, c := range clients {
					if c.joined == nil && c.joins > 0 {
						continue
					}
					if c.joined != nil && c.joined.code != wire.None && c.joined.code != wire.MemberIDRequired {
						c.id = ""
					}
					if c.joined == nil || c.joined.code != wire.None || c.beat() != wire.None {
						asked++
						c.join()
					}
				}
				d.pass(3000)
			}
			for _, c := range clients {
				if c.joined == nil || c.joined.code != wire.None || c.synced == nil && c.syncs > 0 {
					continue
				}
				all := map[string]string{}
				for _, m := range c.joined.members {
					all[m.MemberID] = fmt.Sprintf("%d/%s", c.generation, m.MemberID)
				}
				asked++
				c.sync(all)
			}
		},
		"sync": func(t *rapid.T) {
			c := one(t)
			asked++
			all := map[string]string{}
			if c.joined != nil && c.joined.leader == c.id {
				for _, m := range c.joined.members {
					all[m.MemberID] = fmt.Sprintf("%d/%s", c.generation, m.MemberID)
				}
			}
			c.sync(all)
		},
		"beat":  func(t *rapid.T) { one(t).beat() },
		"leave": func(t *rapid.T) { one(t).leave() },
		"commit": func(t *rapid.T) {
			c := one(t)
			p := int32(rapid.IntRange(0, 3).Draw(t, "partition"))
			o := int64(rapid.IntRange(0, 1000).Draw(t, "offset"))
			if code := c.commit("a", p, o); code != nil && *code == wire.None {
				offsets[fmt.Sprint("a", p)] = o
			} else if code == nil {
				delete(offsets, fmt.Sprint("a", p)) // may or may not be there
			}
		},
		"pass":    func(t *rapid.T) { d.pass(int64(rapid.SampledFrom([]int{10, 1000, 3000, 7000, 20_000}).Draw(t, "ms"))) },
		"hold":    func(t *rapid.T) { d.hold = true },
		"release": func(t *rapid.T) { d.release() },
		"takeover": func(t *rapid.T) {
			// Whatever was not in the log is lost, with the answers that waited for it.
			d.release()
			n := d.successor()
			d.event(func(m *machine) { m.lose(wire.NotCoordinator) })
			d.m, d.log, d.durable, d.waits = n.m, n.log, n.durable, nil
		},
		"": func(t *rapid.T) {
			invariants(t, d)
			weighed(t, d.m)
			for key, want := range offsets {
				if got := d.offset(testGroup, "a", int32(key[1]-'0')); got != want && !d.hold {
					t.Fatalf("offset of %s is %d, acknowledged %d", key, got, want)
				}
			}
			for _, c := range clients {
				if c.synced != nil && c.synced.code == wire.None && len(c.synced.assignment) > 0 {
					var generation int32
					var id string
					if n, err := fmt.Sscanf(string(c.synced.assignment), "%d/%s", &generation, &id); n != 2 || err != nil {
						t.Fatalf("assignment %q", c.synced.assignment)
					}
				}
			}
		},
	})
	d.release()
	d.event(func(m *machine) { m.lose(wire.NotCoordinator) })
	for _, c := range clients {
		answered += c.joins + c.syncs
	}
	if asked != answered {
		t.Fatalf("%d requests, %d answers", asked, answered)
	}
}

type modelClient struct{ *client }

// nopTB lets a driver be used in rapid's checks.
type nopTB struct {
	testing.TB
	t *rapid.T
}

func (n nopTB) Helper()                      { n.t.Helper() }
func (n nopTB) Fatal(args ...any)            { n.t.Fatal(args...) }
func (n nopTB) Fatalf(f string, args ...any) { n.t.Fatalf(f, args...) }

func invariants(t *rapid.T, d *driver) {
	for _, g := range d.m.groups {
		joining := 0
		support := map[string]int{}
		for _, mb := range g.order {
			if g.members[mb.id] != mb {
				t.Fatalf("member %s is in the order only", mb.id)
			}
			if mb.join != nil {
				joining++
			}
			for _, p := range mb.protocols {
				support[p.name]++
			}
			if mb.instance != nil && g.statics[*mb.instance] != mb.id {
				t.Fatalf("instance %s is %s, not %s", *mb.instance, g.statics[*mb.instance], mb.id)
			}
			if mb.session.index < 0 && !(mb.join != nil || mb.sync != nil) {
				t.Fatalf("session of %s never ends", mb.id)
			}
			if mb.join != nil && g.state != statePreparing && mb.isNew {
				t.Fatalf("JoinGroup of %s is parked in state %v", mb.id, g.state)
			}
			if mb.sync != nil && g.state != stateCompleting {
				t.Fatalf("SyncGroup of %s is parked in state %v", mb.id, g.state)
			}
		}
		if len(g.members) != len(g.order) || joining != g.joining || !maps.Equal(support, g.support) {
			t.Fatalf("%d members, %d in order; %d joining, counted %d; support %v, counted %v",
				len(g.members), len(g.order), g.joining, joining, g.support, support)
		}
		if (g.leader == "") != (len(g.members) == 0) || g.leader != "" && g.members[g.leader] == nil {
			t.Fatalf("leader %q of %d members", g.leader, len(g.members))
		}
		if g.state == stateEmpty && len(g.members) > 0 {
			t.Fatal("empty group with members")
		}
		if g.state == statePreparing && g.joinTimer.index < 0 {
			t.Fatal("the join phase never ends")
		}
		if g.state == stateCompleting && g.syncTimer.index < 0 && len(g.syncing) > 0 {
			t.Fatal("the sync phase never ends")
		}
	}
	if d.hold {
		return
	}
	same(t, d.m, d.successor().m)
}

// same compares what is kept of two machines.
func same(t *rapid.T, a, b *machine) {
	if len(a.groups) != len(b.groups) {
		t.Fatalf("%d groups, the next owner has %d", len(a.groups), len(b.groups))
	}
	for key, g := range a.groups {
		h := b.groups[key]
		if h == nil {
			t.Fatalf("the next owner has no group %v", key)
		}
		sameConsumer(t, g.consumer, h.consumer)
		if !slices.Equal(g.written, h.written) {
			t.Fatalf("group records differ")
		}
		if len(g.offsets) != len(h.offsets) {
			t.Fatalf("offsets of %d topics, the next owner has %d", len(g.offsets), len(h.offsets))
		}
		for name, store := range g.offsets {
			if o := h.offsets[name]; o == nil || o.id != store.id || !reflect.DeepEqual(o.partitions, store.partitions) {
				t.Fatalf("offsets in %s differ", name)
			}
		}
		if g.state == stateStable {
			if h.state != stateStable || g.generation != h.generation || g.leader != h.leader || *g.protocol != *h.protocol ||
				len(g.members) != len(h.members) || !maps.Equal(g.statics, h.statics) || !maps.Equal(g.support, h.support) {
				t.Fatalf("stable group is another at the next owner:\n%+v\n%+v", g, h)
			}
			for id, mb := range g.members {
				o := h.members[id]
				if o == nil || string(o.assignment) != string(mb.assignment) || !o.offers(mb.protocols) {
					t.Fatalf("member %s of a stable group is another at the next owner", id)
				}
			}
		}
	}
}
