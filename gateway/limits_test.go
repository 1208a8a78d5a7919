package gateway

import (
	"context"
	"testing"

	"github.com/braidstream/braid/tenant/usage"
)

// A tenant whose requests are stuck has half of the room beside others, and all of it alone.
func TestRoomIsSharedByTenants(t *testing.T) {
	several := true
	b := &byteBudget{max: 100, shared: func() bool { return several }}
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
