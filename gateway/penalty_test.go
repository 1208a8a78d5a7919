package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestPenaltiesGrowAndPass(t *testing.T) {
	t.Parallel()
	p := newPenalties(100*time.Millisecond, 5*time.Second, time.Minute)
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
	t.Parallel()
	p := newPenalties(time.Millisecond, time.Second, time.Minute)
	now := time.Now()
	for i := range 3 * maxScores {
		p.failed(origin(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), fmt.Sprint("user", i), now)
	}
	if len(p.addresses) > maxScores || len(p.users) > maxScores {
		t.Errorf("%d addresses, %d users", len(p.addresses), len(p.users))
	}
}

// The failures of an address that has many in the delay are answered as late as can
// be, and its attempts are looked at one after the other; others' are not.
func TestCrowdedAddresses(t *testing.T) {
	t.Parallel()
	p := newPenalties(time.Millisecond, time.Second, time.Minute)
	one, two := origin("10.0.0.1"), origin("10.0.0.2")
	now := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	for range maxDelayed {
		go func() {
			p.delay(ctx, one, time.Now().Add(time.Hour))
			ended <- struct{}{}
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
	if d := p.failed(one, "", now); d != time.Minute {
		t.Errorf("a failure of the crowd: %v", d)
	}
	if d := p.failed(two, "", now); d != time.Millisecond {
		t.Errorf("a failure of another: %v", d)
	}
	done, err := p.turn(t.Context(), one, nobody)
	if err != nil {
		t.Fatal(err)
	}
	over, stop := context.WithCancel(t.Context())
	stop()
	if _, err := p.turn(over, one, nobody); err == nil {
		t.Error("two of the crowd at the same time")
	}
	for range 2 {
		free, err := p.turn(t.Context(), two, nobody)
		if err != nil {
			t.Fatal(err)
		}
		defer free()
	}
	next := make(chan func())
	go func() {
		done, err := p.turn(t.Context(), one, nobody)
		if err != nil {
			t.Error(err)
		}
		next <- done
	}()
	done()
	(<-next)()
	cancel()
	for range maxDelayed {
		<-ended
	}
	if len(p.delayed)+len(p.looking) != 0 || p.leftOf(one) != maxDelayed {
		t.Errorf("%v %v", p.delayed, p.looking)
	}
}

// nobody is looked after.
func nobody() func() { return func() {} }

// Those who left count for their address until their time is over, and are bounded.
func TestWhoLeavesCountsForItsAddress(t *testing.T) {
	t.Parallel()
	p := newPenalties(time.Millisecond, time.Second, time.Minute)
	one, two := origin("10.0.0.1"), origin("10.0.0.2")
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range maxDelayed {
		p.leave(one, now.Add(time.Duration(maxDelayed-i)*time.Second), now)
	}
	if !p.crowded(one, now) || p.crowded(two, now) || p.crowded(one, now.Add(time.Second)) || p.leftBy(one, now.Add(3*time.Second)) != maxDelayed-3 {
		t.Errorf("%d left", p.leftBy(one, now))
	}
	if p.leftBy(one, now.Add(time.Hour)) != 0 || len(p.left) != 0 || p.leavers != 0 {
		t.Errorf("%v, %d", p.left, p.leavers)
	}
	for i := range 2 * maxLeavers {
		p.leave(origin(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), now.Add(time.Minute), now)
	}
	if p.leavers != maxLeavers || len(p.left) != maxLeavers {
		t.Errorf("%d leavers of %d", p.leavers, len(p.left))
	}
	if p.leave(two, now.Add(2*time.Minute), now.Add(time.Minute)); p.leavers != 1 || p.leftBy(two, now.Add(time.Minute)) != 1 {
		t.Errorf("%d leavers after their time", p.leavers)
	}
}
