package chain_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/span"
)

func TestAppendAndReadOverAMove(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	for i := range 5 {
		if a := g.put(fmt.Sprint("x", i)); a.BaseOffset != int64(i) || a.Epoch != 0 {
			t.Fatalf("append %d at %d, epoch %d", i, a.BaseOffset, a.Epoch)
		}
	}
	w.move("b")
	for i := range 5 {
		if a := g.put(fmt.Sprint("y", i)); a.BaseOffset != int64(5+i) || a.Epoch != 1 {
			t.Fatalf("append %d at %d, epoch %d", i, a.BaseOffset, a.Epoch)
		}
	}
	// One gateway has it cached, the other reads the copies.
	for _, r := range []*gateway{g, w.gateway()} {
		fs := r.readAll(0)
		want := []string{"x0-0", "x1-0", "x2-0", "x3-0", "x4-0", "y0-0", "y1-0", "y2-0", "y3-0", "y4-0"}
		if got := values(fs); !slices.Equal(got, want) {
			t.Fatalf("read %v", got)
		}
		for i, f := range fs {
			if f.offset != int64(i) || f.epoch != int32(i/5) {
				t.Fatalf("record %d: %+v", i, f)
			}
		}
	}
}

func TestHoldsWhatTheSealRefusesWithoutHavingHeardOfIt(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	g.view.SetLag(true)
	g.put("before")
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	held := g.send("held", 1, -1, -1, -1)
	behind := g.send("behind", 1, 7, 0, 0)
	eventually(t, "the gateway asks the catalog by itself", func() bool { return g.view.Refreshes() > 2 })
	if held.answered() || behind.answered() {
		t.Fatal("answered before the chain changed")
	}
	w.must(m.Commit(w.ctx))
	for i, p := range []*pending{held, behind} {
		if a := p.wait(); a.Err != nil || a.BaseOffset != int64(1+i) || a.Epoch != 1 {
			t.Fatalf("%d: %+v", i, a)
		}
	}
	if got := values(g.readAll(0)); !slices.Equal(got, []string{"before-0", "held-0", "behind-0"}) {
		t.Fatal(got)
	}
}

// A seal that found a transaction opens the copy again. While the extend stands, what was
// refused waits all the same: the next try seals.
func TestSealThatIsTakenBackAndTriedAgain(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	g.put("one")
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	held := g.send("two", 1, 7, 0, 0)
	eventually(t, "refused", func() bool { return g.view.Refreshes() > 1 })
	w.must(m.TakeSealBack())
	w.must(m.Seal(w.ctx))
	w.must(m.Commit(w.ctx))
	if a := held.wait(); a.Err != nil || a.BaseOffset != 1 || a.Epoch != 1 {
		t.Fatalf("%+v", a)
	}
	if got := values(g.readAll(0)); !slices.Equal(got, []string{"one-0", "two-0"}) {
		t.Fatal(got)
	}
}

// A copy that refuses as a sealed one, without an extend, and takes appends again, as when
// somebody sets its limits by hand and back: what was refused goes on where it was.
func TestCopyThatIsOpenedAgainGoesOn(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	g.put("one")
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	w.fleet.Catalog.SetExtend(w.topic, nil)
	held := g.send("two", 1, 7, 0, 0)
	eventually(t, "refused", func() bool { return g.view.Refreshes() > 1 })
	w.must(m.TakeSealBack())
	if a := held.wait(); a.Err != nil || a.BaseOffset != 1 || a.Epoch != 0 {
		t.Fatalf("%+v", a)
	}
	if got := values(g.readAll(0)); !slices.Equal(got, []string{"one-0", "two-0"}) {
		t.Fatal(got)
	}
}

func TestHoldIsBoundedInTimeAndBytes(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway(func(o *chain.Options) { o.HoldTime, o.HoldBytes = 100*time.Millisecond, 400 })
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	first := g.send("first", 1, -1, -1, -1)
	eventually(t, "refused", func() bool { return g.view.Refreshes() > 0 })
	var rest []*pending
	for i := range 10 {
		rest = append(rest, g.send(fmt.Sprint("more", i), 1, -1, -1, -1))
	}
	over := 0
	for _, p := range rest {
		if p.answered() {
			isKind(t, p.wait().Err, chain.ErrHeldTooLong)
			over++
		}
	}
	if over == 0 || over == len(rest) {
		t.Fatalf("%d of %d were over the bound in bytes", over, len(rest))
	}
	isKind(t, first.wait().Err, chain.ErrHeldTooLong)
	for _, p := range rest {
		isKind(t, p.wait().Err, chain.ErrHeldTooLong)
	}
	w.must(m.Commit(w.ctx))
	if a := g.put("after"); a.BaseOffset != 0 {
		t.Fatalf("%+v", a)
	}
}

// The acknowledgement was lost between gateway and client, the topic moved, the
// client retries: it gets the original offset, and the record is there once.
func TestAcknowledgementLostTopicMovedClientRetries(t *testing.T) {
	for _, hide := range []bool{false, true} {
		t.Run(fmt.Sprint("copy hides offsets=", hide), func(t *testing.T) {
			w := newWorld(t, "a", "b", "c")
			w.fleet.HideBatches(hide)
			g, other := w.gateway(), w.gateway()
			g.put("noise")
			lost := g.send("x", 3, 7, 0, 0).wait()
			w.must(lost.Err)
			w.move("b")
			// Through either gateway, and once more after a second move.
			for i, r := range []*gateway{g, other} {
				if a := r.send("x", 3, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != lost.BaseOffset || !a.Duplicate {
					t.Fatalf("retry %d: %+v, first time at %d", i, a, lost.BaseOffset)
				}
			}
			w.must(g.send("y", 1, 7, 0, 3).wait().Err)
			// The copy knows the producer now, but not that batch.
			if a := other.send("x", 3, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != lost.BaseOffset {
				t.Fatalf("late retry: %+v", a)
			}
			if a := g.send("x", 3, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != lost.BaseOffset {
				t.Fatalf("late retry where the copy refuses it: %+v", a)
			}
			w.move("c")
			if a := g.send("x", 3, 7, 0, 0).wait(); a.Err != nil || a.BaseOffset != lost.BaseOffset {
				t.Fatalf("retry after the second move: %+v", a)
			}
			if got := values(g.readAll(0)); !slices.Equal(got, []string{"noise-0", "x-0", "x-1", "x-2", "y-0"}) {
				t.Fatal(got)
			}
		})
	}
}

// Several in flight when the seal begins: some appended, some held, some retried
// by another connection, through another gateway, in another order.
func TestSeveralInFlightAtTheSeal(t *testing.T) {
	w := newWorld(t, "a", "b")
	g, other := w.gateway(), w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	// 1 lands, and its answer is on its way until the chain has moved.
	gate := make(chan struct{})
	n := 0
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
		if n++; n == 1 {
			return chaintest.Fault{WaitAnswer: gate}
		}
		return chaintest.Fault{}
	})
	s1 := g.send("s1", 1, 7, 0, 1)
	eventually(t, "1 landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	s2, s3 := g.send("s2", 1, 7, 0, 2), g.send("s3", 1, 7, 0, 3)
	// The client's other connection retries 3 before 1 and 2.
	r3 := other.send("s3", 1, 7, 0, 3)
	r1 := other.send("s1", 1, 7, 0, 1)
	r2 := other.send("s2", 1, 7, 0, 2)
	w.must(m.Commit(w.ctx))
	close(gate)
	for i, p := range []*pending{s1, s2, s3} {
		if a := p.wait(); a.Err != nil || a.BaseOffset != int64(i+1) {
			t.Fatalf("sequence %d: %+v", i+1, a)
		}
	}
	if a := r1.wait(); a.Err != nil || a.BaseOffset != 1 {
		t.Fatalf("%+v", a)
	}
	if a := r2.wait(); a.Err != nil || a.BaseOffset != 2 {
		t.Fatalf("%+v", a)
	}
	// Its 3 was ahead of 2 on its connection: out of order as a broker would say,
	// unless 2 was placed already. The client sends it again.
	if a := r3.wait(); a.Err != nil {
		isKind(t, a.Err, chain.ErrOutOfOrder)
		if a := other.send("s3", 1, 7, 0, 3).wait(); a.Err != nil || a.BaseOffset != 3 {
			t.Fatalf("%+v", a)
		}
	}
	if got := values(g.readAll(0)); !slices.Equal(got, []string{"s0-0", "s1-0", "s2-0", "s3-0"}) {
		t.Fatal(got)
	}
}

func TestUnknownOutcomeWithoutProducerIsNeverSentAgain(t *testing.T) {
	for _, f := range []chaintest.Fault{{Lost: true}, {Unanswered: true}} {
		w := newWorld(t, "a")
		g := w.gateway()
		n := 0
		g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
			if n++; n == 1 {
				return f
			}
			return chaintest.Fault{}
		})
		isKind(t, g.send("x", 1, -1, -1, -1).wait().Err, chain.ErrTimedOut)
		g.put("y")
		if n != 2 {
			t.Fatalf("%d appends reached the store", n)
		}
	}
}

func TestUnknownOutcomeWithProducerIsFoundOut(t *testing.T) {
	for name, f := range map[string]chaintest.Fault{"lost": {Lost: true}, "unanswered": {Unanswered: true}} {
		for _, sealed := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " sealed=", sealed), func(t *testing.T) {
				w := newWorld(t, "a", "b")
				w.fleet.HideBatches(true)
				g := w.gateway()
				w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
				gate := make(chan struct{})
				n := 0
				g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
					if n++; n == 1 {
						f := f
						f.WaitAnswer = gate
						return f
					}
					return chaintest.Fault{}
				})
				s1 := g.send("s1", 1, 7, 0, 1)
				s2 := g.send("s2", 1, 7, 0, 2)
				if sealed {
					eventually(t, "arrived or lost", func() bool {
						return name == "lost" || len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2
					})
					w.move("b")
				}
				close(gate)
				for i, p := range []*pending{s1, s2} {
					if a := p.wait(); a.Err != nil || a.BaseOffset != int64(i+1) {
						t.Fatalf("sequence %d: %+v", i+1, a)
					}
				}
				if got := values(g.readAll(0)); !slices.Equal(got, []string{"s0-0", "s1-0", "s2-0"}) {
					t.Fatal(got)
				}
			})
		}
	}
}

func TestHungStoreDoesNotHoldUpWhatComesAfterTheEnd(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	gate := make(chan struct{})
	defer close(gate)
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault { return chaintest.Fault{WaitAnswer: gate} })
	s1 := g.send("s1", 1, 7, 0, 1) // lands, and the cluster hangs
	eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	plain := g.send("plain", 1, -1, -1, -1) // in the same hung connection
	w.move("b")
	s2 := g.send("s2", 1, 7, 0, 2)
	if a := s1.wait(); a.Err != nil || a.BaseOffset != 1 {
		t.Fatalf("%+v", a)
	}
	isKind(t, plain.wait().Err, chain.ErrTimedOut)
	if a := s2.wait(); a.Err != nil || a.BaseOffset != 2 {
		t.Fatalf("%+v", a)
	}
}

// An outcome that is unknown is called so, whatever the last attempt met.
func TestUnknownOutcomeIsNotHiddenByWhatCameLater(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway(func(o *chain.Options) { o.HoldTime = 50 * time.Millisecond })
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	gate := make(chan struct{})
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
		return chaintest.Fault{Unanswered: true, WaitAnswer: gate}
	})
	p := g.send("s1", 1, 7, 0, 1)
	eventually(t, "landed", func() bool { return len(w.fleet.Cluster("a").Batches("braid.1", 0)) == 2 })
	w.must(m.Seal(w.ctx))
	close(gate)
	a := p.wait()
	isKind(t, a.Err, chain.ErrTimedOut)
	if errors.Is(a.Err, chain.ErrHeldTooLong) || errors.Is(a.Err, chain.ErrUnavailable) {
		t.Fatal(a.Err)
	}
	w.must(m.Commit(w.ctx))
}

// A client that comes again while its first attempt is on its way, and a connection to the
// cluster that breaks under both: what landed once is counted once.
func TestWhatTwoFlightsFindIsCountedOnce(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	gate := make(chan struct{})
	var sent atomic.Int32
	g.clients.Of("a").SetFault(func(span.Topic, int32, []byte) chaintest.Fault {
		return chaintest.Fault{Wait: gate, Unanswered: sent.Add(1) <= 2}
	})
	first, again := g.send("s1", 1, 7, 0, 1), g.send("s1", 1, 7, 0, 1)
	close(gate)
	for _, s := range []*pending{first, again} {
		if a := s.wait(); a.Err != nil || a.BaseOffset != 1 || !a.Duplicate {
			t.Fatalf("%+v", a)
		}
	}
	g.logs.Close()
	reports := w.fleet.Catalog.Reports(w.topic)
	if len(reports) != 1 || reports[0].Records != 2 || reports[0].Batches != 2 {
		t.Fatalf("%+v", reports)
	}
}
