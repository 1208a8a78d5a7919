package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestPenaltiesGrowAndPass(t *testing.T) {
	p := newPenalties(100*time.Millisecond, 5*time.Second)
	now := time.Now()
	one, two := origin("10.0.0.1"), origin("10.0.0.2")
	for i, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		if d := p.failed(one, "alice", now); d != want*time.Millisecond {
			t.Errorf("failure %d: %v, want %v", i, d, want)
		}
	}
	if d := p.failed(two, "bob", now); d != 100*time.Millisecond {
		t.Errorf("another address, another user: %v", d)
	}
	if d := p.failed(two, "alice", now); d != 5*time.Second {
		t.Errorf("another address, the same user: %v", d)
	}
	if d := p.failed(one, "", now.Add(time.Hour)); d != 100*time.Millisecond {
		t.Errorf("an hour later: %v", d)
	}
	// A machine with IPv6 has as many addresses as it likes.
	if origin("2001:db8::1") != origin("2001:db8::2:3") || origin("::ffff:10.0.0.1") != one || origin("fe80::1%eth0") != origin("fe80::2") || origin("pipe") != origin("") {
		t.Error("addresses of one origin are told apart")
	}
}

func TestPenaltiesAreBounded(t *testing.T) {
	p := newPenalties(time.Millisecond, time.Second)
	now := time.Now()
	for i := range 3 * maxScores {
		p.failed(origin(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), fmt.Sprint("user", i), now)
	}
	if len(p.addresses) > maxScores || len(p.users) > maxScores {
		t.Errorf("%d addresses, %d users", len(p.addresses), len(p.users))
	}
}

// While an address has as many in the delay as it may, further ones wait; others do not.
func TestTurns(t *testing.T) {
	p := newPenalties(time.Millisecond, time.Second)
	one, two := origin("10.0.0.1"), origin("10.0.0.2")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	for range maxDelayed {
		go func() {
			p.delay(ctx, one, time.Now().Add(time.Hour))
			done <- struct{}{}
		}()
	}
	eventually(t, func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.delayed[one] < maxDelayed {
			return fmt.Errorf("%d", p.delayed[one])
		}
		return nil
	})
	over, stop := context.WithCancel(t.Context())
	stop()
	if err := p.turn(over, one); err == nil {
		t.Error("a turn though there is no room")
	}
	if err := p.turn(t.Context(), two); err != nil {
		t.Error(err)
	}
	turn := make(chan error, 1)
	go func() { turn <- p.turn(t.Context(), one) }()
	cancel()
	for range maxDelayed {
		<-done
	}
	if err := <-turn; err != nil {
		t.Error(err)
	}
	if len(p.delayed) != 0 {
		t.Errorf("%v", p.delayed)
	}
}
