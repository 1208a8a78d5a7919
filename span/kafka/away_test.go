package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// TestAwayCluster: when no broker answers, appends do not wait for their deadlines, since those
// of other clusters may wait with them. Whatever was sent has an unknown outcome, the rest did
// not land, none overtakes another, and all goes on when the cluster is back.
func TestAwayCluster(t *testing.T) {
	for name, hangs := range map[string]bool{"refuses": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, 1, 1, 0)
			s := openAt(t, f.bootstrap(), func(o *kafka.Options) { o.AwayAfter = 300 * time.Millisecond })
			l := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
			defer l.Release()
			done := make(chan *span.Append, 10)
			send := func(seq int32) {
				l.Append(&span.Append{Batch: producerBatch(t, 1<<40, 0, seq, 1, fmt.Sprint("a", seq)),
					Deadline: time.Now().Add(2 * patience), Done: func(a *span.Append) { done <- a }})
			}
			send(0)
			if a := <-done; a.Err != nil {
				t.Fatal(a.Err)
			}
			// Somebody asks for the cluster's health all the time, as gateways do.
			ctx, stop := context.WithCancel(t.Context())
			var asking sync.WaitGroup
			asking.Go(func() {
				tick := time.NewTicker(200 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					_, _ = s.Health(ctx) // the store itself remembers what it said
					select {
					case <-tick.C:
					case <-ctx.Done():
					}
				}
			})
			defer asking.Wait()
			defer stop()
			if hangs {
				f.mu.Lock()
			} else {
				f.close()
			}
			for round := range 2 {
				begin := time.Now()
				for seq := range int32(4) {
					send(seq + 1)
				}
				for range 4 {
					a := <-done
					if !errors.Is(a.Err, span.ErrUnavailable) && !(hangs && errors.Is(a.Err, span.ErrUnknownOutcome)) {
						t.Errorf("round %d: %v", round, a.Err)
					}
				}
				took := time.Since(begin)
				t.Logf("round %d: answered after %v", round, took)
				if took > patience { // far from the deadline
					t.Errorf("round %d: it took %v", round, took)
				}
			}
			if !hangs {
				return
			}
			f.mu.Unlock()
			waitFor(t, "the cluster to be back", func() bool {
				send(1)
				return (<-done).Err == nil
			})
			for seq := range int32(4) {
				send(seq + 1)
				if a := <-done; a.Err != nil || a.BaseOffset != int64(seq)+1 {
					t.Errorf("%d: at %d, %v", seq+1, a.BaseOffset, a.Err)
				}
			}
			if got := fmt.Sprint(f.values(0)); got != "[a0 a1 a2 a3 a4]" {
				t.Errorf("the log holds %v", got)
			}
		})
	}
}
