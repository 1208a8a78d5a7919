package controller

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func (f *fleet) stateOf(cluster string) catalog.ClusterState {
	return f.watch.Snapshot().Cluster(cluster).State
}

// create asks for a topic as a client does.
func (f *fleet) create(name string) error {
	_, err := f.admin.CreateTopic(f.ctx, gateway.TopicSpec{Tenant: catalog.DefaultTenant, Name: name, Partitions: 1})
	return err
}

// All clusters are away for a moment, as when the process that holds them is started
// again: they take topics again with nobody's help, and meanwhile it is said what to do.
func TestClustersThatWereAwayAreTakenIntoUseAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	f.gateway(1)
	f.topic("waits", 1, "a", nil)
	all := func(away bool) {
		for _, d := range f.doubles {
			d.set(func() { d.away = away })
		}
	}
	all(true)
	f.until("the failovers", func() bool {
		return f.stateOf("a") == catalog.ClusterFailed && f.stateOf("b") == catalog.ClusterFailed
	})
	err := f.create("none")
	var req *RequestError
	var told *span.RejectedError
	if !errors.As(err, &req) || !strings.Contains(req.Message, "a is down, b is down") {
		t.Errorf("without a cluster: %v", err)
	}
	if !errors.As(err, &told) || told.Code != wire.RequestTimedOut || strings.Contains(told.Detail, "down") {
		t.Errorf("without a cluster, a client is told %+v", told)
	}
	all(false)
	f.until("both are in use again", func() bool {
		return f.stateOf("a") == catalog.ClusterActive && f.stateOf("b") == catalog.ClusterActive
	})
	f.check(f.create("orders"))
}

// A cluster that lost topics is in use again once what they left there is taken in; they
// stay where they went, until a failback.
func TestAClusterThatLostTopicsIsTakenIntoUseAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	topic := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	w := f.writer(topic, 0, 100)
	w.append(3)
	f.gateway(1, w)
	f.doubles["a"].set(func() { f.doubles["a"].away = true })
	f.until("the failover", func() bool {
		return f.stateOf("a") == catalog.ClusterFailed && chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster == "b"
	})
	w.append(1)
	f.doubles["a"].set(func() { f.doubles["a"].away = false })
	f.until("it is in use again", func() bool {
		if f.stateOf("a") == catalog.ClusterFailed {
			return false
		}
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		for _, ch := range s.Chains(topic.ID) {
			if sealedOn(ch, "a", true) {
				t.Errorf("it is %s before its records are taken in: %+v", s.Cluster("a").State, ch)
			}
		}
		return true
	})
	if s, on := f.stateOf("a"), chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster; s != catalog.ClusterActive || on != "b" {
		t.Errorf("the cluster is %s, the topic on %s", s, on)
	}
	back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
	f.check(err)
	if back = f.done(back); back.State != catalog.OpDone || back.Total != 1 {
		t.Errorf("failback: %+v", back)
	}
	w.append(1)
	w.verify()
}

// What an operator has decided stays: a failover by hand lasts until a failback, and a
// drained cluster that was away is drained again.
func TestWhatAnOperatorDecidedStays(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c")
	f.controller()
	f.gateway(1)
	for _, req := range []OpRequest{{Kind: catalog.OpFailover, Cluster: "a", Force: true}, {Kind: catalog.OpDrain, Cluster: "b"}} {
		op, err := f.admin.Submit(f.ctx, req)
		f.check(err)
		if op = f.done(op); op.State != catalog.OpDone {
			t.Fatalf("%+v", op)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		f.doubles[name].set(func() { f.doubles[name].away = true })
	}
	f.until("the failovers", func() bool {
		return f.stateOf("b") == catalog.ClusterFailed && f.stateOf("c") == catalog.ClusterFailed
	})
	for _, name := range []string{"a", "b", "c"} {
		f.doubles[name].set(func() { f.doubles[name].away = false })
	}
	f.until("the returns", func() bool {
		return f.stateOf("b") != catalog.ClusterFailed && f.stateOf("c") == catalog.ClusterActive
	})
	if s := f.stateOf("b"); s != catalog.ClusterDraining {
		t.Errorf("a drained cluster that was away is %s", s)
	}
	if s := f.stateOf("a"); s != catalog.ClusterFailed {
		t.Errorf("a cluster that an operator failed is %s", s)
	}
	f.until("what to do is said", func() bool {
		s := f.watch.Snapshot()
		return strings.Contains(FailedText(s, s.Cluster("a")), "braid failback a") && FailedText(s, s.Cluster("c")) == ""
	})
}

// An operator's word counts for more than the votes', in either order; who is failed already is not taken back sooner
// for being called down once more.
func TestMayRevive(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	term := &term{Controller: New(f.options()), driver: &driver{}}
	for _, step := range []struct {
		state     catalog.ClusterState
		automatic bool
		before    catalog.ClusterState
	}{
		{catalog.ClusterFailed, true, catalog.ClusterActive},
		{catalog.ClusterFailed, true, catalog.ClusterActive},
		{catalog.ClusterFailed, false, ""},
		{catalog.ClusterFailed, true, ""},
		{catalog.ClusterDraining, false, ""},
		{catalog.ClusterFailed, true, catalog.ClusterDraining},
		{catalog.ClusterActive, false, ""},
	} {
		f.check(term.setClusterState(f.ctx, "a", step.state, step.automatic))
		c, err := f.cat.Cluster(f.ctx, "a")
		f.check(err)
		if c.State != step.state || c.Before != step.before {
			t.Fatalf("after %+v: %s, before that %q", step, c.State, c.Before)
		}
	}
}

// A cluster without room is not down: it is left out by placement and keeps its topics.
func TestAFullClusterIsNotDown(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, time.Minute)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(f.ctx)) })
	full := func(cluster string, is bool) {
		t.Helper()
		f.check(f.cat.PutClusterVote(f.ctx, s, catalog.ClusterVote{Cluster: cluster, Up: true, Full: is, Since: time.Now().Add(-time.Minute)}))
		_, err := f.watch.Refresh(f.ctx)
		f.check(err)
	}
	full("a", true)
	if to := place(candidates(f.watch.Snapshot(), f.admin.loads), ""); to != "b" {
		t.Errorf("a topic would be on %q", to)
	}
	full("b", true)
	var req *RequestError
	if err := f.create("none"); !errors.As(err, &req) || !strings.Contains(req.Message, "a is full, b is full") {
		t.Errorf("without room: %v", err)
	}
	full("a", false)
	f.check(f.create("orders"))
}
