package controller

import (
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Of large batches the end of a span is read as far as the limit allows, and the last one whatever its size: what was read is no doubt.
func TestTailOfLargeBatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		sizes []int // of batches, each of one record
		least int   // batches that are read
	}{
		{name: "64 of 100 KB", sizes: slices.Repeat([]int{100_000}, 64), least: 16},
		{name: "100 of 900 KB", sizes: slices.Repeat([]int{900_000}, 100), least: 2},
		{name: "small ones before one of 5 MB", sizes: append(slices.Repeat([]int{100}, 30), 5_000_000), least: 1},
		{name: "small ones behind one of 5 MB", sizes: append([]int{5_000_000}, slices.Repeat([]int{100}, 30)...), least: 15},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := newDouble("a")
			made, err := d.Create(t.Context(), span.Spec{Name: "x", Partitions: 1})
			if err != nil {
				t.Fatal(err)
			}
			h := &doubleHandle{d: d, topic: made}
			var acked []catalog.AckedBatch
			d.mu.Lock()
			for i, n := range tc.sizes {
				b := oneBatch(100, 0, int32(i), 1, time.Unix(1, 0), string(make([]byte, n)))
				at, err := h.append(b)
				if err != nil {
					t.Fatal(err)
				}
				acked = append(acked, catalog.AckedBatch{Offset: at, Records: 1})
			}
			d.mu.Unlock()
			const delta = 1000
			end := int64(len(tc.sizes))
			for i := range acked {
				acked[i].Offset += delta
			}
			ev := &evidence{end: catalog.SealedEnd{Start: delta, End: delta + end, Physical: end, Delta: delta}, reports: []catalog.AckReport{{Tail: acked}}}
			from, tail, err := readTail(t.Context(), h, ev)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(tail); n < tc.least || tail[0].offset != from || tail[n-1].next != delta+end || int64(n) != delta+end-from {
				t.Errorf("%d batches from %d to %d, of %d", n, from-delta, tail[n-1].next-delta, end)
			}
		})
	}
}
