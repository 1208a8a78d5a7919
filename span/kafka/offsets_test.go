package kafka_test

import (
	"sync"
	"testing"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
)

// TestOffsetsAskedTogether: questions for the offsets of many partitions of two
// topics, several of each at once, share requests. Each gets the answer to its own.
func TestOffsetsAskedTogether(t *testing.T) {
	const partitions = 4
	s := open(t, testkit.Kafka(t))
	var logs []span.Log
	var ends []int64
	for n := range 2 {
		topic := create(t, s, partitions, nil)
		for p := range partitions {
			l := s.Log(topic, int32(p))
			defer l.Release()
			logs = append(logs, l)
			ends = append(ends, int64(1+n*partitions+p))
			if a := appendSync(t, l, oneBatch(t, 1+n*partitions+p, "v")); a.Err != nil {
				t.Fatal(a.Err)
			}
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		for i, l := range logs {
			wg.Go(func() {
				o, err := l.Offsets(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if want := (span.Offsets{HighWatermark: ends[i], LastStable: ends[i], End: ends[i], LeaderEpoch: o.LeaderEpoch}); o != want {
					t.Errorf("log %d: %+v, not %+v", i, o, want)
				}
			})
		}
	}
	wg.Wait()
}
