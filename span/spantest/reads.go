package spantest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

func (e *env) midBatch() {
	l := e.log(e.create(1), 0)
	ts := now()
	for i := range 3 {
		e.mustPut(l, e.plain(ts, fmt.Sprint(i, "a"), fmt.Sprint(i, "b"), fmt.Sprint(i, "c")))
	}
	for offset := range int64(9) {
		res, err := l.Read(e.ctx, span.ReadRequest{Offset: offset, MaxBytes: 1 << 20})
		if err != nil {
			e.Fatal(err)
		}
		h, _, err := batch.Parse(res.Batches)
		if err != nil || h.BaseOffset > offset || h.LastOffset() < offset {
			e.Fatalf("read at %d begins with batch %+v, %v", offset, h, err)
		}
		got := e.records(res.Batches, offset)
		if len(got) == 0 || got[0].offset != offset {
			e.Fatalf("read at %d got %v", offset, got)
		}
		res.Release()
	}
}

func (e *env) maxBytes() {
	l := e.log(e.create(1), 0)
	ts := now()
	big := strings.Repeat("x", 100_000)
	for range 4 {
		e.mustPut(l, e.plain(ts, big))
	}
	size := int64(len(e.plain(ts, big)))
	for _, limit := range []int{1, int(size) - 1, int(size), int(2*size) - 1} {
		got, r := e.read(l, span.ReadRequest{Offset: 1, MaxBytes: limit})
		if len(got) < 1 || got[0].offset != 1 {
			e.Fatalf("limit %d: %d records", limit, len(got))
		}
		// Soft, but a limit.
		if int64(len(r.Batches)) > max(int64(limit), size) {
			e.Fatalf("limit %d: %d bytes", limit, len(r.Batches))
		}
		r.Release()
	}
	got, r := e.read(l, span.ReadRequest{Offset: 0, MaxBytes: 1 << 20})
	if len(got) < 1 || got[0].offset != 0 {
		e.Fatalf("%d records", len(got))
	}
	r.Release()
}

func (e *env) readBounds() {
	l := e.log(e.create(1), 0)
	e.mustPut(l, e.plain(now(), "a", "b"))
	got, r := e.read(l, span.ReadRequest{Offset: 2})
	if len(got) != 0 || r.HighWatermark != 2 || r.Start != 0 {
		e.Fatalf("read at the end: %v, %+v", got, r)
	}
	r.Release()
	for _, offset := range []int64{-1, 3, 1 << 40} {
		res, err := l.Read(e.ctx, span.ReadRequest{Offset: offset, MaxWait: 10 * time.Millisecond})
		if res.Release == nil {
			e.Fatal("no release")
		}
		res.Release()
		e.wantErr(fmt.Sprint("read at ", offset), err, span.ErrOffsetOutOfRange)
	}
}

func (e *env) longPoll() {
	l := e.log(e.create(1), 0)
	e.mustPut(l, e.plain(now(), "a"))
	type result struct {
		n   int
		err error
	}
	wait := func(ctx context.Context, maxWait time.Duration) <-chan result {
		out := make(chan result, 1)
		go func() {
			res, err := l.Read(ctx, span.ReadRequest{Offset: 1, MaxWait: maxWait})
			out <- result{len(res.Batches), err}
			res.Release()
		}()
		return out
	}
	began := time.Now()
	waiting := wait(e.ctx, 2*e.caps.Patience)
	e.mustPut(l, e.plain(now(), "b"))
	if r := <-waiting; r.err != nil || r.n == 0 {
		e.Fatalf("woken read: %+v", r)
	}
	if took := time.Since(began); took > e.caps.Patience {
		e.Fatalf("woken after %v", took)
	}
	// Nothing comes: it ends when its time is over, with nothing.
	res, err := l.Read(e.ctx, span.ReadRequest{Offset: 2, MaxWait: 50 * time.Millisecond})
	if err != nil || len(res.Batches) > 0 {
		e.Fatalf("read at the end: %d bytes, %v", len(res.Batches), err)
	}
	res.Release()
	ctx, cancel := context.WithCancel(e.ctx)
	out := make(chan error, 1)
	go func() {
		res, err := l.Read(ctx, span.ReadRequest{Offset: 2, MaxWait: 2 * e.caps.Patience})
		res.Release()
		out <- err
	}()
	cancel()
	select {
	case err := <-out:
		if !errors.Is(err, context.Canceled) {
			e.Fatalf("cancelled read: %v", err)
		}
	case <-time.After(e.caps.Patience):
		e.Fatal("cancelled read goes on")
	}
}

func (e *env) timestamps() {
	l := e.log(e.create(1), 0)
	if at, found, err := l.OffsetFor(e.ctx, 0); err != nil || found {
		e.Fatalf("empty log: %+v, %v, %v", at, found, err)
	}
	if at, found, err := l.OffsetFor(e.ctx, span.MaxTimestamp); err != nil || found {
		e.Fatalf("empty log: %+v, %v, %v", at, found, err)
	}
	base := now()
	// Offsets 0 to 5; times are not sorted, as producers' clocks are not.
	times := []int64{10, 30, 20, 60, 40, 50}
	b := batch.NewBuilder()
	for _, t := range times[:4] {
		b.Add(batch.Record{Timestamp: base + t, Value: []byte("x")})
	}
	raw, err := b.Build()
	if err != nil {
		e.Fatal(err)
	}
	e.mustPut(l, raw)
	e.mustPut(l, e.plain(base+times[4], "y"))
	e.mustPut(l, e.plain(base+times[5], "z"))
	for _, c := range []struct {
		ms   int64
		want int64 // -1: none
	}{{0, 0}, {10, 0}, {11, 1}, {30, 1}, {31, 3}, {60, 3}, {61, -1}} {
		at, found, err := l.OffsetFor(e.ctx, base+c.ms)
		if err != nil {
			e.Fatal(err)
		}
		if found != (c.want >= 0) || found && (at.Offset != c.want || at.Timestamp != base+times[c.want]) {
			e.Fatalf("at or after %d: %+v %v, want offset %d", c.ms, at, found, c.want)
		}
	}
	at, found, err := l.OffsetFor(e.ctx, span.MaxTimestamp)
	if err != nil || !found || at.Timestamp != base+60 || at.Offset != 3 {
		e.Fatalf("largest: %+v, %v, %v", at, found, err)
	}
}

func (e *env) deleteBefore() {
	l := e.log(e.create(1), 0)
	ts := now()
	for i := range 5 {
		e.mustPut(l, e.plain(ts, fmt.Sprint(2*i), fmt.Sprint(2*i+1)))
	}
	for _, c := range []struct{ before, start int64 }{{3, 3}, {2, 3}, {10, 10}} {
		start, err := l.DeleteBefore(e.ctx, c.before)
		if err != nil || start != c.start {
			e.Fatalf("delete before %d: start %d, %v, want %d", c.before, start, err, c.start)
		}
		if o := e.offsets(l); o.Start != c.start || o.End != 10 {
			e.Fatalf("delete before %d: %+v", c.before, o)
		}
		res, err := l.Read(e.ctx, span.ReadRequest{Offset: c.start - 1})
		res.Release()
		e.wantErr("read below the start", err, span.ErrOffsetOutOfRange)
		if got := e.all(l, c.start); len(got) != int(10-c.start) {
			e.Fatalf("delete before %d leaves %v", c.before, got)
		}
	}
	_, err := l.DeleteBefore(e.ctx, 11)
	e.wantErr("delete past the end", err, span.ErrOffsetOutOfRange)
	if a := e.mustPut(l, e.plain(ts, "next")); a.BaseOffset != 10 || a.LogStart != 10 {
		e.Fatalf("append after: %+v", a)
	}
}

// sizes: where a store measures, the bytes are those of each partition's batches.
func (e *env) sizes() {
	m, ok := e.s.(span.Sizer)
	if !ok {
		return
	}
	t := e.create(2)
	want := []int64{0, 0}
	for i := range 5 {
		b := e.plain(now(), strings.Repeat("v", 1000*(i+1)))
		e.mustPut(e.log(t, 1), b)
		want[1] += int64(len(b))
	}
	sizes, err := m.Sizes(e.ctx, t)
	if err != nil || !slices.Equal(sizes, want) {
		e.Fatalf("sizes %v, %v, want %v", sizes, err, want)
	}
	e.mustSeal(t)
	if sizes, err = m.Sizes(e.ctx, t); err != nil || !slices.Equal(sizes, want) {
		e.Fatalf("sizes of a sealed topic: %v, %v, want %v", sizes, err, want)
	}
	if many, ok := m.(span.ManySizer); ok {
		other, never := e.create(3), span.Topic{Name: "never", ID: [16]byte{9, 9}}
		got := many.SizesOfMany(e.ctx, []span.Topic{t, never, other})
		if len(got) != 2 || !slices.Equal(got[t.ID], want) || !slices.Equal(got[other.ID], []int64{0, 0, 0}) {
			e.Fatalf("sizes of many topics: %v", got)
		}
	}
	if err := e.s.Delete(e.ctx, t); err != nil {
		e.Fatal(err)
	}
	e.untilGone("sizes", func() error { _, err := m.Sizes(e.ctx, t); return err })
}

func (e *env) transactions() {
	if !e.caps.Control {
		return // only their own coordinators may write them there
	}
	l := e.log(e.create(1), 0)
	a, b := nextProducer(), nextProducer()
	ts := now()
	txn := func(id int64, seq int32, v string) []byte {
		return e.build(batch.NewBuilder().Producer(id, 0, seq).Transactional(), ts, v)
	}
	marker := func(id int64, epoch int16, commit bool) []byte {
		raw, err := batch.Marker{Commit: commit, CoordinatorEpoch: 1, ProducerID: id, ProducerEpoch: epoch, Timestamp: ts}.Build()
		if err != nil {
			e.Fatal(err)
		}
		return raw
	}
	stable := func(want int64) {
		e.Helper()
		if o := e.offsets(l); o.LastStable != want {
			e.Fatalf("last stable offset %d, want %d (%+v)", o.LastStable, want, o)
		}
	}
	e.mustPut(l, e.plain(ts, "0"))
	e.mustPut(l, txn(a, 0, "1"))
	e.mustPut(l, txn(b, 0, "2"))
	e.mustPut(l, e.plain(ts, "3"))
	stable(1)
	res, err := l.Read(e.ctx, span.ReadRequest{Offset: 0, Committed: true, MaxBytes: 1 << 20})
	if err != nil || len(e.records(res.Batches, 0)) != 1 || res.LastStable != 1 {
		e.Fatalf("committed read: %+v, %v", res, err)
	}
	res.Release()
	res, err = l.Read(e.ctx, span.ReadRequest{Offset: 1, Committed: true, MaxBytes: 1 << 20})
	if err != nil || len(res.Batches) > 0 {
		e.Fatalf("committed read at the last stable offset: %d bytes, %v", len(res.Batches), err)
	}
	res.Release()
	// told is what an answer says, if anything.
	told := func(a *span.Append, want int64) {
		e.Helper()
		if a.LastStable != -1 && a.LastStable != want {
			e.Fatalf("the answer to an append tells %d as the last stable offset, want %d", a.LastStable, want)
		}
		stable(want)
	}
	told(e.mustPut(l, marker(b, 0, false)), 1) // 4
	told(e.mustPut(l, marker(a, 0, true)), 6)  // 5
	res, err = l.Read(e.ctx, span.ReadRequest{Offset: 0, Committed: true, MaxBytes: 1 << 20})
	if err != nil || len(e.records(res.Batches, 0)) != 4 || len(res.Aborted) != 1 || res.Aborted[0] != (span.Aborted{ProducerID: b, FirstOffset: 2}) {
		e.Fatalf("committed read: %+v, %v", res.Aborted, err)
	}
	res.Release()
	// Past the aborted transaction it is not named any more.
	res, err = l.Read(e.ctx, span.ReadRequest{Offset: 5, Committed: true, MaxBytes: 1 << 20})
	if err != nil || len(res.Aborted) != 0 {
		e.Fatalf("committed read at 5: %+v, %v", res.Aborted, err)
	}
	res.Release()
	// An open transaction shows in the producer's state, and its end too.
	e.mustPut(l, txn(a, 1, "6"))
	if p := e.producer(l, a); p.TxnStart != 6 {
		e.Fatalf("producer %+v, want an open transaction from 6", p)
	}
	e.mustPut(l, marker(a, 1, false)) // 7, of a new epoch: it fences
	if p := e.producer(l, a); p.TxnStart != -1 || p.Epoch != 1 || p.LastSequence != -1 {
		e.Fatalf("producer %+v after an abort with a new epoch", p)
	}
	stable(8)
	late := e.put(l, txn(a, 2, "late"))
	e.wantCode("the old epoch", late.Err, 47)
}

func (e *env) producer(l span.Log, id int64) span.Producer {
	e.Helper()
	list, err := l.Producers(e.ctx)
	if err != nil {
		e.Fatal(err)
	}
	for _, p := range list {
		if p.ID == id {
			return p
		}
	}
	e.Fatalf("producer %d is not among %+v", id, list)
	return span.Producer{}
}
