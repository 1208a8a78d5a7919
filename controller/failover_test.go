package controller

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// gateway registers one, lets it vote, and acknowledges fences for its writers.
func (f *fleet) gateway(node int32, writers ...*writer) (silence func()) {
	f.t.Helper()
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: node}, 2*time.Second)
	for err != nil && f.ctx.Err() == nil { // a busy machine lets the lease run out before it is used
		s, err = f.cat.Register(f.ctx, catalog.Gateway{Node: node}, 2*time.Second)
	}
	f.check(err)
	ctx, cancel := context.WithCancel(f.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		acked := map[string]bool{}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for e := range f.watch.Snapshot().Extends() {
				if e.Mode != catalog.ModeFence || e.Step != catalog.StepSeal || acked[e.Op+e.Topic.ID.String()] {
					continue
				}
				a := catalog.HoldAck{Node: node, At: time.Now(), Next: slices.Repeat([]int64{-1}, int(e.New.Partitions))}
				for _, w := range writers {
					w.mu.Lock()
					if w.topic.ID == e.Topic.ID {
						a.Next[w.p] = w.report.Next
						if w.account != nil {
							a.Accounts = append(a.Accounts, *w.account)
						}
					}
					w.mu.Unlock()
				}
				if f.cat.PutHoldAck(ctx, e.Topic.ID, e.Op, a) == nil {
					acked[e.Op+e.Topic.ID.String()] = true
				}
			}
		}
	})
	voting, stop := context.WithCancel(f.ctx)
	var voter sync.WaitGroup
	voter.Go(func() { f.vote(voting, s) })
	var once sync.Once
	silence = func() {
		once.Do(func() {
			cancel()
			wg.Wait()
		})
	}
	f.t.Cleanup(func() {
		silence()
		stop()
		voter.Wait()
		f.check(s.Close(context.Background()))
	})
	return silence
}

// vote publishes an opinion on each cluster whenever it changes, and all of them anew
// when the lease did: votes go with it.
func (f *fleet) vote(ctx context.Context, s *catalog.Session) {
	up := map[string]bool{}
	lease := s.Lease()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if now := s.Lease(); now != lease {
			lease = now
			clear(up)
		}
		for name, d := range f.doubles {
			_, err := d.Health(ctx)
			was, voted := up[name]
			if voted && was == (err == nil) {
				continue
			}
			if f.cat.PutClusterVote(ctx, s, catalog.ClusterVote{Cluster: name, Up: err == nil, Since: time.Now()}) == nil {
				up[name] = err == nil
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// A cluster is gone: topics that prefer to go on do so elsewhere at once, the
// others wait. When it is back, what nobody had seen of it is taken in again.
func TestFailoverAndReturn(t *testing.T) {
	t.Parallel()
	for _, stranded := range []string{strandedReplay, strandedInPlace} {
		t.Run(stranded, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			f.controller()
			on := f.topic("on", 2, "a", map[string]string{ConfigGuarantee: guaranteeAvailable, ConfigStranded: stranded})
			waits := f.topic("waits", 1, "a", nil)
			w, idle, other := f.writer(on, 0, 100), f.writer(on, 1, 101), f.writer(waits, 0, 102)
			w.append(5)
			other.append(5)
			f.gateway(1, w, idle, other)

			// Two batches land of which the gateway never hears: one the producer will
			// retry, one whose producer is gone.
			sp := chain.OpenSpan(f.chain(on, 0))
			h := &doubleHandle{d: f.doubles["a"], topic: topicOf(sp), partition: 0}
			now := time.Now()
			f.doubles["a"].set(func() {
				for _, b := range [][]byte{oneBatch(100, 0, 5, 2, now, "v"), oneBatch(999, 0, 0, 3, now, "lonely")} {
					if _, err := h.append(b); err != nil {
						t.Error(err)
					}
				}
				f.doubles["a"].away = true
			})
			f.until("the failover", func() bool {
				return f.watch.Snapshot().Cluster("a").State == catalog.ClusterFailed && chain.OpenSpan(f.chain(on, 0)).Copies[0].Cluster == "b"
			})
			w.append(2) // the retry, and on
			w.append(1)
			idle.append(1)
			ch := f.chain(on, 0)
			if old := &ch.Spans[0]; !old.Hole || old.End != 5 || !old.Copies[0].Unreadable || ch.Spans[1].Start != 5+chain.UnknownRoom {
				t.Errorf("chain after the failover: %+v", ch)
			}
			if open := chain.OpenSpan(f.chain(waits, 0)); open.Copies[0].Cluster != "a" {
				t.Error("an ordered topic was failed over")
			}
			var op catalog.Op
			f.until("the end of the failover", func() bool {
				ops, err := f.cat.Ops(f.ctx)
				f.check(err)
				for _, o := range ops {
					if o.Kind == catalog.OpFailover && o.IsFinished() {
						op = o
					}
				}
				return op.ID != ""
			})
			if op.State != catalog.OpDone || op.Total != 1 {
				t.Errorf("operation: %+v", op)
			}
			cert := f.certificate(on, op.ID)
			if p := cert.Partitions[0]; cert.Mode != catalog.ModeLossy || p.Verdict != catalog.VerdictUnverified || len(p.Ranges) != 2 {
				t.Errorf("certificate: %+v", cert)
			}

			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			f.until("the return", func() bool {
				return !sealedOn(f.chain(on, 0), "a", true) && f.watch.Snapshot().Extend(on.ID) == nil
			})
			have := f.records(on, 0)
			lonely := 0
			for at, v := range have {
				if len(v) > 6 && v[:6] == "lonely" {
					lonely++
					if stranded == strandedReplay && at < 5+chain.UnknownRoom {
						t.Errorf("%s is at %d", v, at)
					}
				}
			}
			if lonely != 3 {
				t.Errorf("%d stranded records are in the chain, want 3", lonely)
			}
			if want := len(w.acked) + 3; len(have) != want {
				t.Errorf("%d records, want %d: %v", len(have), want, have)
			}
			for at, v := range w.acked {
				if have[at] != v {
					t.Errorf("offset %d: acknowledged %q, read %q", at, v, have[at])
				}
			}
			other.append(1)
			other.verify()

			back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
			f.check(err)
			if back = f.done(back); back.State != catalog.OpDone || back.Total != 1 {
				t.Errorf("failback: %+v", back)
			}
			if open := chain.OpenSpan(f.chain(on, 0)); open.Copies[0].Cluster != "a" || f.watch.Snapshot().Cluster("a").State != catalog.ClusterActive {
				t.Errorf("after the failback: %+v", open)
			}
		})
	}
}

// Between what was acknowledged lies what no gateway accounts for: it is left out,
// and taken in when the cluster is back, less what was appended again.
func TestWhatWasLeftOutIsTakenIn(t *testing.T) {
	t.Parallel()
	for _, stranded := range []string{strandedReplay, strandedInPlace} {
		t.Run(stranded, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			f.controller()
			topic := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable, ConfigStranded: stranded})
			w, other := f.writer(topic, 0, 100), f.writer(topic, 0, 200)
			w.append(2)
			h := &doubleHandle{d: f.doubles["a"], topic: topicOf(chain.OpenSpan(f.chain(topic, 0)))}
			f.doubles["a"].set(func() {
				for _, b := range [][]byte{oneBatch(100, 0, 2, 1, time.Now(), "v"), oneBatch(999, 0, 0, 3, time.Now(), "lonely")} {
					if _, err := h.append(b); err != nil {
						t.Error(err)
					}
				}
			})
			other.append(1)
			w.account = &catalog.Account{Doubt: 2, Batches: []catalog.KnownBatch{{From: 6, To: 7, Producer: 200, Acked: true}}}
			f.gateway(1, w, other)
			f.doubles["a"].set(func() { f.doubles["a"].away = true })
			f.until("the failover", func() bool { return chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster == "b" })
			if old := &f.chain(topic, 0).Spans[0]; old.End != 7 || !slices.Equal(old.Copies[0].Skip, []catalog.Gap{{From: 2, To: 6}}) {
				t.Errorf("after the failover: %+v", old)
			}
			w.append(1) // the retry
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			f.until("the return", func() bool {
				return !sealedOn(f.chain(topic, 0), "a", true) && f.watch.Snapshot().Extend(topic.ID) == nil
			})
			have := f.records(topic, 0)
			if len(have) != 7 {
				t.Errorf("%d records, want 7: %v", len(have), have)
			}
			if in := have[3]; (in == "lonely-0") != (stranded == strandedInPlace) {
				t.Errorf("at 3: %q", in)
			}
			for _, x := range []*writer{w, other} {
				for at, v := range x.acked {
					if have[at] != v {
						t.Errorf("offset %d: acknowledged %q, read %q", at, v, have[at])
					}
				}
			}
		})
	}
}

// A failover of a cluster that can be reached after all seals it, and loses nothing.
func TestFailoverOfAReachableClusterSeals(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller(reported)
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(5)
	p, err := f.admin.Plan(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a"})
	f.check(err)
	if len(p.Moves) != 0 || len(p.Costs) != 1 {
		t.Errorf("plan without force: %+v", p)
	}
	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", Force: true})
	f.check(err)
	w.through()
	if op = f.done(op); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	w.verify()
	if cert := f.certificate(topic, op.ID); cert.Mode != catalog.ModeSeal || cert.Partitions[0].Verdict != catalog.VerdictVerified {
		t.Errorf("certificate: %+v", cert)
	}
}

// A cluster that the controller alone does not reach is failed over by force: no gateway calls
// it down at any time, and what was left there comes back all the same once it is reached.
func TestReturnOfAClusterThatNobodyCalledDown(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1, Started: time.Now()}, patience)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	f.check(f.cat.PutClusterVote(f.ctx, s, catalog.ClusterVote{Cluster: "a", Up: true, Since: time.Now().Add(-time.Minute)}))
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(3)
	f.controller()
	// It has looked at the cluster when it was well.
	f.until("a move", func() bool { return f.done(f.move("b", "orders")).State == catalog.OpDone })
	f.until("a move back", func() bool { return f.done(f.move("a", "orders")).State == catalog.OpDone })
	w.append(3)
	f.doubles["a"].set(func() { f.doubles["a"].away = true })
	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", Force: true})
	f.check(err)
	if op = f.done(op); op.State != catalog.OpDone || !sealedOn(f.chain(topic, 0), "a", true) {
		t.Fatalf("%+v, %+v", op, f.chain(topic, 0))
	}
	w.append(1)
	f.doubles["a"].set(func() { f.doubles["a"].away = false })
	f.until("the return", func() bool { return !sealedOn(f.chain(topic, 0), "a", true) })
	w.verify()
}

// A cluster that comes back with less than was acknowledged on it: the certificate says
// so, and readers pass over what is not there instead of waiting for it.
func TestReturnOfAShorterLog(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	topic := f.topic("short", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	w := f.writer(topic, 0, 100)
	for range 5 {
		w.append(1)
	}
	f.gateway(1, w)
	f.doubles["a"].set(func() { f.doubles["a"].away = true })
	f.until("the failover", func() bool { return chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster == "b" })
	w.append(1)
	f.doubles["a"].set(func() {
		l := f.doubles["a"].topics[f.chain(topic, 0).Spans[0].Copies[0].Topic].parts[0]
		l.batches, l.end = l.batches[:2], 2
		f.doubles["a"].away = false
	})
	f.until("the return", func() bool {
		return !sealedOn(f.chain(topic, 0), "a", true) && f.watch.Snapshot().Extend(topic.ID) == nil
	})
	sp := &f.chain(topic, 0).Spans[0]
	if want := []catalog.Gap{{From: 2, To: 5}}; sp.End != 5 || !slices.Equal(sp.Copies[0].Skip, want) {
		t.Errorf("the span is %+v, want %v left out", sp, want)
	}
	lost := int64(0)
	list, err := f.cat.Certificates(f.ctx, topic.ID)
	f.check(err)
	for _, c := range list {
		if c.Kind == catalog.OpReturn {
			lost += c.Partitions[0].Lost
		}
	}
	if lost != 3 {
		t.Errorf("the certificate says that %d are lost, want 3", lost)
	}
}

func TestLeaveOutFrom(t *testing.T) {
	t.Parallel()
	gap := func(from, to int64) catalog.Gap { return catalog.Gap{From: from, To: to} }
	full := make([]catalog.Gap, chain.MaxSkips)
	for i := range full {
		full[i] = gap(int64(3*i), int64(3*i+2))
	}
	for _, tc := range []struct {
		skip []catalog.Gap
		from int64
		want []catalog.Gap
	}{
		{nil, 200, []catalog.Gap{gap(200, 500)}},
		{[]catalog.Gap{gap(10, 20), gap(100, 199)}, 200, []catalog.Gap{gap(10, 20), gap(100, 199), gap(200, 500)}},
		{[]catalog.Gap{gap(10, 20), gap(100, 200)}, 200, []catalog.Gap{gap(10, 20), gap(100, 500)}},
		{[]catalog.Gap{gap(10, 20), gap(150, 250), gap(300, 310)}, 200, []catalog.Gap{gap(10, 20), gap(150, 500)}},
		{full, 300, append(slices.Clone(full[:chain.MaxSkips-1]), gap(3*(chain.MaxSkips-1), 500))},
	} {
		if got := leaveOutFrom(tc.skip, tc.from, 500); !slices.Equal(got, tc.want) {
			t.Errorf("%v from %d: %v, want %v", tc.skip, tc.from, got, tc.want)
		}
	}
}

// A cluster that grants no seal is fenced: the extend waits for every live
// gateway's word, and takes the lease of one that is silent.
func TestFence(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.grantsNoSeal("a")
	topic := f.topic("orders", 1, "a", nil)
	var words []catalog.HoldAck
	c := f.controller(func(o *Options) {
		o.Fault = func(p string) (err error) {
			if p == FaultSealed {
				words, err = f.cat.HoldAcks(f.ctx, topic.ID, f.watch.Snapshot().Extend(topic.ID).Op)
			}
			return err
		}
	})
	w := f.writer(topic, 0, 100)
	w.append(5)
	f.gateway(1, w)
	silence := f.gateway(2)
	silence()
	op := f.done(f.move("b", "orders"))
	if op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	cert := f.certificate(topic, op.ID)
	if cert.Mode != catalog.ModeFence {
		t.Errorf("mode %s", cert.Mode)
	}
	if len(words) != 1 || words[0].Node != 1 {
		t.Errorf("words: %+v", words)
	}
	w.append(1)
	w.verify()
	if !c.Leading() {
		t.Error("not leading")
	}
}

// A lease that another extend took, or a controller before this one, is waited out
// too: its holder, which is absent, may not have stopped yet.
func TestFenceWaitsForALeaseThatWasTaken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.grantsNoSeal("a")
	topic := f.topic("orders", 1, "a", nil)
	f.controller()
	w := f.writer(topic, 0, 100)
	w.append(5)
	f.gateway(1, w)
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 2}, 2*time.Second)
	f.check(err)
	all, err := f.cat.Gateways(f.ctx)
	f.check(err)
	began := time.Now()
	for _, g := range all {
		if g.Node == 2 {
			f.check(f.cat.RevokeGateway(f.ctx, g, catalog.Fence{}))
		}
	}
	f.check(s.Close(f.ctx)) // it does not come back
	if op := f.done(f.move("b", "orders")); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	if d := time.Since(began); d < catalog.FenceWait(s.TTL()) {
		t.Errorf("the fence held %v after the lease was taken, its holder may go on for %v", d, catalog.FenceWait(s.TTL()))
	}
	if left, err := f.cat.RevokedLeases(f.ctx); err != nil || len(left) != 0 {
		t.Errorf("left on record: %+v, %v", left, err)
	}
	w.append(1)
	w.verify()
}

// Behind a fence an append that its gateway has given up on may land after the end
// was read: then the end is read again.
func TestFenceReadsTheEndAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.grantsNoSeal("a")
	topic := f.topic("orders", 1, "a", nil)
	var late sync.Once
	h := &doubleHandle{d: f.doubles["a"], topic: topicOf(chain.OpenSpan(f.chain(topic, 0))), partition: 0}
	f.controller(func(o *Options) {
		o.Fault = func(p string) (err error) {
			if p == FaultSealed {
				late.Do(func() {
					f.doubles["a"].set(func() { _, err = h.append(oneBatch(100, 0, 5, 1, time.Now(), "late")) })
				})
			}
			return err
		}
	})
	w := f.writer(topic, 0, 100)
	w.append(5)
	f.gateway(1, w)
	op := f.done(f.move("b", "orders"))
	if op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	if cert := f.certificate(topic, op.ID); cert.Partitions[0].End != 6 {
		t.Errorf("certificate: %+v", cert)
	}
}

// TestOldVotesWait: who begins to lead judges no cluster by what gateways said of it before. The cluster may have been
// away with the very process that leads now.
func TestOldVotesWait(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, time.Minute)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	f.check(f.cat.PutClusterVote(f.ctx, s, catalog.ClusterVote{Cluster: "a", Since: time.Now().Add(-time.Hour)}))
	f.controller(func(o *Options) { o.Damping = 10 * time.Minute })
	f.topic("orders", 1, "b", nil)
	if op := f.done(f.move("b", "orders")); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	c, err := f.cat.Cluster(f.ctx, "a")
	f.check(err)
	ops, err := f.cat.Ops(f.ctx)
	f.check(err)
	if c.State == catalog.ClusterFailed || slices.ContainsFunc(ops, func(o catalog.Op) bool { return o.Kind == catalog.OpFailover }) {
		t.Errorf("cluster is %s: %+v", c.State, ops)
	}
}

func TestDetectionNeedsMostGateways(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	vote := func(up bool, ago time.Duration) opinion { return opinion{up, now.Add(-ago)} }
	for _, tc := range []struct {
		name   string
		votes  []opinion
		live   int
		failed bool
		up     bool
	}{
		{"nobody votes", nil, 3, false, false},
		{"one of one", []opinion{vote(false, 4*time.Second)}, 1, true, false},
		{"too early", []opinion{vote(false, 2*time.Second)}, 1, false, false},
		{"one of two", []opinion{vote(false, time.Minute), vote(true, time.Minute)}, 2, false, false},
		{"two of three", []opinion{vote(false, time.Minute), vote(true, time.Minute), vote(false, time.Minute)}, 3, true, false},
		{"two of three, one just now", []opinion{vote(false, time.Minute), vote(true, time.Minute), vote(false, time.Second)}, 3, false, false},
		{"one serves it, four are live", []opinion{vote(false, time.Minute)}, 4, false, false},
		{"all up", []opinion{vote(true, time.Minute), vote(true, time.Second)}, 2, false, true},
		{"just up", []opinion{vote(true, time.Second)}, 1, false, false},
	} {
		if got := failed(tc.votes, tc.live, now, 3*time.Second); got != tc.failed {
			t.Errorf("%s: failed is %v", tc.name, got)
		}
		if got := healthy(tc.votes, now, 3*time.Second); got != tc.up {
			t.Errorf("%s: healthy is %v", tc.name, got)
		}
	}
}

// The source of a move is lost when its seal has been sent: there is no way back. A
// topic that goes on does so without it, one that waits is moved when it is back,
// whether or not the seal had landed; the operation says what it waits for.
func TestSourceIsLostDuringAMove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topics := []catalog.Topic{
		f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable}),
		f.topic("waits", 1, "a", nil),
	}
	ws := []*writer{f.writer(topics[0], 0, 100), f.writer(topics[1], 0, 101)}
	for _, w := range ws {
		w.append(3)
	}
	f.gateway(1, ws...)
	var moves atomic.Int32
	var sealing sync.WaitGroup
	sealing.Add(2)
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			if p == FaultSealing && moves.Add(1) <= 2 { // the failover seals too
				sealing.Done()
				sealing.Wait()
				f.doubles["a"].set(func() {
					f.doubles["a"].away = true
					for _, x := range f.doubles["a"].topics {
						x.sealed = true // it landed, and the answer was lost
					}
				})
			}
			return nil
		}
	})
	op := f.move("b", "on", "waits")
	f.until("the failover", func() bool { return chain.OpenSpan(f.chain(topics[0], 0)).Copies[0].Cluster == "b" })
	ws[0].append(2)
	if e := f.watch.Snapshot().Extend(topics[1].ID); e == nil || e.Step != catalog.StepSeal {
		t.Errorf("the other: %+v", e)
	}
	f.doubles["a"].set(func() { f.doubles["a"].away = false })
	ws[1].append(2)
	ws[1].verify()
	if op = f.done(op); op.State != catalog.OpDone || op.Done != 2 {
		t.Errorf("move: %+v", op)
	}
	if open := chain.OpenSpan(f.chain(topics[1], 0)); open.Copies[0].Cluster != "b" {
		t.Errorf("the other is open on %+v", open)
	}
	f.until("the return", func() bool { return !sealedOn(f.chain(topics[0], 0), "a", true) })
	ws[0].verify()
}

// A cluster that an operator fails over while it answers hides its sealed spans for a moment only.
func TestSealedSpansOfAClusterThatAnswersAreShownAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1, Started: time.Now()}, patience)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	f.check(f.cat.PutClusterVote(f.ctx, s, catalog.ClusterVote{Cluster: "a", Up: true, Since: time.Now().Add(-time.Minute)}))
	var hidden atomic.Bool
	topic := f.topic("orders", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	stop := f.watch.OnChange(func(catalog.Change) {
		if ch, _ := f.watch.Snapshot().Chain(topic.ID, 0); ch != nil && sealedOn(ch, "a", true) {
			hidden.Store(true)
		}
	})
	defer stop()
	w := f.writer(topic, 0, 100)
	w.append(3)
	f.controller()
	f.until("a move", func() bool { return f.done(f.move("b", "orders")).State == catalog.OpDone })
	// One that has looked at the cluster when it was well.
	away := f.topic("away", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	f.until("a move", func() bool { return f.done(f.move("b", "away")).State == catalog.OpDone })
	w.append(1)
	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a"})
	f.check(err)
	if op = f.done(op); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	f.until("they were hidden", hidden.Load)
	f.until("they are shown", func() bool { return !sealedOn(f.chain(topic, 0), "a", true) && !sealedOn(f.chain(away, 0), "a", true) })
	w.verify()
}
