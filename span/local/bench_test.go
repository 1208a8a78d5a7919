package local_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

// resident is the process's resident memory in bytes.
func resident(b *testing.B) int64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc") // only reported where it can be told
	}
	var size, rss int64
	if _, err := fmt.Sscan(string(raw), &size, &rss); err != nil {
		b.Fatal(err)
	}
	return rss * int64(os.Getpagesize())
}

// BenchmarkProduce keeps a number of appends in flight, over six partitions.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10, 1000 << 10} {
		for _, deep := range []int{1, 64} {
			b.Run(fmt.Sprintf("%dKiB-%d-in-flight", size>>10, deep), func(b *testing.B) {
				s := open(b, b.TempDir())
				defer s.Close()
				topic := create(b, s, "t", 6)
				logs := make([]span.Log, 6)
				for i := range logs {
					logs[i] = s.Log(topic, int32(i))
				}
				raw := made(b, time.Now().UnixMilli(), string(make([]byte, size)))
				free := make(chan *span.Append, deep)
				for range deep {
					free <- &span.Append{Batch: raw, Done: func(a *span.Append) { free <- a }}
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					a := <-free
					if a.Err != nil {
						b.Fatal(a.Err)
					}
					logs[i%6].Append(a)
				}
				for range deep {
					<-free
				}
				b.StopTimer()
				st := s.Stats()
				b.ReportMetric(float64(st.LogBytes+st.SegmentBytes+st.CheckpointBytes)/float64(int64(b.N)*int64(len(raw))), "written/byte")
				b.ReportMetric(float64(b.N)/float64(max(st.Syncs, 1)), "appends/sync")
			})
		}
	}
}

// BenchmarkTail reads what was just written, by several readers.
func BenchmarkTail(b *testing.B) {
	s := open(b, b.TempDir())
	defer s.Close()
	topic := create(b, s, "t", 1)
	l := s.Log(topic, 0)
	raw := made(b, time.Now().UnixMilli(), string(make([]byte, 16<<10)))
	for range 1000 {
		mustPut(b, l, raw)
	}
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		offset := int64(0)
		for pb.Next() {
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 1 << 20})
			if err != nil {
				b.Error(err)
				return
			}
			offset = (offset + 60) % 900
			r.Release()
		}
	})
}

// BenchmarkCold reads from segments.
func BenchmarkCold(b *testing.B) {
	s := open(b, b.TempDir(), func(o *local.Options) { o.MemoryBudget = 4 << 20 })
	defer s.Close()
	topic := create(b, s, "t", 1)
	l := s.Log(topic, 0)
	raw := made(b, time.Now().UnixMilli(), string(make([]byte, 16<<10)))
	var wg sync.WaitGroup
	const n = 16000
	for range n {
		wg.Add(1)
		l.Append(&span.Append{Batch: raw, Done: func(*span.Append) { wg.Done() }})
	}
	wg.Wait()
	if err := s.FlushNow(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	offset := int64(0)
	for b.Loop() {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		for h := range batch.Walk(r.Batches) {
			offset = h.NextOffset()
		}
		if offset >= n-64 {
			offset = 0
		}
		r.Release()
	}
}

// BenchmarkPartitions creates 10,000 partitions, writes to all, and restarts without
// a clean stop.
func BenchmarkPartitions(b *testing.B) {
	const topics, parts = 100, 100
	for b.Loop() {
		dir := b.TempDir()
		s := open(b, dir)
		began := time.Now()
		made100 := make([]span.Topic, topics)
		var wg sync.WaitGroup
		for i := range topics {
			wg.Go(func() { made100[i] = create(b, s, fmt.Sprint("t", i), parts) })
		}
		wg.Wait()
		created := time.Since(began)
		raw := made(b, time.Now().UnixMilli(), string(make([]byte, 1<<10)))
		var failed atomic.Int64
		began = time.Now()
		for _, t := range made100 {
			for p := range int32(parts) {
				wg.Add(1)
				s.Log(t, p).Append(&span.Append{Batch: raw, Done: func(a *span.Append) {
					if a.Err != nil {
						failed.Add(1)
					}
					wg.Done()
				}})
			}
		}
		wg.Wait()
		if failed.Load() > 0 {
			b.Fatal("appends failed")
		}
		wrote := time.Since(began)
		began = time.Now()
		if err := s.FlushNow(); err != nil {
			b.Fatal(err)
		}
		flushed := time.Since(began)
		for _, t := range made100 {
			for p := range int32(parts) {
				wg.Add(1)
				s.Log(t, p).Append(&span.Append{Batch: raw, Done: func(*span.Append) { wg.Done() }})
			}
		}
		wg.Wait()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		s = open(b, dir)
		restarted := time.Since(began)
		runtime.GC()
		b.ReportMetric(float64(created.Milliseconds()), "create-ms")
		b.ReportMetric(float64(wrote.Milliseconds()), "write-ms")
		b.ReportMetric(float64(flushed.Milliseconds()), "flush-ms")
		b.ReportMetric(float64(restarted.Milliseconds()), "restart-ms")
		b.ReportMetric(float64(resident(b)>>20), "resident-MB")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompaction compacts 256 MiB with 250,000 keys.
func BenchmarkCompaction(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := open(b, b.TempDir(), func(o *local.Options) { o.MemoryBudget = 8 << 20 })
		topic := create(b, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "67108864")
		l := s.Log(topic, 0)
		const records, keys, perBatch = 1 << 18, 1 << 18 / 4, 64
		value := make([]byte, 1000)
		var wg sync.WaitGroup
		window := make(chan struct{}, 64)
		for i := 0; i < records; i += perBatch {
			bb := batch.NewBuilder()
			for j := range perBatch {
				bb.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "key-%d", (i+j)*7919%keys), Value: value})
			}
			raw, err := bb.Build()
			if err != nil {
				b.Fatal(err)
			}
			wg.Add(1)
			window <- struct{}{}
			l.Append(&span.Append{Batch: raw, Done: func(*span.Append) { <-window; wg.Done() }})
		}
		wg.Wait()
		if err := s.FlushNow(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := s.CompactNow(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		b.ReportMetric(float64(resident(b)>>20), "resident-MB")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.SetBytes(256 << 20)
}
