package chain

import "testing"

// Memory that several partitions' tails share is charged to the cache once, as
// long as any piece lies in it, and given back when nothing refers to it.
func TestSharedLoanIsChargedOnce(t *testing.T) {
	released := 0
	l := Lend(make([]byte, 1000), 4096, func() { released++ })
	var a, b tail
	if n := a.add(&l.c, 0, 400, 0, 4, 0); n != 4096 {
		t.Errorf("the first piece is charged with %d bytes, want 4096", n)
	}
	if n := b.add(&l.c, 400, 700, 10, 13, 0) + a.add(&l.c, 700, 1000, 4, 7, 0); n != 0 {
		t.Errorf("further pieces are charged with %d bytes", n)
	}
	l.Release()
	if n := a.clear(); n != 0 || released != 0 {
		t.Errorf("with a piece left the cache shrank by %d, released %d times", n, released)
	}
	if n := b.clear(); n != 4096 || released != 1 {
		t.Errorf("with the last piece the cache shrank by %d, released %d times", n, released)
	}
	small := Lend(make([]byte, 10), 1<<20, func() {})
	if !small.c.wasteful(10) || small.c.wasteful(1<<19) {
		t.Error("a lent megabyte is to be kept for half of it, not for ten bytes")
	}
}
