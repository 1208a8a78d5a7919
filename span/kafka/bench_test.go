package kafka_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
)

// cpu is the user and system time of this process, which does not hold the broker.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchBatch(b *testing.B, size int) []byte {
	b.Helper()
	value := make([]byte, 1000)
	_, _ = rand.Read(value) // never fails, see crypto/rand
	bb := batch.NewBuilder()
	for bb.Size() < size {
		bb.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: value})
	}
	raw, err := bb.Build()
	if err != nil {
		b.Fatal(err)
	}
	return raw
}

func report(b *testing.B, used time.Duration, bytes int64) {
	b.Helper()
	gib := float64(bytes) / (1 << 30)
	b.ReportMetric(used.Seconds()/gib, "cpu-s/GiB")
	b.ReportMetric(float64(bytes)/(1<<20)/b.Elapsed().Seconds(), "MiB/s")
	b.ReportMetric(0, "ns/op")
}

const benchBytes = 1 << 30

// BenchmarkProduce appends a GiB to 6 partitions; the CPU is this process's alone.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			c := testkit.Shared(b)
			s := open(b, c)
			raw := benchBatch(b, size)
			for range b.N {
				topic := create(b, s, 6, map[string]string{"max.message.bytes": "4000000", "retention.bytes": "1000000"})
				b.ResetTimer()
				used := cpu(b)
				n := fill(b, s, topic, raw, benchBytes)
				report(b, cpu(b)-used, n)
				st := s.Stats()
				b.Logf("%d requests, %d batches", st.Requests, st.Batches)
				if err := s.Delete(b.Context(), topic); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fill appends total bytes to all partitions of the topic, 8 batches at a time each.
func fill(b *testing.B, s span.Store, topic span.Topic, raw []byte, total int64) int64 {
	b.Helper()
	const partitions, window = 6, 8
	each := int(total/int64(len(raw))/partitions) + 1
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			l := s.Log(topic, int32(p))
			defer l.Release()
			free := make(chan *span.Append, window)
			for range window {
				free <- &span.Append{Batch: raw, Done: func(a *span.Append) { free <- a }}
			}
			for range each {
				a := <-free
				if a.Err != nil {
					b.Error(a.Err)
					return
				}
				a.Deadline = time.Time{}
				l.Append(a)
			}
			for range window {
				if a := <-free; a.Err != nil {
					b.Error(a.Err)
				}
			}
		})
	}
	wg.Wait()
	return int64(each) * partitions * int64(len(raw))
}

// BenchmarkFetch reads a GiB from 6 partitions, as a tail feed does: with waiting reads.
func BenchmarkFetch(b *testing.B) {
	for _, size := range []int{64 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			c := testkit.Shared(b)
			s := open(b, c)
			raw := benchBatch(b, size)
			topic := create(b, s, 6, map[string]string{"max.message.bytes": "4000000"})
			n := fill(b, s, topic, raw, benchBytes)
			b.ResetTimer()
			for range b.N {
				used := cpu(b)
				var wg sync.WaitGroup
				for p := range 6 {
					wg.Go(func() {
						l := s.Log(topic, int32(p))
						defer l.Release()
						var offset int64
						for {
							r, err := l.Read(b.Context(), span.ReadRequest{Offset: offset, MaxBytes: 1 << 20, MaxWait: 500 * time.Millisecond})
							if err != nil {
								b.Error(err)
								return
							}
							for h := range batch.Walk(r.Batches) {
								offset = h.NextOffset()
							}
							end := offset >= r.HighWatermark
							r.Release()
							if end {
								return
							}
						}
					})
				}
				wg.Wait()
				report(b, cpu(b)-used, n)
			}
			b.Logf("%d fetches", s.Stats().Fetches)
			if err := s.Delete(b.Context(), topic); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSeal seals topics of 6 partitions while one appender works on each: how long it takes
// in all, and from the first refusal that an append meets to the ends.
func BenchmarkSeal(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("%d nodes", nodes), func(b *testing.B) {
			c := testkit.Shared(b, testkit.Nodes(nodes))
			s := open(b, c)
			raw := oneBatch(b, 1, "v")
			var whole, pause []time.Duration
			for range b.N {
				topic := create(b, s, 6, nil)
				var first atomic.Int64
				var wg sync.WaitGroup
				warm := make(chan struct{}, 6)
				for p := range 6 {
					wg.Go(func() {
						l := s.Log(topic, int32(p))
						defer l.Release()
						for n := 0; ; n++ {
							if a := appendSync(b, l, raw); a.Err != nil {
								first.CompareAndSwap(0, time.Now().UnixNano())
								return
							}
							if n == 5 {
								warm <- struct{}{}
							}
						}
					})
				}
				for range 6 {
					<-warm
				}
				begin := time.Now()
				if _, err := s.Seal(b.Context(), topic); err != nil {
					b.Fatal(err)
				}
				done := time.Now()
				wg.Wait()
				whole = append(whole, done.Sub(begin))
				pause = append(pause, max(0, done.Sub(time.Unix(0, first.Load()))))
				if err := s.Delete(b.Context(), topic); err != nil {
					b.Fatal(err)
				}
			}
			slices.Sort(whole)
			slices.Sort(pause)
			ms := func(d []time.Duration, q float64) float64 {
				return float64(d[int(q*float64(len(d)-1))].Microseconds()) / 1000
			}
			b.ReportMetric(ms(whole, 0.5), "ms-whole-p50")
			b.ReportMetric(ms(whole, 0.9), "ms-whole-p90")
			b.ReportMetric(ms(pause, 0.5), "ms-pause-p50")
			b.ReportMetric(ms(pause, 0.9), "ms-pause-p90")
			b.ReportMetric(0, "ns/op")
		})
	}
}
