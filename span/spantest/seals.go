package spantest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/span"
)

// probe proves what it says, and appends nothing.
func (e *env) probe() {
	t := e.create(2)
	l := e.log(t, 1)
	e.mustPut(l, e.plain(now(), "a"))
	for range 3 {
		if err := l.Probe(e.ctx); err != nil {
			e.Fatalf("probe: %v", err)
		}
	}
	if o := e.offsets(l); o.End != 1 {
		e.Fatalf("a probe appended something: %+v", o)
	}
	if !e.sealable() {
		return
	}
	e.mustSeal(t)
	for p := range int32(2) {
		e.wantErr("probe", e.log(t, p).Probe(e.ctx), span.ErrSealed)
	}
	if o := e.offsets(l); o.End != 1 {
		e.Fatalf("a probe appended something: %+v", o)
	}
}

func (e *env) seal() {
	if !e.sealable() {
		return
	}
	t := e.create(3)
	ts := now()
	e.mustPut(e.log(t, 0), e.plain(ts+5, "a", "b"))
	e.mustPut(e.log(t, 0), e.plain(ts+3, "c"))
	e.mustPut(e.log(t, 1), e.plain(ts+7, "d"))
	if _, err := e.log(t, 1).DeleteBefore(e.ctx, 1); err != nil {
		e.Fatal(err)
	}
	ends := e.mustSeal(t)
	if len(ends) != 3 || !sameEnd(ends[0], span.End{Partition: 0, Start: 0, End: 3, MaxTimestamp: ts + 5}) ||
		ends[1].Start != 1 || ends[1].End != 1 || !sameEnd(ends[2], span.End{Partition: 2, MaxTimestamp: -1}) {
		e.Fatalf("ends %+v", ends)
	}
	for range 2 {
		if again := e.mustSeal(t); !slices.EqualFunc(again, ends, sameEnd) {
			e.Fatalf("sealed again: %+v, want %+v", again, ends)
		}
	}
	id := nextProducer()
	for p := range int32(3) {
		l := e.log(t, p)
		for _, b := range [][]byte{e.plain(ts, "late"), e.produced(id, 0, 0, ts, "late")} {
			a := e.put(l, b)
			e.wantErr("append to a sealed partition", a.Err, span.ErrSealed)
		}
		if o := e.offsets(l); o.End != ends[p].End || o.HighWatermark != o.End {
			e.Fatalf("partition %d grew: %+v, end %d", p, o, ends[p].End)
		}
	}
	// Configure leaves the seal alone.
	if err := e.s.Configure(e.ctx, t, map[string]string{"retention.ms": "-1"}); err != nil {
		e.Fatal(err)
	}
	e.wantErr("append after configure", e.put(e.log(t, 0), e.plain(ts, "late")).Err, span.ErrSealed)
	// A topic sealed while empty stays so.
	empty := e.create(1)
	if ends := e.mustSeal(empty); !sameEnd(ends[0], span.End{MaxTimestamp: -1}) {
		e.Fatalf("ends of an empty topic %+v", ends)
	}
}

// sealUnderFire: after Seal has returned nothing lands, whoever sends it, and
// everything acknowledged is below the end.
func (e *env) sealUnderFire() {
	if !e.sealable() {
		return
	}
	const partitions, appenders = 3, 12
	t := e.create(partitions)
	ts := now()
	var sealed atomic.Bool
	var mu sync.Mutex
	acked := make([]map[int64]string, partitions)
	for i := range acked {
		acked[i] = map[int64]string{}
	}
	var wg sync.WaitGroup
	var acks atomic.Int64
	under := make(chan struct{})
	var once sync.Once
	errs := make(chan error, appenders)
	for w := range appenders {
		p := w % partitions
		l := e.log(t, int32(p))
		id := nextProducer()
		wg.Go(func() {
			late := 0
			for i := int32(0); late < 20; i++ {
				value := fmt.Sprintf("%d/%d", w, i)
				b := e.plain(ts, value)
				if w%2 == 0 {
					b = e.produced(id, 0, i, ts, value)
				}
				after := sealed.Load()
				a := <-e.start(l, b)
				switch {
				case a.Err == nil && after:
					errs <- fmt.Errorf("appender %d: %s landed at %d after the seal", w, value, a.BaseOffset)
					return
				case a.Err == nil:
					mu.Lock()
					acked[p][a.BaseOffset] = value
					mu.Unlock()
					if acks.Add(1) == 200 {
						once.Do(func() { close(under) })
					}
				case errors.Is(a.Err, span.ErrSealed):
					if after {
						late++
					}
					i-- // the sequence was not used
				default:
					errs <- fmt.Errorf("appender %d: %w", w, a.Err)
					return
				}
			}
		})
	}
	select {
	case <-under:
	case err := <-errs:
		e.Fatal(err)
	case <-time.After(e.caps.Patience):
		e.Fatal("appenders do not get on")
	}
	ends := e.mustSeal(t)
	sealed.Store(true)
	wg.Wait()
	close(errs)
	for err := range errs {
		e.Fatal(err)
	}
	for p := range int32(partitions) {
		l := e.log(t, p)
		if o := e.offsets(l); o.End != ends[p].End || o.HighWatermark != ends[p].End {
			e.Fatalf("partition %d: %+v, sealed at %d", p, o, ends[p].End)
		}
		got := e.all(l, 0)
		if int64(len(got)) != ends[p].End {
			e.Fatalf("partition %d holds %d records, sealed at %d", p, len(got), ends[p].End)
		}
		for offset, value := range acked[p] {
			if offset >= ends[p].End || got[offset].value != value {
				e.Fatalf("partition %d: %q was acknowledged at %d of %d", p, value, offset, ends[p].End)
			}
		}
	}
}

// sealedFIFO: what was submitted behind an append that was refused by the seal, before
// that was known, is refused as well.
func (e *env) sealedFIFO() {
	if !e.sealable() {
		return
	}
	ts := now()
	for round := range 5 {
		t := e.create(1)
		l := e.log(t, 0)
		var mu sync.Mutex
		first := -1 // the first refused
		known := make(chan struct{})
		var wg sync.WaitGroup
		const n = 300
		appends := make([]*span.Append, n)
		before := make([]bool, n) // submitted before the first refusal was known
		finished := make(chan error, 1)
		go func() {
			_, err := e.s.Seal(e.ctx, t)
			finished <- err
		}()
		for i := range n {
			a := &span.Append{Batch: e.plain(ts, fmt.Sprintf("%d/%d", round, i)), Deadline: time.Now().Add(e.caps.Patience)}
			wg.Add(1)
			a.Done = func(a *span.Append) {
				mu.Lock()
				if errors.Is(a.Err, span.ErrSealed) && first < 0 {
					first = i
					close(known)
				}
				mu.Unlock()
				wg.Done()
			}
			appends[i] = a
			mu.Lock()
			before[i] = first < 0
			mu.Unlock()
			l.Append(a)
		}
		if err := <-finished; err != nil {
			e.Fatal(err)
		}
		wg.Wait()
		refused := false
		for i, a := range appends {
			switch {
			case errors.Is(a.Err, span.ErrSealed):
				refused = true
			case a.Err != nil:
				e.Fatalf("append %d: %v", i, a.Err)
			case refused && before[i]:
				e.Fatalf("append %d landed at %d behind one that was refused", i, a.BaseOffset)
			}
		}
	}
}

func (e *env) sealedReads() {
	if !e.sealable() {
		return
	}
	t := e.create(1)
	l := e.log(t, 0)
	ts := now()
	for i := range 10 {
		e.mustPut(l, e.plain(ts+int64(i), fmt.Sprint(i)))
	}
	e.mustSeal(t)
	if got := e.all(l, 0); len(got) != 10 {
		e.Fatalf("sealed log holds %v", got)
	}
	if at, found, err := l.OffsetFor(e.ctx, ts+5); err != nil || !found || at.Offset != 5 {
		e.Fatalf("by time: %+v, %v, %v", at, found, err)
	}
	got, r := e.read(l, span.ReadRequest{Offset: 10, MaxWait: 20 * time.Millisecond})
	if len(got) != 0 {
		e.Fatalf("past the end: %v", got)
	}
	r.Release()
	if start, err := l.DeleteBefore(e.ctx, 4); err != nil || start != 4 {
		e.Fatalf("trim a sealed log: %d, %v", start, err)
	}
}

// producersAfterSeal: the state covers exactly what is below the end.
func (e *env) producersAfterSeal() {
	if !e.sealable() {
		return
	}
	t := e.create(1)
	l := e.log(t, 0)
	ts := now()
	a, b := nextProducer(), nextProducer()
	for i := range int32(7) {
		e.mustPut(l, e.produced(a, 2, i*2, ts+int64(i), "x", "y")) // offsets 0..13
	}
	e.mustPut(l, e.produced(b, 0, 9, ts, "z")) // 14
	e.mustPut(l, e.plain(ts, "nobody"))        // 15
	ends := e.mustSeal(t)
	for range 3 {
		a := e.put(l, e.produced(a, 2, 14, ts, "late"))
		e.wantErr("late append", a.Err, span.ErrSealed)
	}
	list, err := l.Producers(e.ctx)
	if err != nil {
		e.Fatal(err)
	}
	if len(list) != 2 {
		e.Fatalf("producers %+v", list)
	}
	pa, pb := e.producer(l, a), e.producer(l, b)
	if pa.Epoch != 2 || pa.LastSequence != 13 || pa.TxnStart != -1 || pa.LastOffset != 13 && pa.LastOffset != -1 {
		e.Fatalf("producer %+v", pa)
	}
	if pb.Epoch != 0 || pb.LastSequence != 9 || pb.LastOffset != 14 && pb.LastOffset != -1 {
		e.Fatalf("producer %+v", pb)
	}
	if ends[0].End != 16 {
		e.Fatalf("ends %+v", ends)
	}
	if !e.caps.ProducerBatches {
		return
	}
	if len(pa.Batches) != 5 || pa.LastOffset != 13 || len(pb.Batches) != 1 {
		e.Fatalf("batches %+v, %+v", pa, pb)
	}
	for i, got := range pa.Batches {
		n := int64(i + 2)
		want := span.ProducedBatch{FirstSequence: int32(2 * n), LastSequence: int32(2*n + 1), FirstOffset: 2 * n, LastOffset: 2*n + 1, Timestamp: ts + n}
		if got != want {
			e.Fatalf("batch %d: %+v, want %+v", i, got, want)
		}
	}
}

// restart: nothing that was acknowledged is lost, forgotten or changed.
func (e *env) restart() {
	if e.caps.Restart == nil {
		return // nothing to restart behind this store
	}
	t := e.create(2)
	l := e.s.Log(t, 1)
	ts := now()
	id := nextProducer()
	last := e.produced(id, 1, 4, ts, "c")
	e.mustPut(l, e.plain(ts, "a"))
	e.mustPut(l, e.produced(id, 1, 3, ts, "b"))
	e.mustPut(l, last)
	if _, err := l.DeleteBefore(e.ctx, 1); err != nil {
		e.Fatal(err)
	}
	l.Release()
	e.s = e.caps.Restart(e.T, e.s)
	l = e.s.Log(t, 1)
	if o := e.offsets(l); o.Start != 1 || o.End != 3 {
		e.Fatalf("after restart: %+v", o)
	}
	if got := e.all(l, 1); len(got) != 2 || got[1].value != "c" {
		e.Fatalf("after restart: %v", got)
	}
	if a := e.mustPut(l, last); !a.Duplicate || a.BaseOffset != 2 && a.BaseOffset != -1 {
		e.Fatalf("repeat after restart: %+v", a)
	}
	e.mustPut(l, e.produced(id, 1, 5, ts, "d"))
	if e.caps.NoSeal {
		l.Release()
		return
	}
	ends := e.mustSeal(t)
	l.Release()
	e.s = e.caps.Restart(e.T, e.s)
	l = e.s.Log(t, 1)
	e.wantErr("append after restart", e.put(l, e.plain(ts, "late")).Err, span.ErrSealed)
	if again := e.mustSeal(t); !slices.EqualFunc(again, ends, sameEnd) {
		e.Fatalf("ends %+v, before the restart %+v", again, ends)
	}
	l.Release()
	if err := e.s.Delete(e.ctx, t); err != nil {
		e.Fatal(err)
	}
	e.s = e.caps.Restart(e.T, e.s)
	l = e.s.Log(t, 1)
	defer l.Release()
	e.untilGone("append after the restart", func() error { return e.put(l, e.plain(ts, "late")).Err })
}
