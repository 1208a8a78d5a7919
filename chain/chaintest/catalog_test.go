package chaintest

import (
	"context"
	"sync"
	"testing"

	"github.com/braidstream/braid/chain"
)

// Trims of a topic's partitions at the same time, with a move among them, are all kept:
// the real catalog compares before it sets, and so must its double.
func TestNoChangeIsLostToAnother(t *testing.T) {
	const partitions, rounds = 32, 50
	ctx := context.Background()
	for range rounds {
		f := NewFleet("a", "b")
		id, err := f.CreateTopic(ctx, "orders", "a", partitions)
		if err != nil {
			t.Fatal(err)
		}
		views := []*View{f.Catalog.View(), f.Catalog.View()}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := f.MoveTopic(ctx, id, "b"); err != nil {
				t.Error(err)
			}
		})
		for p := range int32(partitions) {
			wg.Go(func() {
				if err := views[p%2].TrimStart(ctx, id, p, 7); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for p := range int32(partitions) {
			c := f.Catalog.Chain(id, p)
			if c.Start != 7 || chain.OpenSpan(&c).Copies[0].Cluster != "b" {
				t.Fatalf("partition %d: %+v", p, c)
			}
			for i, v := range views {
				if seen, _, err := v.Chain(id, p); err != nil || seen.Start != 7 || chain.OpenSpan(seen).Copies[0].Cluster != "b" {
					t.Fatalf("view %d of partition %d: %+v, %v", i, p, seen, err)
				}
			}
		}
		f.Close()
	}
}
