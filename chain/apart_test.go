package chain_test

import (
	"bytes"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/chain"
)

// Batches apart are patched as those in one piece are, and end where those end.
func TestReadApart(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	g := w.gateway(func(o *chain.Options) { o.CacheBytes = -1 })
	for range 3 {
		g.send("a", 3, -1, -1, -1).wait()
	}
	w.move("b")
	for range 3 {
		g.send("b", 2, -1, -1, -1).wait()
	}
	w.move("c")
	g.put("open")
	apart := 0
	for at := range int64(16) {
		r := read(at)
		want, err := g.p.Read(w.ctx, r)
		w.must(err)
		r.Apart = true
		got, err := g.p.Read(w.ctx, r)
		w.must(err)
		var have []byte
		for _, b := range got.Apart {
			have = append(append(have, b.Header...), b.Rest...)
			apart++
		}
		if !bytes.Equal(have, want.Batches) || len(got.Batches) > 0 || got.Size() != len(have) || got.Next() != want.Next() {
			t.Fatalf("at %d: %d bytes up to %d, want %d up to %d", at, got.Size(), got.Next(), len(want.Batches), want.Next())
		}
		for h := range batch.Walk(have) {
			if h.PartitionLeaderEpoch != got.Epoch && at >= 15 {
				t.Fatalf("at %d: epoch %d of %d", at, h.PartitionLeaderEpoch, got.Epoch)
			}
		}
		want.Release()
		got.Release()
	}
	if apart == 0 {
		t.Fatal("nothing came apart")
	}
}
