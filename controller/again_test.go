package controller

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// failovers lists those of a cluster, oldest first.
func (f *fleet) failovers(cluster string) (out []catalog.Op) {
	f.t.Helper()
	ops, err := f.cat.Ops(f.ctx)
	f.check(err)
	for _, op := range ops {
		if op.Kind == catalog.OpFailover && op.Cluster == cluster {
			out = append(out, op)
		}
	}
	return out
}

func (f *fleet) goesAway(cluster string, away bool) {
	f.doubles[cluster].set(func() { f.doubles[cluster].away = away })
}

func (f *fleet) isOn(t catalog.Topic, cluster string) bool {
	f.t.Helper()
	return chain.OpenSpan(f.chain(t, 0)).Copies[0].Cluster == cluster
}

// puts writes a cluster's state, as an operator's command does.
func (f *fleet) puts(cluster string, state catalog.ClusterState) {
	f.t.Helper()
	c, err := f.cat.Cluster(f.ctx, cluster)
	f.check(err)
	c.State = state
	c, err = f.cat.PutCluster(f.ctx, c, catalog.Fence{})
	f.check(err)
	_, err = f.watch.RevisionAtLeast(f.ctx, c.Revision)
	f.check(err)
}

func debugTo(h *heard) func(*Options) {
	return func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(h, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
}

const nothingTakes = "no cluster takes what was left"

// A cluster is lost while no other takes anything. Its topics go on as soon as one does, also a topic that is to go on only
// since then, and no operation tells of the looks in between.
func TestFailoverGoesOnWhenAnotherClusterIsOfUse(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	var said heard
	f.controller(debugTo(&said))
	on := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	later := f.topic("later", 1, "a", nil)
	waits := f.topic("waits", 1, "a", nil)
	f.puts("b", catalog.ClusterDraining)
	w, l := f.writer(on, 0, 100), f.writer(later, 0, 101)
	w.append(3)
	l.append(3)
	f.gateway(1, w, l)
	f.goesAway("a", true)
	f.until("the failover to fail", func() bool {
		ops := f.failovers("a")
		return len(ops) > 0 && ops[0].State == catalog.OpFailed
	})
	f.until("a look in vain", func() bool { return said.has(nothingTakes) })
	f.puts("b", catalog.ClusterActive)
	f.until("the topic to go on", func() bool { return f.isOn(on, "b") })
	w.append(1)
	ops := f.failovers("a")
	if len(ops) != 2 {
		t.Fatalf("%d operations: %+v", len(ops), ops)
	}
	if op := f.done(ops[1]); op.State != catalog.OpDone || !op.Again || !op.Automatic || len(op.Topics) != 1 || op.Topics[0].ID != on.ID {
		t.Errorf("%+v", op)
	}
	f.check(f.admin.SetConfig(f.ctx, later.Tenant, "later", map[string]string{ConfigGuarantee: guaranteeAvailable}))
	f.until("the other to go on", func() bool { return f.isOn(later, "b") })
	l.append(1)
	if !f.isOn(waits, "a") {
		t.Error("an ordered topic was failed over")
	}
	// A failback takes home what any of them took away.
	f.goesAway("a", false)
	f.until("the cluster to be of use again", func() bool { return f.watch.Snapshot().Cluster("a").State == catalog.ClusterActive })
	back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
	f.check(err)
	if back = f.done(back); back.State != catalog.OpDone || back.Total != 2 || !f.isOn(on, "a") || !f.isOn(later, "a") {
		t.Errorf("failback: %+v", back)
	}
	w.verify()
	l.verify()
}

// Both clusters are away for a moment, and one of them comes back: topics of the other go on there.
func TestFailoverGoesOnWhenItsTargetIsWell(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	on := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	w := f.writer(on, 0, 100)
	w.append(3)
	f.gateway(1, w)
	f.goesAway("b", true)
	f.goesAway("a", true)
	f.until("both failovers", func() bool {
		a, b := f.failovers("a"), f.failovers("b")
		return len(a) > 0 && a[0].IsFinished() && len(b) > 0 && b[0].IsFinished()
	})
	if !f.isOn(on, "a") {
		t.Fatal("it went on to a cluster that was away")
	}
	f.goesAway("b", false)
	f.until("the topic to go on", func() bool { return f.isOn(on, "b") })
	w.append(1)
}

// A target that refuses a topic is replaced by another one, within the same operation.
func TestRefusedTargetIsReplaced(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*double){
		"it makes no topic":   func(d *double) { d.unmade = &span.RejectedError{Code: 44, Detail: "a policy"} },
		"it takes no appends": func(d *double) { d.full = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b", "c")
			f.controller()
			on := f.topic("on", 2, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
			f.topic("load", 3, "c", nil) // so that placement chooses b
			w := f.writer(on, 0, 100)
			w.append(3)
			f.gateway(1, w)
			f.doubles["b"].set(func() { spoil(f.doubles["b"]) })
			f.goesAway("a", true)
			f.until("the topic to go on", func() bool { return f.isOn(on, "c") })
			w.append(1)
			if ops := f.failovers("a"); len(ops) != 1 || f.done(ops[0]).State != catalog.OpDone {
				t.Errorf("%+v", ops)
			}
		})
	}
}

// A target that is lost after its failover has begun to seal is replaced as well: there is no way back to a lost cluster.
func TestTargetLostDuringAFailoverIsReplaced(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c")
	on := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	f.topic("load", 3, "c", nil)
	w := f.writer(on, 0, 100)
	w.append(3)
	var once sync.Once
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			if p == FaultSealing {
				once.Do(func() {
					f.goesAway("b", true)
					f.until("the target to be failed", func() bool { return f.watch.Snapshot().Cluster("b").State == catalog.ClusterFailed })
				})
			}
			return nil
		}
	})
	f.gateway(1, w)
	f.goesAway("a", true)
	f.until("the topic to go on", func() bool { return f.isOn(on, "c") })
	w.append(1)
	if ops := f.failovers("a"); len(ops) != 1 || f.done(ops[0]).State != catalog.OpDone {
		t.Errorf("%+v", ops)
	}
}

// A failover of leftovers that is taken up when its cluster is in use again moves nothing, and does not fail the cluster.
func TestFailoverOfLeftoversOfAClusterThatIsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	on := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	op, err := f.cat.CreateOp(f.ctx, catalog.Op{Kind: catalog.OpFailover, Cluster: "a", Automatic: true, Again: true, Total: 1,
		Topics: []catalog.TopicRef{{Tenant: on.Tenant, Name: on.Name, ID: on.ID}}})
	f.check(err)
	f.controller()
	if op = f.done(op); op.State != catalog.OpCancelled || op.Message != "cluster a is active again" {
		t.Errorf("%+v", op)
	}
	if !f.isOn(on, "a") || f.watch.Snapshot().Cluster("a").State != catalog.ClusterActive {
		t.Error("the topic was moved off a cluster that is in use")
	}
}

// A failover that is cancelled is not tried again by itself.
func TestCancelledFailovers(t *testing.T) {
	t.Parallel()
	x, y := catalog.TopicRef{ID: catalog.ID{1}}, catalog.TopicRef{ID: catalog.ID{2}}
	op := func(id, cluster string, again, cancel bool, topics ...catalog.TopicRef) catalog.Op {
		return catalog.Op{ID: id, Kind: catalog.OpFailover, Cluster: cluster, Again: again, Cancel: cancel, Topics: topics}
	}
	for _, tc := range []struct {
		name string
		ops  []catalog.Op
		want string // of x
	}{
		{"none", nil, ""},
		{"cancelled", []catalog.Op{op("1", "a", false, true, x, y)}, "1"},
		{"of another cluster", []catalog.Op{op("1", "b", false, true, x)}, ""},
		{"another topic's was", []catalog.Op{op("1", "a", false, false, x, y), op("2", "a", true, true, y)}, ""},
		{"lost anew since", []catalog.Op{op("1", "a", false, true, x), op("2", "a", false, false, y)}, ""},
		{"left behind, then cancelled", []catalog.Op{op("1", "a", false, false, x), op("2", "a", true, true, x)}, "2"},
	} {
		if got := cancelledFailovers(tc.ops, "a")[x.ID]; got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// With nothing new the pauses grow, the longer when operations fail for long; what is new is tried at once.
func TestPausesBetweenFailovers(t *testing.T) {
	t.Parallel()
	const damping = time.Second
	x := &leftovers{tried: map[catalog.ID]bool{}}
	topics := []*catalog.Topic{{ID: catalog.ID{1}}}
	now := time.Unix(1000, 0)
	tries := func(until time.Duration) (at []time.Duration) {
		for end := now.Add(until); now.Before(end); now = now.Add(damping / 4) {
			if x.looks(now, []string{"b"}, damping) && x.tries(now, topics, damping) {
				at = append(at, now.Sub(time.Unix(1000, 0)))
			}
		}
		return at
	}
	got := tries(12 * time.Minute)
	for i, want := range []time.Duration{0, 1, 3, 7, 15, 27, 39, 51, 63, 75, 87, 111} {
		if got[i] != want*time.Second {
			t.Fatalf("tries at %v", got)
		}
	}
	if last := got[len(got)-1] - got[len(got)-2]; last != againRarely*damping {
		t.Errorf("the longest pause is %v", last)
	}
	topics = append(topics, &catalog.Topic{ID: catalog.ID{2}})
	if !x.looks(now.Add(damping), []string{"b"}, damping) || !x.tries(now.Add(damping), topics, damping) {
		t.Error("a topic that is new is not tried")
	}
	now = now.Add(damping + damping/4)
	if x.looks(now, []string{"b"}, damping) {
		t.Error("looked again at once")
	}
	if !x.looks(now, []string{"b", "c"}, damping) || !x.tries(now, topics, damping) {
		t.Error("a cluster that is new is not tried")
	}
}
