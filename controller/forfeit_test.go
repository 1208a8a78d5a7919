package controller

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// moved is a topic that has moved from a to b: 12 records lie in a sealed span on a, one more on b.
func (f *fleet) moved(name string, config map[string]string) *lostAndBack {
	f.t.Helper()
	topic := f.topic(name, 1, "a", config)
	l := &lostAndBack{fleet: f, topic: topic, w: f.writer(topic, 0, 100)}
	f.gateway(1, l.w)
	for range 12 {
		l.w.append(1)
	}
	if op := f.done(f.move("b", name)); op.State != catalog.OpDone {
		f.t.Fatal(op)
	}
	l.w.append(1)
	return l
}

func (l *lostAndBack) isLost() bool { return l.chain(l.topic, 0).Spans[0].Copies[0].Gone }

func repairs(ops []catalog.Op) []catalog.Op {
	return slices.DeleteFunc(ops, func(o catalog.Op) bool { return o.Kind != catalog.OpRepair })
}

// The physical topic of a sealed span that is deleted behind the fleet's back is lost, whatever the topic's guarantee: readers
// go on behind it, a repair says what is lost and who had not read it, and nothing is kept for it any more.
func TestSealedCopyThatIsGone(t *testing.T) {
	t.Parallel()
	for _, config := range []map[string]string{
		{ConfigGuarantee: guaranteeAvailable, "retention.ms": "-1"}, {ConfigGuarantee: guaranteeOrdered, "cleanup.policy": "compact"},
	} {
		f := newFleet(t, "a", "b", "c")
		groups := &groupsDouble{at: map[string]int64{"behind": 4, "abreast": 12}}
		f.controller(func(o *Options) { o.Standings = groups.standings })
		l := f.moved("on", config)
		if !holdsTombstones([]*catalog.Chain{f.chain(l.topic, 0)}, map[string]string{"cleanup.policy": "compact"}) {
			t.Error("tombstones are not held while an older span is there")
		}
		f.empty("a")
		f.until("the span to be given up", l.isLost)
		cert := l.of(catalog.OpRepair, isFinal)
		p := cert.Partitions[0]
		if p.Verdict != catalog.VerdictViolated || p.Lost != 12 || !hasLost(&p, 0, 12) || p.Start != 12 || cert.From != "a" {
			t.Errorf("%v: %+v", config, cert)
		}
		if got, want := groupsText(p.Groups), "behind lost at 4 [4,12) 8"; got != want {
			t.Errorf("%v: groups: %s, want %s", config, got, want)
		}
		op, err := f.cat.Op(f.ctx, cert.Op)
		f.check(err)
		if op.State != catalog.OpDone || op.Kind != catalog.OpRepair || !strings.Contains(op.Message, "12 records") || len(op.Topics) != 1 {
			t.Errorf("%v: %+v", config, op)
		}
		if got := l.counts(); got["v"] != 1 {
			t.Errorf("%v: readers get %v", config, got)
		}
		ch := f.chain(l.topic, 0)
		if place, err := chain.Locate(ch, 0); err != nil || place.Offset != 12 {
			t.Errorf("%v: readers go on at %+v, %v", config, place, err)
		}
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		if lost := Lost(s); len(lost) != 1 || !slices.Equal(lost["a"], []string{"on"}) {
			t.Errorf("%v: status tells of %v", config, lost)
		}
		if text := LostText("a", []string{"on"}); !strings.HasPrefix(text, "1 topic has lost records, for cluster a has their physical topics no more (on): ") {
			t.Errorf("%v: %s", config, text)
		}
		if text := LostText("a", []string{"__braid_coordinator"}); !strings.HasPrefix(text, "Cluster a has physical topics of Braid's own no more (__braid_coordinator): ") || strings.Contains(text, "describe") {
			t.Errorf("%v: %s", config, text)
		}
		if holdsTombstones([]*catalog.Chain{ch}, map[string]string{"cleanup.policy": "compact"}) {
			t.Errorf("%v: tombstones are held for a span that is gone", config)
		}
		if kept, err := f.admin.Kept(f.ctx, "a"); err != nil || len(kept) != 0 {
			t.Errorf("%v: kept on the cluster: %+v, %v", config, kept, err)
		}
		if op := f.done(f.move("c", "on")); op.State != catalog.OpDone {
			t.Errorf("%v: %+v", config, op)
		}
		f.until("the extend to end", func() bool { return f.watch.Snapshot().Extend(l.topic.ID) == nil })
		f.check(f.admin.RemoveCluster(f.ctx, "a"))
	}
}

// What a broker does not list, and says once not to have, or a cluster that is away, loses nothing.
func TestSealedCopyThatIsNotHeardOf(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	l := f.moved("on", map[string]string{"retention.ms": "-1"})
	a := f.doubles["a"]
	looks := func(n int) {
		f.t.Helper()
		was := 0
		a.set(func() { was = a.lists })
		f.until("more looks", func() bool {
			now := 0
			a.set(func() { now = a.lists })
			return now >= was+n || l.isLost()
		})
		if l.isLost() {
			t.Fatal("it is given up for lost")
		}
	}
	a.set(func() { a.hides = true })
	looks(6) // a broker that lags, whose controller has it
	asked, gone := 0, true
	a.set(func() {
		a.probed = func() error { // told once only, each time
			asked++
			if gone = !gone; gone {
				return span.ErrGone
			}
			return nil
		}
	})
	looks(8)
	a.set(func() {
		if asked < 4 {
			t.Errorf("it was asked %d times", asked)
		}
		a.probed = func() error { return span.ErrUnavailable }
	})
	looks(6)
	ops, err := f.cat.Ops(f.ctx)
	f.check(err)
	if r := repairs(ops); len(r) > 0 {
		t.Errorf("%+v", r)
	}
	if got := l.counts(); got["v"] != 13 {
		t.Errorf("readers get %v", got)
	}
}

// A controller that ends between the chains and the certificate of what is given up is followed by one that
// ends it, and says it once.
func TestForfeitIsTakenUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	var once sync.Once
	f.controller(func(o *Options) {
		o.Fault = func(p string) (err error) {
			if p == FaultRestored {
				once.Do(func() { err = errCrashed })
			}
			return err
		}
	})
	l := f.moved("on", map[string]string{"retention.ms": "-1"})
	f.empty("a")
	f.controller(func(o *Options) { o.Name = "next" })
	cert := l.of(catalog.OpRepair, isFinal)
	if p := cert.Partitions[0]; p.Lost != 12 || !l.isLost() {
		t.Errorf("%+v", cert)
	}
	ops, err := f.cat.Ops(f.ctx)
	f.check(err)
	if r := repairs(ops); len(r) != 1 || r[0].ID != cert.Op || !r[0].IsFinished() {
		t.Errorf("%+v", r)
	}
}

// Who plans something is told what is gone before it is found by itself.
func TestPlansTellWhatIsGone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c")
	c := f.controller()
	f.moved("old", map[string]string{"retention.ms": "-1"})
	c.Close() // nobody finds it
	f.topic("open", 1, "a", nil)
	f.topic("well", 1, "b", nil)
	topics := maps.Clone(f.doubles["a"].topics)
	f.empty("a")
	plan := func(req OpRequest) Plan {
		f.t.Helper()
		p, err := f.admin.Plan(f.ctx, req)
		f.check(err)
		return p
	}
	const both = "2 topics have lost records whatever is done: cluster a answers, and has physical topics no more that they were on (old, open)"
	p := plan(OpRequest{Kind: catalog.OpMove, Topics: []string{"open", "old", "well"}, To: "c"})
	if !slices.Contains(p.Costs, both) || !strings.Contains(p.Refused, "topic open: its physical topic on cluster a is gone") {
		t.Errorf("move: %+v", p)
	}
	for _, kind := range []catalog.OpKind{catalog.OpDrain, catalog.OpFailover} {
		p := plan(OpRequest{Kind: kind, Cluster: "a", Force: true})
		if !slices.Contains(p.Costs, both) || len(p.Moves) != 1 || p.Moves[0].Note != "what its physical topic on cluster a held is lost: it is gone" {
			t.Errorf("%s: %+v", kind, p)
		}
	}
	f.doubles["a"].set(func() { f.doubles["a"].topics, f.doubles["a"].hides = topics, true })
	for _, kind := range []catalog.OpKind{catalog.OpDrain, catalog.OpFailover} {
		if p := plan(OpRequest{Kind: kind, Cluster: "a", Force: true}); slices.ContainsFunc(p.Costs, func(s string) bool { return strings.Contains(s, "lost records") }) {
			t.Errorf("%s, of what one broker does not list: %+v", kind, p)
		}
	}
}

// What clients look for by Kafka's name, and nobody writes to, keeps nobody waiting.
func TestOffsetsTopicKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.topic("__consumer_offsets", 1, "a", map[string]string{"cleanup.policy": "compact"})
	f.topic("orders", 1, "a", nil)
	for _, force := range []bool{false, true} {
		p, err := f.admin.Plan(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", Force: force})
		f.check(err)
		if text := strings.Join(p.Costs, "\n"); strings.Contains(text, "2 topics") || strings.Contains(text, "__consumer_offsets") || !strings.Contains(text, "1 topic with braid.guarantee=ordered") {
			t.Errorf("force %v: %s", force, text)
		}
		if !slices.ContainsFunc(p.Moves, func(m PlannedMove) bool { return m.Topic.Name == "__consumer_offsets" }) {
			t.Errorf("force %v: it is not taken along: %+v", force, p.Moves)
		}
	}
}
