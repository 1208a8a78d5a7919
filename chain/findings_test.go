package chain_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func read(offset int64) chain.ReadRequest {
	return chain.ReadRequest{Offset: offset, MaxBytes: 1 << 20, ClientEpoch: -1, LastFetchedEpoch: -1}
}

// In a seal a late record may lie where the next span will begin: what arrives
// after the gateway learned of the seal is not served until the end is committed.
func TestFinding03a_NothingServedThatArrivedAfterTheSealWasHeardOf(t *testing.T) {
	w := newWorld(t, "a", "b")
	g, other := w.gateway(), w.gateway()
	g.put("one")
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	held := g.send("two", 1, -1, -1, -1)
	eventually(t, "refused", func() bool { return g.view.Refreshes() > 0 })
	late, _ := records(t, "late", 1, -1, -1, -1)
	w.fleet.Cluster("a").AppendRaw("braid.1", 0, late)
	if res, err := g.p.Read(w.ctx, read(1)); err != nil || len(res.Batches) > 0 {
		t.Fatalf("served %v, %v", decode(t, res.Batches), err)
	}
	w.must(m.Commit(w.ctx))
	w.must(held.wait().Err)
	for _, r := range []*gateway{g, other, w.gateway()} {
		if got := values(r.readAll(0)); !slices.Equal(got, []string{"one-0", "two-0"}) {
			t.Fatalf("the stray record is read: %v", got)
		}
	}
}

// A consumer that read to 150 through one gateway goes on at another that lags.
func TestFinding03b_NoOutOfRangeFromALaggingSnapshot(t *testing.T) {
	w := newWorld(t, "a", "b")
	g, lagging := w.gateway(), w.gateway()
	g.put("one")
	lagging.view.SetLag(true)
	w.move("b")
	for i := range 5 {
		g.put(fmt.Sprint("new", i))
	}
	res, err := lagging.p.Read(w.ctx, read(4))
	if err != nil || decode(t, res.Batches)[0].value != "new3-0" {
		t.Fatalf("%+v, %v", res, err)
	}
	// Truly past the end: proved, so it may be said.
	_, err = lagging.p.Read(w.ctx, read(1000))
	isKind(t, err, chain.ErrOffsetOutOfRange)
	// Not provable: the catalog is away, and the copy known here is sealed.
	cut := w.gateway()
	cut.view.SetCut(true)
	w.move("a")
	g.put("newer")
	for _, offset := range []int64{7, 1000} {
		if _, err = cut.p.Read(w.ctx, read(offset)); errors.Is(err, chain.ErrOffsetOutOfRange) || !errors.Is(err, chain.ErrUnavailable) {
			t.Fatalf("offset %d: %v", offset, err)
		}
	}
	// The catalog is away and the open copy is not sealed: that proves it.
	g.view.SetCut(true)
	_, err = g.p.Read(w.ctx, read(1000))
	isKind(t, err, chain.ErrOffsetOutOfRange)
}

func TestFinding03b_ClientEpochs(t *testing.T) {
	w := newWorld(t, "a", "b")
	g, lagging, cut := w.gateway(), w.gateway(), w.gateway()
	g.put("one")
	lagging.view.SetLag(true)
	cut.view.SetCut(true)
	w.move("b")
	g.put("two")
	r := read(1)
	r.ClientEpoch = 1
	if res, err := lagging.p.Read(w.ctx, r); err != nil || len(res.Batches) == 0 {
		t.Fatalf("a newer epoch makes it look: %v", err)
	}
	_, err := cut.p.Read(w.ctx, r)
	isKind(t, err, chain.ErrUnknownLeaderEpoch)
	r.ClientEpoch = 2
	_, err = g.p.Read(w.ctx, r)
	isKind(t, err, chain.ErrUnknownLeaderEpoch)
	r.ClientEpoch = 0
	_, err = g.p.Read(w.ctx, r)
	isKind(t, err, chain.ErrFencedLeaderEpoch)
	r.ClientEpoch, r.LastFetchedEpoch = 1, 0
	r.Offset = 2 // past the end of epoch 0
	if res, err := g.p.Read(w.ctx, r); err != nil || res.DivergingEpoch != 0 || res.DivergingEnd != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
}

// latest from a lagging gateway makes a stream processor restore too little.
func TestFinding03c_EndOffsetIsProvedCurrent(t *testing.T) {
	w := newWorld(t, "a", "b")
	g, lagging, cut := w.gateway(), w.gateway(), w.gateway()
	g.put("one")
	lagging.view.SetLag(true)
	cut.view.SetCut(true)
	if _, end, epoch, err := cut.p.Offsets(w.ctx, false); err != nil || end != 1 || epoch != 0 {
		t.Fatalf("with the catalog away and the copy open: %d %d %v", end, epoch, err)
	}
	w.move("b")
	g.put("two")
	if start, end, epoch, err := lagging.p.Offsets(w.ctx, true); err != nil || start != 0 || end != 2 || epoch != 1 {
		t.Fatalf("%d %d %d %v", start, end, epoch, err)
	}
	_, _, _, err := cut.p.Offsets(w.ctx, false)
	isKind(t, err, chain.ErrUnavailable)
	if epoch, end, err := lagging.p.EpochEnd(w.ctx, 1); err != nil || epoch != 1 || end != 2 {
		t.Fatalf("%d %d %v", epoch, end, err)
	}
	if epoch, end, err := w.gateway().p.EpochEnd(w.ctx, 0); err != nil || epoch != 0 || end != 1 {
		t.Fatalf("%d %d %v", epoch, end, err)
	}
}

// A fresh copy takes any sequence as a producer's first. Sent together, a first
// batch that has to be sent again would be behind the second for good.
func TestFinding04_FreshSpanFirstBatchAlone(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.move("b")
	gate := make(chan struct{})
	var calls atomic.Int32
	g.clients.Of("b").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
		if calls.Add(1) == 1 {
			return chaintest.Fault{WaitAnswer: gate, Lost: true}
		}
		return chaintest.Fault{}
	})
	var ps []*pending
	for seq := int32(1); seq < 5; seq++ {
		ps = append(ps, g.send(fmt.Sprint("s", seq), 1, 7, 0, seq))
	}
	eventually(t, "the first is on its way", func() bool { return calls.Load() == 1 })
	plain := g.send("plain", 1, -1, -1, -1)
	close(gate)
	for i, p := range ps {
		if a := p.wait(); a.Err != nil {
			t.Fatalf("sequence %d: %v", i+1, a.Err)
		}
	}
	w.must(plain.wait().Err)
	var got []string
	for _, v := range values(g.readAll(0)) {
		if v != "plain-0" {
			got = append(got, v)
		}
	}
	if !slices.Equal(got, []string{"s0-0", "s1-0", "s2-0", "s3-0", "s4-0"}) {
		t.Fatal(got)
	}
}

// Through two gateways neither knows what the other placed.
func TestFinding04_TwoGatewaysPlaceOneProducer(t *testing.T) {
	w := newWorld(t, "a", "b")
	g, other := w.gateway(), w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.move("b")
	// Ahead of what is missing: refused, as a broker would.
	isKind(t, other.send("s2", 1, 7, 0, 2).wait().Err, chain.ErrOutOfOrder)
	w.must(g.send("s1", 1, 7, 0, 1).wait().Err)
	// Now the copy has it: the other gateway finds out and lets the copy judge.
	if a := other.send("s2", 1, 7, 0, 2).wait(); a.Err != nil || a.BaseOffset != 2 {
		t.Fatalf("%+v", a)
	}
	if a := other.send("s1", 1, 7, 0, 1).wait(); a.Err != nil || a.BaseOffset != 1 || !a.Duplicate {
		t.Fatalf("%+v", a)
	}
	if a := other.send("s0", 1, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != 0 || !a.Duplicate {
		t.Fatalf("%+v", a)
	}
}

func TestFinding04_ProducerIdleOverThreeMovesRetries(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.fleet.HideBatches(true)
	g := w.gateway()
	g.put("noise")
	w.must(g.send("s0", 2, 7, 0, 0).wait().Err)
	for _, to := range []string{"b", "c", "a"} {
		w.move(to)
		g.put("on-" + to)
	}
	fresh := w.gateway() // restarted
	if a := fresh.send("s0", 2, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != 1 || !a.Duplicate {
		t.Fatalf("%+v", a)
	}
	if a := fresh.send("s2", 1, 7, 0, 2).wait(); a.Err != nil {
		t.Fatalf("%+v", a)
	}
	var refused *span.RejectedError
	if err := fresh.send("gap", 1, 7, 0, 9).wait().Err; !errors.As(err, &refused) || refused.Code != wire.OutOfOrderSequenceNumber {
		t.Fatal(err)
	}
}

func TestFinding04_ClientBumpsItsEpochByItself(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.must(g.send("t0", 1, 7, 1, 0).wait().Err)
	w.move("b")
	isKind(t, g.send("s1", 1, 7, 0, 1).wait().Err, chain.ErrOldProducerEpoch)
	isKind(t, g.send("t2", 1, 7, 1, 2).wait().Err, chain.ErrOutOfOrder)
	isKind(t, g.send("u3", 1, 7, 2, 3).wait().Err, chain.ErrOutOfOrder)
	w.must(g.send("u0", 1, 7, 2, 0).wait().Err)
}

// A new producer's first batch is sent back; what its client had in flight behind
// it must not be placed before it comes again.
func TestFinding04_NothingOvertakesAFirstBatchThatWasSentBack(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	gate := make(chan struct{})
	var calls atomic.Int32
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
		if calls.Add(1) == 1 {
			return chaintest.Fault{Err: span.ErrUnavailable, WaitAnswer: gate}
		}
		return chaintest.Fault{}
	})
	s0, s1 := g.send("s0", 1, 7, 0, 0), g.send("s1", 1, 7, 0, 1)
	close(gate)
	isKind(t, s0.wait().Err, chain.ErrUnavailable)
	isKind(t, s1.wait().Err, chain.ErrUnavailable)
	isKind(t, g.send("s2", 1, 7, 0, 2).wait().Err, chain.ErrUnavailable)
	for seq := range int32(3) {
		w.must(g.send(fmt.Sprint("s", seq), 1, 7, 0, seq).wait().Err)
	}
}

// A producer that its copy knows well has a batch sent back, since the cluster is away, and
// the chain goes on in a copy that knows nothing: what was in flight behind the batch must
// not be placed there before it comes again. When it has come, nothing more is expected.
func TestFinding04_NothingOvertakesABatchThatALostClusterSentBack(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.fleet.Cluster("a").SetDown(true)
	isKind(t, g.send("s1", 1, 7, 0, 1).wait().Err, chain.ErrUnavailable)
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{1}, true))
	goesOn := func() {
		eventually(t, "the gateway goes on", func() bool { return g.send("other", 1, -1, -1, -1).wait().Err == nil })
	}
	goesOn()
	isKind(t, g.send("s2", 1, 7, 0, 2).wait().Err, chain.ErrUnavailable)
	for seq := range int32(3) {
		w.must(g.send(fmt.Sprint("s", seq+1), 1, 7, 0, seq+1).wait().Err)
	}
	w.fleet.Cluster("b").SetDown(true)
	isKind(t, g.send("s4", 1, 7, 0, 4).wait().Err, chain.ErrUnavailable)
	w.fleet.Cluster("b").SetDown(false)
	last := w.fleet.Catalog.Chain(w.topic, 0).Spans[1].Start + 4
	for seq := range int32(2) {
		if a := g.send("again", 1, 7, 0, seq+4).wait(); a.Err != nil || a.BaseOffset != last+int64(seq) {
			t.Fatalf("%+v", a)
		}
	}
	w.fleet.Cluster("b").SetDown(true)
	w.must(w.fleet.Lose(w.ctx, w.topic, "c", []int64{last + 2}, true))
	goesOn()
	w.must(g.send("s6", 1, 7, 0, 6).wait().Err)
}

// A cluster that was away comes back amid what a client has in flight: the first batches were
// sent back, so the next ones do not fit at the copy. They are sent back too, and not refused for
// good; a gap that nobody but the client made still is.
func TestFinding04_AClusterComesBackAmidABurst(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	isKind(t, g.send("gap", 1, 7, 0, 5).wait().Err, chain.ErrOutOfOrder)
	w.fleet.Cluster("a").SetDown(true)
	for seq := range int32(2) {
		isKind(t, g.send("away", 1, 7, 0, 1+seq).wait().Err, chain.ErrUnavailable)
	}
	w.fleet.Cluster("a").SetDown(false)
	for seq := range int32(2) {
		isKind(t, g.send("behind", 1, 7, 0, 3+seq).wait().Err, chain.ErrUnavailable)
	}
	for seq := range int32(4) {
		if a := g.send(fmt.Sprint("s", 1+seq), 1, 7, 0, 1+seq).wait(); a.Err != nil || a.BaseOffset != int64(1+seq) {
			t.Fatalf("%+v", a)
		}
	}
	isKind(t, g.send("gap", 1, 7, 0, 9).wait().Err, chain.ErrOutOfOrder)
}

// The same at a gateway that the client came to while the cluster was away: it learns only then
// that the copy has the producer from elsewhere.
func TestFinding04_AClusterComesBackAmidABurstAtAnotherGateway(t *testing.T) {
	w := newWorld(t, "a")
	g, other := w.gateway(), w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.must(other.send("other", 1, -1, -1, -1).wait().Err)
	w.fleet.Cluster("a").SetDown(true)
	for seq := range int32(2) {
		isKind(t, other.send("away", 1, 7, 0, 1+seq).wait().Err, chain.ErrUnavailable)
	}
	w.fleet.Cluster("a").SetDown(false)
	for seq := range int32(2) {
		isKind(t, other.send("behind", 1, 7, 0, 3+seq).wait().Err, chain.ErrUnavailable)
	}
	for seq := range int32(4) {
		if a := other.send(fmt.Sprint("s", 1+seq), 1, 7, 0, 1+seq).wait(); a.Err != nil || a.BaseOffset != int64(2+seq) {
			t.Fatalf("%+v", a)
		}
	}
	isKind(t, other.send("gap", 1, 7, 0, 9).wait().Err, chain.ErrOutOfOrder)
}

// The same on a copy that has not heard of the producer, where the sealed state tells the gap.
func TestFinding04_ACopyThatIsNewComesBackAmidABurst(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.move("b")
	w.must(g.send("other", 1, -1, -1, -1).wait().Err)
	w.fleet.Cluster("b").SetDown(true)
	isKind(t, g.send("away", 1, 7, 0, 1).wait().Err, chain.ErrUnavailable)
	w.fleet.Cluster("b").SetDown(false)
	isKind(t, g.send("behind", 1, 7, 0, 2).wait().Err, chain.ErrUnavailable)
	for seq := range int32(2) {
		if a := g.send(fmt.Sprint("s", 1+seq), 1, 7, 0, 1+seq).wait(); a.Err != nil || a.BaseOffset != int64(2+seq) {
			t.Fatalf("%+v", a)
		}
	}
	isKind(t, g.send("gap", 1, 7, 0, 9).wait().Err, chain.ErrOutOfOrder)
}

// A clock that stands still, a lease that is gone: on a cluster without a seal no
// answer is passed on after the lease's end.
func TestFinding06_NoAnswerAfterTheLeaseEnded(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.fleet.Catalog.SetCannotSeal("a")
	var alive atomic.Bool
	alive.Store(true)
	g := w.gateway(func(o *chain.Options) { o.Alive = alive.Load })
	g.put("one")
	gate := make(chan struct{})
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault { return chaintest.Fault{WaitAnswer: gate} })
	p := g.send("two", 1, -1, -1, -1)
	eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	alive.Store(false)
	close(gate)
	isKind(t, p.wait().Err, chain.ErrTimedOut)
	if res, err := g.p.Read(w.ctx, read(1)); err == nil && len(res.Batches) > 0 {
		t.Fatalf("served %v", decode(t, res.Batches))
	}
	if _, _, _, err := g.p.Offsets(w.ctx, false); err == nil {
		t.Fatal("an end offset without a session")
	}
}

// A gateway whose lease was taken has a new one when the answer comes: the end of
// the copy may have been read in between.
func TestFinding06_NoAnswerUnderTheNextLease(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.fleet.Catalog.SetCannotSeal("a")
	var lease atomic.Int64
	g := w.gateway(func(o *chain.Options) { o.Lease = lease.Load })
	g.put("one")
	gate := make(chan struct{})
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault { return chaintest.Fault{WaitAnswer: gate} })
	p := g.send("two", 1, -1, -1, -1)
	eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	lease.Add(1)
	close(gate)
	isKind(t, p.wait().Err, chain.ErrTimedOut)
	g.clients.Of("a").SetFault(nil)
	w.must(g.send("three", 1, -1, -1, -1).wait().Err)
}

func TestFinding06_FenceStopsDrainsAndAcknowledges(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.fleet.Catalog.SetCannotSeal("a")
	g := w.gateway()
	g.put("one")
	gate := make(chan struct{})
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault { return chaintest.Fault{WaitAnswer: gate} })
	flying := g.send("two", 1, 7, 0, 0)
	eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	c := w.fleet.Catalog.Chain(w.topic, 0)
	cp := c.Spans[0].Copies[0]
	w.fleet.Catalog.SetExtend(w.topic, &catalog.Extend{Op: "op1", Topic: catalog.TopicRef{ID: w.topic}, Mode: catalog.ModeFence, Step: catalog.StepSeal,
		Old: []catalog.PhysicalTopic{{Cluster: "a", Topic: cp.Topic, TopicID: cp.TopicID}}})
	if acks := w.fleet.Catalog.HoldAcks(w.topic); len(acks) != 0 {
		t.Fatalf("acknowledged with an append under way: %+v", acks)
	}
	close(gate)
	w.must(flying.wait().Err)
	eventually(t, "acknowledged", func() bool { return len(w.fleet.Catalog.HoldAcks(w.topic)) == 1 })
	if ack := w.fleet.Catalog.HoldAcks(w.topic)[0]; ack.Node != 1 || !slices.Equal(ack.Next, []int64{2}) {
		t.Fatalf("%+v", ack)
	}
	held := g.send("three", 1, 7, 0, 1)
	// A gateway that comes later begins stopped, and says so.
	late := w.gateway(func(o *chain.Options) { o.Node = 2 })
	eventually(t, "acknowledged by the late one", func() bool { return len(w.fleet.Catalog.HoldAcks(w.topic)) == 2 })
	stopped := late.send("four", 1, -1, -1, -1)
	if held.answered() || stopped.answered() || len(w.fleet.Cluster("a").Batches("braid.1", 0)) != 2 {
		t.Fatal("an append went to a fenced copy")
	}
	t1, err := w.fleet.Clients().Of("b").Create(w.ctx, span.Spec{Name: "next", Partitions: 1})
	w.must(err)
	state, err := chain.MergeProducers(nil, []span.Producer{{ID: 7, LastSequence: 0, LastOffset: 1, TxnStart: -1}}, chain.Merge{Copy: &cp, End: 2, Now: time.Now()})
	w.must(err)
	next, err := chain.Extend(&c, chain.Extension{End: 2, To: w.fleet.Cluster("b").Copy(t1, 0), At: time.Now(), Producers: w.fleet.Catalog.PutProducers(state)})
	w.must(err)
	w.fleet.Catalog.Commit(w.topic, 0, next)
	w.must(held.wait().Err)
	w.must(stopped.wait().Err)
}

// The physical log went back: nothing more is appended to or read from the copy
// until the chain has gone past the lost range.
func TestFinding12_LogThatWentBack(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	for i := range int32(4) {
		w.must(g.send(fmt.Sprint("s", i), 1, 7, 0, i).wait().Err)
	}
	w.fleet.Cluster("a").Truncate("braid.1", 0, 2)
	s4 := g.send("s4", 1, 7, 0, 4)
	plain := g.send("plain", 1, -1, -1, -1)
	eventually(t, "alarm", func() bool { return len(w.fleet.Catalog.Alarms()) > 0 })
	if a := w.fleet.Catalog.Alarms()[0]; a.Acknowledged != 4 || a.End != 2 || a.Span != 0 || a.Topic.Name != "t" {
		t.Fatalf("%+v", a)
	}
	if n := len(w.fleet.Cluster("a").Batches("braid.1", 0)); n != 2 {
		t.Fatalf("%d batches on the copy that went back", n)
	}
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{2}, false))
	a := s4.wait()
	w.must(a.Err)
	if a.BaseOffset < 4 || a.Epoch != 1 {
		t.Fatalf("an offset was used again: %+v", a)
	}
	if err := plain.wait().Err; err != nil {
		isKind(t, err, chain.ErrTimedOut)
	}
	w.must(g.send("s5", 1, 7, 0, 5).wait().Err)
	got := values(g.readAll(0))
	got = slices.DeleteFunc(got, func(v string) bool { return v == "plain-0" })
	if !slices.Equal(got, []string{"s0-0", "s1-0", "s4-0", "s5-0"}) {
		t.Fatal(got)
	}
}

// After a loss each producer may jump forward in sequence, once, also through a
// gateway that knows nothing of it.
func TestFinding09_ForwardJumpAfterALoss(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.move("b")
	w.must(g.send("s1", 1, 7, 0, 1).wait().Err)
	w.must(g.send("s2", 1, 7, 0, 2).wait().Err)
	w.fleet.Cluster("b").SetDown(true)
	w.must(w.fleet.Lose(w.ctx, w.topic, "c", []int64{3}, true))
	fresh := w.gateway()
	if a := fresh.send("s3", 1, 7, 0, 3).wait(); a.Err != nil || a.BaseOffset != 3+chain.UnknownRoom {
		t.Fatalf("%+v", a)
	}
	w.must(fresh.send("s4", 1, 7, 0, 4).wait().Err)
	if a := fresh.send("s0", 1, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != 0 {
		t.Fatalf("%+v", a)
	}
	// Readers step over what cannot be read and over the hole.
	if got := values(fresh.readAll(0)); !slices.Equal(got, []string{"s0-0", "s3-0", "s4-0"}) {
		t.Fatal(got)
	}
}

// A cluster is gone, with appends on their way to it: every gateway stops, says
// up to where it saw records, and passes nothing on any more.
func TestFailoverOfALostCopyStopsAtOnce(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	gate := make(chan struct{})
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault { return chaintest.Fault{WaitAnswer: gate} })
	s1 := g.send("s1", 1, 7, 0, 1)
	plain := g.send("plain", 1, -1, -1, -1)
	eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	w.fleet.Cluster("a").SetDown(true)
	c := w.fleet.Catalog.Chain(w.topic, 0)
	cp := c.Spans[0].Copies[0]
	w.fleet.Catalog.SetExtend(w.topic, &catalog.Extend{Op: "op1", Topic: catalog.TopicRef{ID: w.topic}, Mode: catalog.ModeLossy, Step: catalog.StepSeal,
		Unreadable: true, Old: []catalog.PhysicalTopic{{Cluster: "a", Topic: cp.Topic, TopicID: cp.TopicID}}})
	eventually(t, "acknowledged", func() bool { return len(w.fleet.Catalog.HoldAcks(w.topic)) == 1 })
	if ack := w.fleet.Catalog.HoldAcks(w.topic)[0]; !slices.Equal(ack.Next, []int64{1}) {
		t.Fatalf("%+v", ack)
	}
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{1}, true))
	w.fleet.Catalog.SetExtend(w.topic, nil)
	if a := s1.wait(); a.Err != nil || a.BaseOffset != 1+chain.UnknownRoom {
		t.Fatalf("%+v", a)
	}
	isKind(t, plain.wait().Err, chain.ErrTimedOut)
	close(gate)
}

// A gateway that lags by a whole move must not call a batch out of order because
// the copy that it knows has never seen the producer.
func TestFinding04_LaggingGatewayDoesNotJudgeByAPastSpan(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	g, lagging := w.gateway(), w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	w.move("b")
	lagging.put("knows b")
	lagging.view.SetLag(true)
	g.put("noise")
	w.move("c")
	w.must(g.send("s1", 1, 7, 0, 1).wait().Err)
	if a := lagging.send("s2", 1, 7, 0, 2).wait(); a.Err != nil || a.Epoch != 2 {
		t.Fatalf("%+v", a)
	}
}
