package kafka

import (
	"context"
	"testing"
	"testing/synctest"
)

// asks has an owner wait for room in the background, and tells when it has it.
func asks(ctx context.Context, b *budget, owner string) chan error {
	got := make(chan error, 1)
	go func() { got <- b.wait(ctx, owner) }()
	synctest.Wait()
	return got
}

// One owner takes all that it gets; another reads as soon as there is room at all, and what comes free while it reads is
// shared. Alone again, the first has all of it.
func TestOwnersShareTheReadBuffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100)
		read := func(owner string, n int64) { b.add(n); b.own(owner, n) }
		done := func(owner string, n int64) { b.own(owner, -n); b.add(-n) }
		may := func(owner string) bool {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			got := asks(ctx, b, owner)
			cancel()
			return <-got == nil
		}
		for i := range 10 {
			if !may("noisy") {
				t.Fatalf("alone it stops at %d", 10*i)
			}
			read("noisy", 10)
		}
		if may("noisy") || may("quiet") || may("") {
			t.Fatal("nobody has room")
		}
		more, quiet := asks(t.Context(), b, "noisy"), asks(t.Context(), b, "quiet")
		done("noisy", 10)
		synctest.Wait()
		if len(quiet) != 1 || len(more) != 0 {
			t.Fatalf("of what came free: the quiet one %d, the noisy one %d", len(quiet), len(more))
		}
		<-quiet
		read("quiet", 10)
		for own := 90; own > 40; own -= 10 {
			done("noisy", 10)
			synctest.Wait()
			if got := own-10 <= 40; (len(more) == 1) != got {
				t.Fatalf("with %d beside another: %v", own-10, len(more) == 1)
			}
		}
		<-more
		// It wants no more than it has, and who gave up waiting is in nobody's way.
		ctx, cancel := context.WithCancel(t.Context())
		done("quiet", 10)
		read("noisy", 60)
		gone := asks(ctx, b, "quiet")
		more = asks(t.Context(), b, "noisy")
		done("noisy", 10)
		synctest.Wait()
		if len(gone) != 1 || len(more) != 0 {
			t.Fatalf("the one that comes back %d, the noisy one %d", len(gone), len(more))
		}
		<-gone
		read("quiet", 10)
		gone = asks(ctx, b, "quiet")
		done("quiet", 10)
		synctest.Wait()
		if len(gone) != 1 {
			t.Fatal("the quiet one waits though it has none")
		}
		cancel()
		synctest.Wait()
		if len(more) != 1 {
			t.Fatal("the noisy one waits though nobody else is there")
		}
		if len(b.asking) != 0 || b.by["quiet"] != 0 || b.used() != 90 {
			t.Errorf("%v %v %d", b.asking, b.by, b.used())
		}
	})
}
