package gateway

import (
	"context"
	"testing"

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
