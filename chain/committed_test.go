package chain_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// withTransactions makes a store tell of a transaction: open from stable on, with
// an aborted one before.
type withTransactions struct {
	span.Store
	stable atomic.Int64 // physical; -1: everything
}

type transactionalLog struct {
	span.Log
	s *withTransactions
}

func (s *withTransactions) Log(t span.Topic, p int32) span.Log {
	return &transactionalLog{s.Store.Log(t, p), s}
}

func (l *transactionalLog) Read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	stable := l.s.stable.Load()
	if stable >= 0 && r.Committed && r.Offset >= stable {
		r.MaxBytes = 1
	}
	res, err := l.Log.Read(ctx, r)
	if err != nil || stable < 0 {
		return res, err
	}
	res.LastStable = stable
	if r.Committed {
		res.Aborted = []span.Aborted{{ProducerID: 9, FirstOffset: stable - 1}}
		res.Batches = res.Batches[:0]
		if r.Offset < stable {
			// One batch is enough for the test; it lies below the stable offset.
			r.MaxBytes, r.Committed = 1, false
			one, err := l.Log.Read(ctx, r)
			if err != nil {
				return res, err
			}
			res.Batches = one.Batches
		}
	}
	return res, nil
}

func TestReadCommittedStopsAtTheLastStableOffset(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.gateway().put("zero")
	w.move("b") // so that offsets differ: physical 0 is logical 1
	writer := w.gateway()
	for range 4 {
		writer.put("x")
	}
	tx := &withTransactions{Store: w.fleet.Clients().Of("b")}
	tx.stable.Store(2)
	logs := chain.NewLogs(chain.Options{Source: w.fleet.Catalog.View(), Stores: oneStore{tx}})
	t.Cleanup(func() {
		logs.Close()
		w.must(tx.Store.Close())
	})
	p, err := logs.Partition(w.topic, 0)
	w.must(err)
	q := read(2)
	q.Committed = true
	res, err := p.Read(w.ctx, q)
	w.must(err)
	fs := decode(t, res.Batches)
	if len(fs) != 1 || fs[0].offset != 2 || res.LastStable != 3 || res.HighWatermark != 5 {
		t.Fatalf("%v, stable %d, high watermark %d", fs, res.LastStable, res.HighWatermark)
	}
	if len(res.Aborted) != 1 || res.Aborted[0] != (span.Aborted{ProducerID: 9, FirstOffset: 2}) {
		t.Fatalf("%+v", res.Aborted)
	}
	res.Release()
	// Cached by another reader, the rest is still not given out.
	plain := read(1)
	if res, err := p.Read(w.ctx, plain); err != nil || len(decode(t, res.Batches)) != 4 {
		t.Fatal(err)
	}
	woken := make(chan struct{})
	cancel := p.Notify(5, func() { close(woken) })
	defer cancel()
	q.Offset = 3
	if res, err := p.Read(w.ctx, q); err != nil || len(res.Batches) > 0 {
		t.Fatalf("%v, %v", decode(t, res.Batches), err)
	}
	// The transaction ends.
	tx.stable.Store(-1)
	writer.put("next")
	select {
	case <-woken:
	case <-time.After(patience):
		t.Fatal("never woken")
	}
	eventually(t, "the rest is stable", func() bool {
		res, err := p.Read(w.ctx, q)
		w.must(err)
		defer res.Release()
		return len(res.Batches) > 0 && decode(t, res.Batches)[0].offset == 3
	})
}
