package controller

import (
	"fmt"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
)

// BenchmarkMoveOf1000Topics moves a thousand topics of one partition
// as one operation between embedded clusters.
func BenchmarkMoveOf1000Topics(b *testing.B) {
	benchmarkMoves(b, 1000)
}

func benchmarkMoves(b *testing.B, n int) {
	f, es := localFleet(b, "a", "b")
	f.controller(func(o *Options) { o.Stores = es })
	names := make([]string, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range names {
		names[i] = fmt.Sprintf("topic-%04d", i)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f.topic(names[i], 1, "a", nil)
		})
	}
	wg.Wait()
	b.ResetTimer()
	for i := range b.N {
		if op := f.done(f.move([]string{"b", "a"}[i%2], names...)); op.State != catalog.OpDone || op.Done != n {
			b.Fatalf("%+v", op)
		}
	}
}
