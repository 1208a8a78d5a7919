package local

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/fair"
)

// steadyColdReads is under a clock that the test moves.
func steadyColdReads() (c *coldReads, clock *atomic.Int64) {
	c, clock = newColdReads(), new(atomic.Int64)
	clock.Store(1)
	c.now = func() time.Duration { return time.Duration(clock.Load()) }
	c.patience = time.Hour
	return c, clock
}

// Cold reads take turns while the log is being synced, and only then.
func TestColdReadsTakeTurns(t *testing.T) {
	c, clock := steadyColdReads()
	var inside, most atomic.Int64
	together := func(read func()) {
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				for range 20 {
					_ = c.do(context.Background(), nil, "", func() {
						n := inside.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						read()
						inside.Add(-1)
					})
				}
			})
		}
		all.Wait()
	}
	c.logSynced(time.Millisecond)
	together(func() {})
	if most.Load() != 1 {
		t.Errorf("%d reads of the disk at a time while the log is synced", most.Load())
	}
	// Nobody appends any more: two at least must be inside for either to go on.
	clock.Add(int64(2 * syncsFor))
	both := make(chan struct{})
	var first sync.WaitGroup
	for range 2 {
		first.Go(func() {
			_ = c.do(context.Background(), nil, "", func() {
				select {
				case both <- struct{}{}:
				case <-both:
				}
			})
		})
	}
	first.Wait()
}

// Who waits for a turn goes on when the store is closed.
func TestColdReadsEnd(t *testing.T) {
	c, _ := steadyColdReads()
	c.logSynced(time.Millisecond)
	c.turn <- struct{}{} // somebody's, for good
	done, ran := make(chan struct{}), false
	close(done)
	if err := c.do(t.Context(), done, "", func() { ran = true }); err != nil || !ran {
		t.Errorf("the read was not done: %v", err)
	}
}

// Who waits for a turn leaves the line when its request is over, and reads nothing.
func TestColdReadsOfWhoIsGone(t *testing.T) {
	c, _ := steadyColdReads()
	c.logSynced(time.Millisecond)
	c.turn <- struct{}{} // somebody's, for good
	var all sync.WaitGroup
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if err := c.do(ctx, nil, "", func() { t.Error("it was read") }); !errors.Is(err, errNotWaited) {
				t.Error(err)
			}
		})
		cancel()
	}
	all.Wait()
	<-c.turn
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.do(ctx, nil, "", func() { t.Error("it was read") }); !errors.Is(err, errNotWaited) || len(c.turn) != 0 {
		t.Errorf("%v, %d have the turn", err, len(c.turn))
	}
}

// Who has waited for long reads beside whose turn it is, a few at a time.
func TestColdReadsOfALongLine(t *testing.T) {
	c, _ := steadyColdReads()
	c.patience = time.Millisecond
	c.logSynced(time.Millisecond)
	c.turn <- struct{}{} // somebody's, for good
	var inside, most, came atomic.Int64
	together := make(chan struct{})
	var all sync.WaitGroup
	for range 5 * lateReads {
		all.Go(func() {
			if err := c.do(t.Context(), nil, "", func() {
				n := inside.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				if came.Add(1) == lateReads {
					close(together)
				}
				<-together
				inside.Add(-1)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != lateReads || len(c.late) != 0 {
		t.Errorf("%d reads at a time, %d places are taken still", most.Load(), len(c.late))
	}
}

// The pause grows while syncs are slow beside reads, not by syncs that are slow without any, nor on a disk
// on which all are; and it shrinks again.
func TestColdReadsGiveWay(t *testing.T) {
	c, clock := steadyColdReads()
	step := func(read bool, took time.Duration) float64 {
		clock.Add(int64(2 * shareEvery))
		if read {
			_ = c.do(context.Background(), nil, "", func() {})
		}
		c.logSynced(took)
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.share
	}
	for range 20 {
		if got := step(false, time.Millisecond); got != leastShare {
			t.Fatalf("share %v without reads", got)
		}
	}
	if got := step(false, time.Second); got != leastShare {
		t.Fatalf("share %v after a slow sync without reads", got)
	}
	for range 200 {
		step(false, time.Millisecond)
	}
	if got := step(true, 2*time.Millisecond); got != leastShare {
		t.Fatalf("share %v after a quick sync", got)
	}
	if got := step(true, time.Second); got != 2*leastShare {
		t.Fatalf("share %v after a slow sync, want %v", got, 2*leastShare)
	}
	for range 20 {
		step(true, time.Second)
	}
	if got := step(true, time.Second); got != mostShare {
		t.Fatalf("share %v after many", got)
	}
	before := mostShare
	for range 200 {
		got := step(true, time.Millisecond)
		if got > before {
			t.Fatalf("share grows from %v to %v", before, got)
		}
		before = got
	}
	if before != leastShare {
		t.Fatalf("share %v long after", before)
	}
	for range 200 {
		step(false, 40*time.Millisecond)
	}
	if got := step(true, 50*time.Millisecond); got != leastShare {
		t.Errorf("share %v on a slow disk", got)
	}
	if got := step(true, time.Second); got != 2*leastShare {
		t.Errorf("share %v after a sync that is slow there as well", got)
	}
}

// One owner with many reads of the disk, and another with one: that waits for those within, not for the line. However many
// come, a few read at a time, also while nobody appends.
func TestColdReadsOfOwnersTakeTurns(t *testing.T) {
	c, _ := steadyColdReads()
	c.gate = fair.NewGate(coldPlaces, time.Hour)
	step := make(chan struct{})
	var inside, ended, before atomic.Int64
	var all sync.WaitGroup
	read := func(owner string) {
		all.Go(func() {
			if err := c.do(context.Background(), nil, owner, func() {
				inside.Add(1)
				<-step
				inside.Add(-1)
				if n := ended.Add(1); owner == "quiet" {
					before.Store(n)
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wait := func(what string, until func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !until(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d read, %d wait, %d ended", what, inside.Load(), c.gate.Waiting(), ended.Load())
			}
		}
	}
	const many = 60
	for range many {
		read("noisy")
	}
	wait("noisy", func() bool { return c.gate.Waiting() == many-coldPlaces && inside.Load() == coldPlaces })
	read("quiet")
	wait("quiet", func() bool { return c.gate.Waiting() == many-coldPlaces+1 })
	for i := range int64(many + 1) {
		step <- struct{}{}
		wait("step", func() bool { return ended.Load() == i+1 && inside.Load() == min(coldPlaces, many-i) })
	}
	all.Wait()
	// Those that were within, and as many as were let in before it.
	if n := before.Load(); n > 3*coldPlaces {
		t.Errorf("%d reads of another owner went before", n)
	}
}
