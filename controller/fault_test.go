package controller

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A controller is stopped at each point between two side effects of an extend,
// while a producer appends; the next one finishes what it left. Nothing that was
// acknowledged is lost, doubled or reordered, and no physical topic is left.
func TestControllerDiesAtEachPointOfAMove(t *testing.T) {
	t.Parallel()
	for _, point := range []string{FaultBegun, FaultCreated, FaultPrepared, FaultHolding, FaultSettled, FaultSealing,
		FaultSealed, FaultStored, FaultCommitPage, FaultCommitted, FaultCertified} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			partitions := int32(3)
			if point == FaultCommitPage {
				partitions = catalog.PageSize + 2 // two pages
			}
			topic := f.topic("orders", partitions, "a", nil)
			first, last := f.writer(topic, 0, 100), f.writer(topic, int(partitions)-1, 101)
			first.append(3)
			last.append(2)
			died := make(chan struct{})
			f.controller(func(o *Options) {
				o.Fault = func(p string) error {
					if !isFaultPoint(p) {
						t.Errorf("fault point %s is not listed", p)
					}
					if p == point {
						select {
						case <-died:
						default:
							close(died)
						}
						return Crashed()
					}
					return nil
				}
			})
			op := f.move("b", "orders")
			select {
			case <-died:
			case <-f.ctx.Done():
				t.Fatal("the point was never reached")
			}
			f.controller()
			first.through()
			last.through()
			if op = f.done(op); op.State != catalog.OpDone {
				t.Fatalf("operation: %+v", op)
			}
			for _, w := range []*writer{first, last} {
				w.append(1)
				w.verify()
				if ch := f.chain(topic, w.p); len(ch.Spans) != 2 || chain.OpenSpan(ch).Copies[0].Cluster != "b" {
					t.Errorf("chain: %+v", ch)
				}
			}
			for _, p := range f.certificate(topic, op.ID).Partitions {
				if p.Verdict == catalog.VerdictViolated {
					t.Errorf("certificate of partition %d: %+v", p.Partition, p)
				}
			}
			f.doubles["b"].set(func() {
				if n := len(f.doubles["b"].topics); n != 1 {
					t.Errorf("%d physical topics on the target", n)
				}
			})
		})
	}
}

// The same while an extend is undone: the topic goes on where it was, and can be
// moved afterwards.
func TestControllerDiesAtEachPointOfUndoing(t *testing.T) {
	t.Parallel()
	for _, point := range []string{FaultUndoing, FaultDropped, FaultUndone} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 1, "a", nil)
			w := f.writer(topic, 0, 100)
			w.append(3)
			f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].openTxn = true })
			died := make(chan struct{})
			f.controller(func(o *Options) {
				o.Fault = func(p string) error {
					if p == point {
						close(died)
						return Crashed()
					}
					return nil
				}
			})
			op := f.move("b", "orders")
			f.until("the open transaction to hold the move up", func() bool {
				e, err := f.cat.Extend(f.ctx, topic.Tenant, topic.ID)
				return err == nil && e.Step == catalog.StepHold
			})
			_, err := f.admin.Cancel(f.ctx, op.ID)
			f.check(err)
			// A controller that loses its lease right at the point passes it by.
			f.until("the point, or the end", func() bool {
				select {
				case <-died:
					return true
				default:
				}
				now, err := f.cat.Op(f.ctx, op.ID)
				f.check(err)
				return now.IsFinished()
			})
			f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].openTxn = false })
			f.controller()
			if op = f.done(op); op.State != catalog.OpCancelled {
				t.Fatalf("operation: %+v", op)
			}
			w.append(1)
			w.verify()
			if ch := f.chain(topic, 0); len(ch.Spans) != 1 || ch.Spans[0].Copies[0].Cluster != "a" {
				t.Errorf("chain: %+v", ch)
			}
			if again := f.done(f.move("b", "orders")); again.State != catalog.OpDone {
				t.Errorf("move after the undoing: %+v", again)
			}
			w.append(1)
			w.verify()
		})
	}
}

// A move is cancelled when it has begun to seal: it goes on to a fresh topic of the
// cluster that it came from, whichever controller ends it, and says so.
func TestCancelAfterTheSealRollsForward(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"", FaultTurned, FaultCreated, FaultPrepared, FaultStored, FaultCommitted} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 2, "a", nil)
			w := f.writer(topic, 0, 100)
			w.append(3)
			old := physicalNameOf(f.chain(topic, 0))
			change, died := dies(FaultSealed)
			first := f.controller(change)
			op := f.move("b", "orders")
			f.await(died)
			// One that is killed sees no cancellation any more; this one may, until all of it has ended.
			select {
			case <-first.done:
			case <-time.After(10 * time.Second): // it lost its lease at the point, and goes on
			}
			_, err := f.admin.Cancel(f.ctx, op.ID)
			f.check(err)
			if point != "" {
				change, died := dies(point)
				f.controller(change)
				f.await(died)
			}
			f.controller()
			if op = f.done(op); op.State != catalog.OpCancelled {
				t.Errorf("operation: %+v", op)
			} else if want := "rolled forward onto a fresh topic of cluster a"; point != FaultCommitted && !strings.Contains(op.Message, want) {
				t.Errorf("operation: %+v, want that it was %s", op, want)
			}
			w.through()
			w.append(1)
			w.verify()
			if open := chain.OpenSpan(f.chain(topic, 0)).Copies[0]; open.Cluster != "a" || open.Topic == old {
				t.Errorf("open on %+v", open)
			}
			f.doubles["a"].set(func() {
				if !f.doubles["a"].topics[old].sealed {
					t.Error("the seal was taken back")
				}
			})
		})
	}
}

// A target fails when the extend has begun to seal: the topic goes on where it was.
func TestTargetIsLostWhenTheSealIsOnItsWay(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(3)
	var once sync.Once
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			if p == FaultSealing {
				once.Do(func() {
					c, err := f.cat.Cluster(f.ctx, "b")
					f.check(err)
					c.State = catalog.ClusterFailed
					_, err = f.cat.PutCluster(f.ctx, c, catalog.Fence{})
					f.check(err)
					f.doubles["b"].set(func() { f.doubles["b"].away = true })
				})
			}
			return nil
		}
	})
	op := f.done(f.move("b", "orders"))
	if op.State != catalog.OpFailed || !strings.Contains(op.Message, "rolled forward onto a fresh topic of cluster a") {
		t.Errorf("operation: %+v", op)
	}
	w.append(1)
	w.verify()
	if open := chain.OpenSpan(f.chain(topic, 0)).Copies[0]; open.Cluster != "a" {
		t.Errorf("open on %+v", open)
	}
}

func physicalNameOf(ch *catalog.Chain) string { return chain.OpenSpan(ch).Copies[0].Topic }

// Moves in a row, the leader dying at another point in each.
func TestMovesInARow(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 2, "a", nil)
	ws := []*writer{f.writer(topic, 0, 100), f.writer(topic, 1, 101)}
	var round atomic.Int64
	points := FaultPoints[:11]
	options := func(o *Options) {
		var done atomic.Bool
		o.Fault = func(p string) error {
			if p == points[round.Load()%int64(len(points))] && done.CompareAndSwap(false, true) {
				return Crashed()
			}
			return nil
		}
	}
	for i := range len(points) {
		round.Store(int64(i))
		f.controller(options)
		f.controller() // stands by
		for _, w := range ws {
			w.append(2)
		}
		op := f.done(f.move([]string{"b", "a"}[i%2], "orders"))
		if op.State != catalog.OpDone {
			t.Fatalf("round %d: %+v", i, op)
		}
	}
	for _, w := range ws {
		w.append(1)
		w.verify()
		if n := len(f.chain(topic, w.p).Spans); n != len(points)+1 {
			t.Errorf("%d spans after %d moves", n, len(points))
		}
	}
	f.until("the states of earlier seals to be dropped", func() bool {
		refs, err := f.cat.ProducerRefs(f.ctx, topic.ID)
		f.check(err)
		return len(refs) == len(ws)
	})
	for _, w := range ws {
		if _, err := f.cat.Producers(f.ctx, f.chain(topic, w.p).Sealed); err != nil {
			t.Error(err)
		}
	}
}

// A seal of a controller that is gone lands after its extend was undone: the
// topic does not stay sealed.
func TestLateSealIsRepaired(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(3)
	old := physicalNameOf(f.chain(topic, 0))
	f.doubles["a"].set(func() { f.doubles["a"].topics[old].sealed = true })
	f.controller(func(o *Options) { o.StrayAfter = 30 * time.Millisecond })
	w.append(2)
	w.verify()
	if now := chain.OpenSpan(f.chain(topic, 0)).Copies[0]; now.Cluster != "a" || now.Topic == old {
		t.Errorf("open on %+v", now)
	}
}

// dies gives options that stop the controller at a point, once.
func dies(point string) (func(*Options), chan struct{}) {
	died := make(chan struct{})
	var once atomic.Bool
	return func(o *Options) {
		o.Fault = func(p string) error {
			if p == point && once.CompareAndSwap(false, true) {
				close(died)
				return Crashed()
			}
			return nil
		}
	}, died
}

func (f *fleet) await(died chan struct{}) {
	f.t.Helper()
	select {
	case <-died:
	case <-f.ctx.Done():
		f.t.Fatal("the point was never reached")
	}
}

func TestControllerDiesAtEachPointOfADeletion(t *testing.T) {
	t.Parallel()
	for _, point := range []string{FaultDeleteSealed, FaultDeleteGone} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 2, "a", nil)
			f.writer(topic, 0, 100).append(2)
			change, died := dies(point)
			f.controller(change)
			f.check(f.admin.DeleteTopic(f.ctx, catalog.DefaultTenant, topic.ID))
			f.await(died)
			f.controller()
			f.until("the topic to be gone", func() bool {
				left := 0
				f.doubles["a"].set(func() { left = len(f.doubles["a"].topics) })
				s, err := f.watch.Refresh(f.ctx)
				f.check(err)
				return left == 0 && s.TopicByID(topic.ID) == nil
			})
		})
	}
}

// Stranded records are taken in once, whichever controller ends what another began.
func TestControllerDiesAtEachPointOfAReturn(t *testing.T) {
	t.Parallel()
	for _, point := range []string{FaultReplayed, FaultRestored} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
			w := f.writer(topic, 0, 100)
			w.append(2)
			sp := chain.OpenSpan(f.chain(topic, 0))
			h := &doubleHandle{d: f.doubles["a"], topic: topicOf(sp)}
			f.doubles["a"].set(func() {
				if _, err := h.append(oneBatch(999, 0, 0, 3, time.Now(), "lonely")); err != nil {
					t.Error(err)
				}
				f.doubles["a"].away = true
			})
			change, died := dies(point)
			f.controller(change)
			f.gateway(1, w)
			f.until("the failover", func() bool { return chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster == "b" })
			w.append(2)
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			f.await(died)
			f.controller()
			f.until("the return", func() bool {
				return !sealedOn(f.chain(topic, 0), "a", true) && f.watch.Snapshot().Extend(topic.ID) == nil
			})
			have := f.records(topic, 0)
			if len(have) != len(w.acked)+3 {
				t.Errorf("%d records, want %d: %v", len(have), len(w.acked)+3, have)
			}
			for at, v := range w.acked {
				if have[at] != v {
					t.Errorf("offset %d: acknowledged %q, read %q", at, v, have[at])
				}
			}
		})
	}
}
