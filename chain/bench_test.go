package chain_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// instant is a store that takes every append at once: what is left is the cost
// of this package.
type instant struct {
	span.Store
	log instantLog
}

type instantLog struct {
	span.Log
	next atomic.Int64
}

func (s *instant) Log(span.Topic, int32) span.Log { return &s.log }
func (l *instantLog) Release()                    {}
func (l *instantLog) Append(a *span.Append) {
	a.BaseOffset, a.Err = l.next.Add(1)-1, nil
	a.Done(a)
}
func (l *instantLog) Read(context.Context, span.ReadRequest) (span.ReadResult, error) {
	return span.ReadResult{}, span.ErrUnavailable
}

type oneStore struct{ s span.Store }

func (o oneStore) Store(string) (span.Store, error) { return o.s, nil }

func benchAppend(b *testing.B, producer int64, cacheBytes int64) {
	w := newWorld(b, "a")
	s := &instant{}
	logs := chain.NewLogs(chain.Options{Source: w.fleet.Catalog.View(), Stores: oneStore{s}, CacheBytes: cacheBytes})
	defer logs.Close()
	p, err := logs.Partition(w.topic, 0)
	w.must(err)
	raw, h := records(b, string(make([]byte, 1000)), 1, producer, 0, 0)
	a := &chain.Append{Batch: raw, Header: h, Done: func(*chain.Append) {}}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p.Append(a)
		if a.Err != nil {
			b.Fatal(a.Err)
		}
	}
}

func BenchmarkAppendPlain(b *testing.B)      { benchAppend(b, -1, 0) }
func BenchmarkAppendIdempotent(b *testing.B) { benchAppend(b, 7, 0) }
func BenchmarkAppendUncached(b *testing.B)   { benchAppend(b, 7, -1) }

func BenchmarkReadTail(b *testing.B) {
	w := newWorld(b, "a")
	s := &instant{}
	logs := chain.NewLogs(chain.Options{Source: w.fleet.Catalog.View(), Stores: oneStore{s}})
	defer logs.Close()
	p, err := logs.Partition(w.topic, 0)
	w.must(err)
	raw, h := records(b, string(make([]byte, 1000)), 1, -1, -1, -1)
	const n = 20000
	for range n {
		p.Append(&chain.Append{Batch: raw, Header: h, Done: func(*chain.Append) {}})
	}
	var bytes int64
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		res, err := p.Read(w.ctx, chain.ReadRequest{Offset: int64(i*100) % n, MaxBytes: 100 << 10, ClientEpoch: -1, LastFetchedEpoch: -1})
		if err != nil {
			b.Fatal(err)
		}
		bytes += int64(len(res.Batches))
		res.Release()
	}
	b.SetBytes(bytes / int64(b.N))
}
