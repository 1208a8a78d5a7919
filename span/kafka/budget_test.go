package kafka

import (
	"context"
	"testing"
	"testing/synctest"
)

// asks has an owner wait for room in the background, and tells when it has it.
func asks(ctx context.Context, b *budget, owner string) chan error {
	got := make(chan error, 1)
	go func() { got <- b.begin(ctx, owner) }()
	synctest.Wait()
	return got
}

// One owner takes all that it gets; another reads as soon as there is room at all, and what comes free while it reads is
// shared. Alone again, the first has all of it.
func TestOwnersShareTheReadBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		had := func(owner string, n int64) { b.add(n); b.own(owner, n); b.end(owner) }
		release := func(owner string, n int64) { b.own(owner, -n); b.add(-n); synctest.Wait() }
		for i := range 10 {
			if len(asks(t.Context(), b, "noisy")) != 1 {
				t.Fatalf("alone it stops at %d", 10*i)
			}
			had("noisy", 10)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, owner := range []string{"noisy", "quiet", ""} {
			if len(asks(ctx, b, owner)) != 0 {
				t.Fatalf("%q has room where there is none", owner)
			}
		}
		cancel()
		synctest.Wait()
		noisy, quiet := asks(t.Context(), b, "noisy"), asks(t.Context(), b, "quiet")
		release("noisy", 10)
		if len(quiet) != 1 || len(noisy) != 0 {
			t.Fatalf("of what came free: the quiet one %d, the noisy one %d", len(quiet), len(noisy))
		}
		had("quiet", 10)
		for own := 80; own >= 40; own -= 10 {
			release("noisy", 10)
			if may := own < 100-own-10; (len(noisy) == 1) != may {
				t.Fatalf("with %d beside another's 10: %v", own, len(noisy) == 1)
			}
		}
		had("noisy", 60)
		// Who reads is there, also before it has anything, and who gives up is not.
		release("quiet", 10)
		quiet = asks(t.Context(), b, "quiet")
		ctx, cancel = context.WithCancel(t.Context())
		noisy = asks(t.Context(), b, "noisy")
		release("noisy", 10)
		if len(quiet) != 1 || len(noisy) != 0 {
			t.Fatalf("beside a read under way: the quiet one %d, the noisy one %d", len(quiet), len(noisy))
		}
		b.end("quiet")
		synctest.Wait()
		if len(noisy) != 1 {
			t.Fatal("it waits though nobody else is there")
		}
		had("noisy", 10)
		quiet, noisy = asks(ctx, b, "quiet"), asks(t.Context(), b, "noisy")
		cancel()
		synctest.Wait()
		release("noisy", 5)
		if err := <-quiet; err == nil || len(noisy) != 1 {
			t.Fatalf("who gave up is in the way: %v, %d", err, len(noisy))
		}
		b.end("noisy")
		if len(b.reads) != 0 || b.waiting != 0 || len(b.by) != 1 || b.used() != 95 {
			t.Errorf("%+v", b)
		}
	})
}
