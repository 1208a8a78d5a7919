package controller

import (
	"maps"
	"slices"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// The operation that certificates name as the return which revised them can be looked up: it says of which
// cluster and topics it was, and has ended when they are taken in. A second loss is another's.
func TestReturnsAreOperations(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	l := f.loses(strandedReplay)
	f.gateway(1, l.w)
	seen := map[string]bool{}
	for range 2 {
		l.away()
		f.doubles["a"].set(func() { f.doubles["a"].away = false })
		cert := l.of(catalog.OpReturn, func(c catalog.Certificate) bool { return !seen[c.Op] && isFinal(c) })
		seen[cert.Op] = true
		failover := l.of(catalog.OpFailover, func(c catalog.Certificate) bool { return c.Return == cert.Op })
		if !slices.Contains(cert.Failovers, failover.Op) {
			t.Errorf("return of %v, which are not %s", cert.Failovers, failover.Op)
		}
		op, err := f.cat.Op(f.ctx, failover.Return)
		f.check(err)
		if op = f.done(op); op.Kind != catalog.OpReturn || op.State != catalog.OpDone || op.Cluster != "a" || op.Total != 1 || op.Done != 1 ||
			op.Progress != 100 || op.Message != "" || len(op.Topics) != 1 || op.Topics[0].ID != l.topic.ID {
			t.Errorf("%+v", op)
		}
		back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
		f.check(err)
		if back = f.done(back); back.State != catalog.OpDone {
			t.Fatalf("%+v", back)
		}
		l.w.append(3)
		l.strand("a", 997, "later", 1)
	}
}

// waitingReturn has a cluster come back that does not let its records be taken in.
func waitingReturn(t *testing.T) (f *fleet, c *Controller, l *lostAndBack, op catalog.Op) {
	t.Helper()
	f = newFleet(t, "a", "b", "c")
	c = f.controller()
	l = f.loses(strandedReplay)
	f.gateway(1, l.w)
	l.away()
	f.doubles["a"].set(func() { f.doubles["a"].away, f.doubles["a"].revoked = false, true })
	f.until("the return says what it waits for", func() bool {
		ops, err := f.cat.Ops(f.ctx)
		f.check(err)
		i := slices.IndexFunc(ops, func(o catalog.Op) bool { return o.Kind == catalog.OpReturn && o.Message != "" })
		if i >= 0 {
			op = ops[i]
		}
		return i >= 0
	})
	return f, c, l, op
}

// A return that cannot go on says why, is not cancelled, and is taken up by the next leader.
func TestReturnThatWaits(t *testing.T) {
	t.Parallel()
	f, c, l, op := waitingReturn(t)
	if op.State != catalog.OpRunning || op.Done != 0 || op.Total != 1 {
		t.Errorf("%+v", op)
	}
	_, err := f.admin.Cancel(f.ctx, op.ID)
	wantProblem(t, err, Refused, "cluster a came back with")
	c.Close()
	f.doubles["a"].set(func() { f.doubles["a"].revoked = false })
	f.controller()
	if done := f.done(op); done.State != catalog.OpDone || done.Done != 1 || done.Message != "" {
		t.Errorf("%+v", done)
	}
	if cert := l.of(catalog.OpReturn, isFinal); cert.Op != op.ID {
		t.Errorf("the certificate is of %s, want %s", cert.Op, op.ID)
	}
}

// A return whose cluster goes away for good ends when nothing of it is left to take in, also if another
// controller leads by then.
func TestReturnIsForsaken(t *testing.T) {
	t.Parallel()
	for _, other := range []bool{false, true} {
		f, c, l, op := waitingReturn(t)
		f.doubles["a"].set(func() { f.doubles["a"].away = true })
		if other {
			c.Close()
		}
		f.check(f.admin.DeleteTopic(f.ctx, catalog.DefaultTenant, l.topic.ID))
		if other {
			f.controller()
		}
		if done := f.done(op); done.State != catalog.OpDone || done.Message != "" {
			t.Errorf("%+v", done)
		}
	}
}

// A return that can append nothing yet holds up nobody: the topic moves, and fails over, while it waits.
func TestReturnThatWaitsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c")
	f.controller()
	l := f.loses(strandedReplay)
	f.gateway(1, l.w)
	l.away()
	f.doubles["a"].set(func() { f.doubles["a"].away, f.doubles["a"].revoked = false, true })
	f.until("the return waits", func() bool {
		ops, err := f.cat.Ops(f.ctx)
		f.check(err)
		return slices.ContainsFunc(ops, func(o catalog.Op) bool { return o.Kind == catalog.OpReturn && o.Message != "" })
	})
	f.doubles["b"].set(func() { f.doubles["b"].away = true })
	f.until("the other failover", func() bool { return chain.OpenSpan(f.chain(l.topic, 0)).Copies[0].Cluster == "c" })
	l.w.append(2)
	f.doubles["b"].set(func() { f.doubles["b"].away = false })
	f.doubles["a"].set(func() { f.doubles["a"].revoked = false })
	f.until("both returns", func() bool { return l.isBack("a") && l.isBack("b") })
	want := map[string]int{"v": len(l.w.acked), "lonely": 3}
	if got := l.counts(); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
