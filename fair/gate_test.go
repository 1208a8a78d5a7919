package fair

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// enter has somebody enter in the background, and tells when it has.
func enter(ctx context.Context, g *Gate, owner string) (in chan Pass, failed chan error) {
	in, failed = make(chan Pass, 1), make(chan error, 1)
	go func() {
		p, err := g.Enter(ctx, owner)
		if err != nil {
			failed <- err
			return
		}
		in <- p
	}()
	synctest.Wait()
	return in, failed
}

func within(t *testing.T, in chan Pass) Pass {
	t.Helper()
	synctest.Wait()
	select {
	case p := <-in:
		return p
	default:
		t.Fatal("it has no turn")
		return Pass{}
	}
}

func waits(t *testing.T, in chan Pass) {
	t.Helper()
	synctest.Wait()
	if len(in) != 0 {
		t.Fatal("it has a turn")
	}
}

// While one floods, another's piece of work waits only for those within.
func TestGateLetsTheQuietOwnerIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2, time.Hour)
		var inside, rest []chan Pass
		for i := range 20 {
			in, _ := enter(t.Context(), g, "noisy")
			if i < 2 {
				inside = append(inside, in)
			} else {
				rest = append(rest, in)
			}
		}
		if g.Waiting() != 18 {
			t.Fatalf("%d wait", g.Waiting())
		}
		one, two := within(t, inside[0]), within(t, inside[1])
		for _, in := range rest {
			waits(t, in)
		}
		quiet, _ := enter(t.Context(), g, "quiet")
		waits(t, quiet)
		time.Sleep(time.Millisecond)
		one.Leave(0)
		p := within(t, quiet)
		if p.Waited() != time.Millisecond {
			t.Errorf("waited %v", p.Waited())
		}
		p.Leave(0)
		two.Leave(0)
		for _, in := range rest {
			p := within(t, in)
			p.Leave(0)
		}
		if s := g.state.Load(); s != 0 {
			t.Errorf("state %x at the end", s)
		}
	})
}

// Of two that flood each has half of the time, however long its pieces take.
func TestGateDividesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(2, time.Hour)
		ctx, stop := context.WithCancel(t.Context())
		var mu sync.Mutex
		had := map[string]time.Duration{}
		var all sync.WaitGroup
		for owner, takes := range map[string]time.Duration{"short": time.Millisecond, "long": 5 * time.Millisecond} {
			for range 10 {
				all.Go(func() {
					for ctx.Err() == nil {
						p, err := g.Enter(ctx, owner)
						if err != nil {
							return
						}
						time.Sleep(takes)
						p.Leave(0)
						mu.Lock()
						had[owner] += takes
						mu.Unlock()
					}
				})
			}
		}
		time.Sleep(2 * time.Second)
		stop()
		all.Wait()
		if s, l := had["short"], had["long"]; s+l < 3900*time.Millisecond || s > l+100*time.Millisecond || l > s+100*time.Millisecond {
			t.Errorf("short pieces had %v, long ones %v", s, l)
		}
		if s := g.state.Load(); s != 0 {
			t.Errorf("state %x at the end", s)
		}
	})
}

// What was used outside of the gate counts too.
func TestGateCountsWhatIsPaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, time.Hour)
		first, _ := enter(t.Context(), g, "a")
		p := within(t, first)
		a, _ := enter(t.Context(), g, "a")
		b, _ := enter(t.Context(), g, "b")
		g.Pay("a", int64(time.Millisecond))
		g.Pay("b", int64(2*time.Millisecond))
		p.Leave(0)
		p = within(t, a)
		waits(t, b)
		p.Leave(0)
		p = within(t, b)
		p.Leave(0)
	})
}

// Those within wait for something: others go on one after the other.
func TestGateDoesNotStandStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, 10*time.Millisecond)
		first, _ := enter(t.Context(), g, "a")
		stuck := within(t, first)
		one, _ := enter(t.Context(), g, "a")
		two, _ := enter(t.Context(), g, "b")
		time.Sleep(9 * time.Millisecond)
		waits(t, one)
		time.Sleep(time.Millisecond)
		first = one
		p := within(t, first)
		waits(t, two)
		time.Sleep(10 * time.Millisecond)
		q := within(t, two)
		three, _ := enter(t.Context(), g, "b")
		p.Leave(0)
		q.Leave(0)
		waits(t, three)
		stuck.Leave(0)
		p = within(t, three)
		p.Leave(0)
		if s := g.state.Load(); s != 0 {
			t.Errorf("state %x at the end", s)
		}
	})
}

// Who gives up waiting takes no place, not even one that it was given meanwhile.
func TestGateForgetsWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, time.Hour)
		first, _ := enter(t.Context(), g, "a")
		p := within(t, first)
		ctx, cancel := context.WithCancel(t.Context())
		gone, failed := enter(ctx, g, "b")
		next, _ := enter(t.Context(), g, "a")
		cancel()
		synctest.Wait()
		if len(gone) != 0 || len(failed) != 1 || g.Waiting() != 1 {
			t.Fatalf("%d have turns, %d failed, %d wait", len(gone), len(failed), g.Waiting())
		}
		p.Leave(0)
		p = within(t, next)
		p.Leave(0)
		var none Pass
		none.Leave(0)
		if none.Held() || g.state.Load() != 0 {
			t.Errorf("state %x at the end", g.state.Load())
		}
	})
}

// Many owners at once, with and without patience: nothing is lost, and never are more within
// than there are places.
func TestGateUnderLoad(t *testing.T) {
	t.Parallel()
	g := NewGate(3, time.Hour)
	var all sync.WaitGroup
	var mu sync.Mutex
	in, most, served := 0, 0, 0
	for i := range 50 {
		all.Go(func() {
			for k := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+k)%7 == 0 {
					cancel() // it may have a turn all the same
				}
				p, err := g.Enter(ctx, fmt.Sprint(i%5))
				if err == nil {
					mu.Lock()
					in++
					most = max(most, in)
					served++
					mu.Unlock()
					mu.Lock()
					in--
					mu.Unlock()
					p.Leave(int64(i))
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most > 3 || served < 50*200*5/7 || g.state.Load() != 0 || g.line.Len() > g.Waiting()+50*200 {
		t.Errorf("%d within at most, %d served, state %x", most, served, g.state.Load())
	}
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(1<<20, time.Hour)
	ctx := context.Background()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := g.Enter(ctx, "a")
			if err != nil {
				b.Fatal(err)
			}
			p.Leave(0)
		}
	})
}
