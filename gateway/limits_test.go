package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/braidstream/braid/tenant/usage"
)

// A tenant whose requests are stuck has half of the room beside others, and all of it alone.
func TestRoomIsSharedByTenants(t *testing.T) {
	several := true
	b := &byteBudget{max: 100, shared: func() bool { return several }, of: (*usage.Account).Taken}
	var l usage.Ledger
	stuck, other := l.Account("stuck"), l.Account("other")
	over, cancel := context.WithCancel(t.Context())
	cancel()
	b.take(60, stuck)
	if b.wait(over, stuck) == nil {
		t.Error("more than half of the room")
	}
	if err := b.wait(over, other); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	several = false
	if err := b.wait(over, stuck); err != nil {
		t.Errorf("alone: %v", err)
	}
	several = true
	ended := make(chan error, 2)
	wait := func(of *usage.Account) {
		go func() { ended <- b.wait(t.Context(), of) }()
		eventually(t, func() error {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.room == nil {
				return context.DeadlineExceeded
			}
			return nil
		})
	}
	// What makes room for the tenant alone, and what makes room for all, wakes who waits.
	wait(stuck)
	b.put(30, stuck)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b.take(70, other)
	if b.wait(over, stuck) == nil {
		t.Error("no room is left")
	}
	wait(stuck)
	b.put(70, other)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if b.used.Load() != 30 || stuck.InFlight() != 30 || other.InFlight() != 0 {
		t.Error("what was given back counts")
	}
}

// A put of a tenant that waits makes room for it while another makes room in the whole:
// whichever is done last, whoever waits is woken.
func TestRoomThatTwoMakeWakesWhoWaits(t *testing.T) {
	var l usage.Ledger
	one, other := l.Account("one"), l.Account("other")
	b := &byteBudget{max: 100, shared: func() bool { return true }, of: (*usage.Account).Taken}
	b.take(40, one)
	b.take(60, other)
	b.room = make(chan struct{}) // one's connection waits
	b.between = func() {
		b.between = nil
		b.put(20, other)
		select {
		case <-b.room:
			t.Fatal("closed, and left there")
		default:
		}
		if b.room == nil && b.full(one) {
			b.room = make(chan struct{}) // it was woken, found no room, and waits again
		}
	}
	b.put(20, one)
	if b.full(one) {
		t.Fatal("there is no room")
	}
	if b.room != nil {
		t.Error("there is room, and who waits for it was not woken")
	}
}

// Frames that come slowly hold their room for minutes: those of one tenant, or of two together, leave
// some to the small requests of others, also to the last of it, and make no more than there may be.
func TestSlowFramesLeaveRoomToOthers(t *testing.T) {
	const mib, most = 1 << 20, 256 << 20
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var l usage.Ledger
	b := &byteBudget{max: most, shared: func() bool { return true }, of: (*usage.Account).Arriving}
	one, two := l.Account("one"), l.Account("two")
	in := func(of *usage.Account, n int64) bool { return b.acquire(over, nil, n, of) == nil }
	for i, c := range []struct {
		of   *usage.Account
		size int64
		in   bool
	}{
		{one, 28 * mib, true}, {one, 99 * mib, true}, {one, 99 * mib, false},
		{two, 99 * mib, true}, {two, 99 * mib, false}, {two, 99 * mib, false}, {one, 20 * mib, false},
	} {
		if got := in(c.of, c.size); got != c.in {
			t.Errorf("frame %d: let in: %v", i, got)
		}
	}
	if n := b.used.Load(); n != 226*mib {
		t.Errorf("%d bytes are held", n)
	}
	// Others fill the rest; who comes after all of them has its small requests let in.
	for i := range 64 {
		of := l.Account(fmt.Sprint("more", i))
		for size := int64(30 * mib); size > mib; size /= 2 {
			for in(of, size) {
			}
		}
	}
	if n := b.used.Load(); n > most || n < most-2*mib {
		t.Errorf("%d bytes are held", n)
	}
	for i := range 40 {
		quiet := l.Account(fmt.Sprint("quiet", i))
		for range 5 {
			if !in(quiet, 200_000) {
				t.Fatalf("small tenant %d waits", i)
			}
		}
		for in(quiet, 200_000) {
		}
		if n := quiet.Arriving(0); n > mib {
			t.Errorf("tenant %d has %d bytes beyond the bound", i, n)
		}
	}
	for i := range 200 {
		in(l.Account(fmt.Sprint("late", i)), mib)
	}
	if n := b.used.Load(); n > most+most/4+mib {
		t.Errorf("%d bytes are held", n)
	}
}

// What waits for a place is woken when others give theirs back, also while more is held than there may be.
func TestFramesThatWaitAreWoken(t *testing.T) {
	const mib = 1 << 20
	var l usage.Ledger
	b := &byteBudget{max: 64 * mib, shared: func() bool { return true }, of: (*usage.Account).Arriving}
	big, late := l.Account("big"), l.Account("late")
	b.take(90*mib, big)
	done := make(chan error, 1)
	go func() { done <- b.acquire(t.Context(), nil, mib, late) }()
	eventually(t, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.room == nil {
			return context.DeadlineExceeded
		}
		return nil
	})
	b.put(15*mib, big)
	if err := <-done; err != nil {
		t.Error(err)
	}
	// A frame larger than all there may be is let in once its owner and most of the others have nothing.
	go func() { done <- b.acquire(t.Context(), nil, 100*mib, l.Account("huge")) }()
	b.put(75*mib, big)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Room that becomes free is left to the owner that waits for longest because of others, and those are told.
func TestWhoWaitsForOthersIsFirst(t *testing.T) {
	const mib = 1 << 20
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var l usage.Ledger
	told := make(chan *usage.Account, 1)
	b := &byteBudget{max: 64 * mib, shared: func() bool { return true }, of: (*usage.Account).Arriving, patience: time.Millisecond,
		hurry: func(of *usage.Account, still func() bool) {
			if !still() {
				return
			}
			select {
			case told <- of:
			default:
			}
		}}
	big, two, quiet, late := l.Account("big"), l.Account("two"), l.Account("quiet"), l.Account("late")
	b.take(40*mib, big)
	b.take(24*mib, two)
	done := make(chan error, 1)
	go func() { done <- b.acquire(t.Context(), nil, 20*mib, quiet) }()
	if of := <-told; of != quiet {
		t.Error("another one is told of")
	}
	b.put(10*mib, two)
	if b.acquire(over, nil, 8*mib, late) == nil {
		t.Error("who comes later has the room that another one waits for")
	}
	if err := b.acquire(over, nil, mib, late); err != nil {
		t.Errorf("a small request: %v", err)
	}
	b.put(mib, late)
	b.put(14*mib, two)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(b.line); n != 0 {
		t.Errorf("%d in the line", n)
	}
	// Who waits for what it has itself hurries nobody, nor is it in anybody's way.
	if b.acquire(over, nil, 30*mib, quiet) == nil || len(b.line) != 0 {
		t.Errorf("%d in the line", len(b.line))
	}
	// Who gives up is not in the way either.
	if b.acquire(over, nil, 30*mib, late) == nil || len(b.line) != 0 {
		t.Errorf("%d in the line", len(b.line))
	}
}
