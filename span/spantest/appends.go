package spantest

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func (e *env) appendAndRead() {
	l := e.log(e.create(1), 0)
	if o := e.offsets(l); o.Start != 0 || o.HighWatermark != 0 || o.End != 0 || o.LastStable != 0 {
		e.Fatalf("empty log: %+v", o)
	}
	ts := now()
	var want []record
	for i := range 20 {
		var values []string
		for j := range i%3 + 1 {
			values = append(values, fmt.Sprintf("v%d-%d", i, j))
		}
		a := e.mustPut(l, e.plain(ts+int64(i), values...))
		if a.BaseOffset != int64(len(want)) || a.Duplicate || a.LogAppendTime != -1 {
			e.Fatalf("append %d: %+v, want base offset %d", i, a, len(want))
		}
		for _, v := range values {
			want = append(want, record{int64(len(want)), ts + int64(i), v})
		}
	}
	got := e.all(l, 0)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.Fatalf("read %v, want %v", got, want)
	}
	if o := e.offsets(l); o.Start != 0 || o.HighWatermark != int64(len(want)) || o.End != o.HighWatermark || o.LastStable != o.End {
		e.Fatalf("offsets %+v, want end %d", o, len(want))
	}
}

func (e *env) appendContract() {
	l := e.log(e.create(1), 0)
	var calls atomic.Int32
	done := make(chan struct{})
	raw := e.plain(now(), "value")
	before := bytes.Clone(raw)
	a := &span.Append{Batch: raw, Tag: "mine", Done: func(*span.Append) {
		calls.Add(1)
		close(done)
	}}
	l.Append(a)
	<-done
	if a.Err != nil || a.Tag != "mine" || a.LogStart != 0 {
		e.Fatalf("append: %+v", a)
	}
	if !bytes.Equal(raw, before) {
		e.Fatal("the store modified the caller's batch")
	}
	// What is read belongs to the reader, who patches it.
	_, r := e.read(l, span.ReadRequest{Offset: 0})
	batch.SetBaseOffset(r.Batches, 77)
	batch.SetLeaderEpoch(r.Batches, 99)
	r.Release()
	got, r := e.read(l, span.ReadRequest{Offset: 0})
	if len(got) != 1 || got[0].offset != 0 {
		e.Fatalf("read %v after another reader patched its copy", got)
	}
	r.Release()
	// The batch may be used again after Done.
	again := make(chan struct{})
	a.Done = func(*span.Append) {
		calls.Add(1)
		close(again)
	}
	l.Append(a)
	<-again
	if a.Err != nil || a.BaseOffset != 1 || calls.Load() != 2 {
		e.Fatalf("second append: %+v, %d calls", a, calls.Load())
	}
}

func (e *env) pipelining() {
	l := e.log(e.create(1), 0)
	const n = 2000
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	wg.Add(n)
	appends := make([]*span.Append, n)
	ts := now()
	for i := range n {
		a := &span.Append{Batch: e.plain(ts, fmt.Sprint(i)), Deadline: time.Now().Add(e.caps.Patience)}
		a.Done = func(*span.Append) {
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			wg.Done()
		}
		appends[i] = a
		l.Append(a)
	}
	wg.Wait()
	for i, a := range appends {
		if a.Err != nil {
			e.Fatalf("append %d: %v", i, a.Err)
		}
		if a.BaseOffset != int64(i) {
			e.Fatalf("append %d landed at %d", i, a.BaseOffset)
		}
	}
	for i, r := range e.all(l, 0) {
		if r.value != fmt.Sprint(i) {
			e.Fatalf("offset %d holds %q", i, r.value)
		}
	}
}

func (e *env) pipeliningProducer() {
	l := e.log(e.create(1), 0)
	id := nextProducer()
	var pending []<-chan *span.Append
	ts := now()
	for i := range int32(500) {
		pending = append(pending, e.start(l, e.produced(id, 0, 2*i, ts, fmt.Sprint(2*i), fmt.Sprint(2*i+1))))
	}
	for i, p := range pending {
		if a := e.wait(p); a.Err != nil || a.BaseOffset != int64(2*i) {
			e.Fatalf("append %d: offset %d, %v", i, a.BaseOffset, a.Err)
		}
	}
}

func (e *env) manyAppenders() {
	const appenders, each, partitions = 16, 50, 3
	t := e.create(partitions)
	var wg sync.WaitGroup
	errs := make(chan error, appenders)
	ts := now()
	for w := range appenders {
		batches := make([][]byte, each)
		for i := range batches {
			batches[i] = e.plain(ts, fmt.Sprintf("%d/%d", w, i))
		}
		l := e.log(t, int32(w%partitions))
		wg.Go(func() {
			var pending []<-chan *span.Append
			for _, b := range batches {
				pending = append(pending, e.start(l, b))
			}
			last := int64(-1)
			for i, p := range pending {
				a := <-p
				if a.Err != nil || a.BaseOffset <= last {
					errs <- fmt.Errorf("appender %d, batch %d: offset %d after %d: %w", w, i, a.BaseOffset, last, a.Err)
					return
				}
				last = a.BaseOffset
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		e.Fatal(err)
	}
	seen := map[string]bool{}
	for p := range int32(partitions) {
		next := map[string]int{}
		for _, r := range e.all(e.log(t, p), 0) {
			var w string
			var i int
			if _, err := fmt.Sscanf(r.value, "%d", new(int)); err != nil {
				e.Fatal(err)
			}
			w, i = split(r.value)
			if i != next[w] || seen[r.value] {
				e.Fatalf("partition %d: appender %s wrote %d after %d", p, w, i, next[w]-1)
			}
			next[w]++
			seen[r.value] = true
		}
	}
	if len(seen) != appenders*each {
		e.Fatalf("%d records, want %d", len(seen), appenders*each)
	}
}

func split(v string) (who string, n int) {
	var w int
	if _, err := fmt.Sscanf(v, "%d/%d", &w, &n); err != nil {
		return v, -1
	}
	return fmt.Sprint(w), n
}

func (e *env) duplicates() {
	l := e.log(e.create(1), 0)
	id := nextProducer()
	ts := now()
	var sent [][]byte
	for i := range int32(7) {
		b := e.produced(id, 3, 2*i, ts, "a", "b")
		sent = append(sent, b)
		e.mustPut(l, b)
	}
	// The last five are remembered with their offsets.
	for i := 2; i < 7; i++ {
		a := e.mustPut(l, sent[i])
		if !a.Duplicate || a.BaseOffset != int64(2*i) && a.BaseOffset != -1 {
			e.Fatalf("repeat of batch %d: %+v", i, a)
		}
		if a.BaseOffset == -1 && e.caps.ProducerBatches {
			e.Fatalf("repeat of batch %d: offset unknown", i)
		}
	}
	if o := e.offsets(l); o.End != 14 {
		e.Fatalf("duplicates were appended: end %d", o.End)
	}
	// One that is repeated while the first is still on its way.
	b := e.produced(id, 3, 14, ts, "c")
	first, second := e.start(l, b), e.start(l, b)
	a, again := e.wait(first), e.wait(second)
	if a.Err != nil || again.Err != nil || a.Duplicate || !again.Duplicate || again.BaseOffset != -1 && again.BaseOffset != a.BaseOffset {
		e.Fatalf("sent twice at once: %+v, %+v", a, again)
	}
	if o := e.offsets(l); o.End != 15 {
		e.Fatalf("end %d, want 15", o.End)
	}
}

func (e *env) outOfOrder() {
	l := e.log(e.create(1), 0)
	id := nextProducer()
	ts := now()
	// An unknown producer may begin anywhere.
	e.mustPut(l, e.produced(id, 0, 41, ts, "a"))
	a := e.put(l, e.produced(id, 0, 43, ts, "gap"))
	e.wantCode("a gap", a.Err, wire.OutOfOrderSequenceNumber)
	a = e.put(l, e.produced(id, 0, 10, ts, "far back"))
	if a.Err == nil && !a.Duplicate {
		e.Fatalf("an old sequence landed: %+v", a)
	}
	e.mustPut(l, e.produced(id, 0, 42, ts, "b"))
	// After the largest sequence comes 0.
	wrap := nextProducer()
	e.mustPut(l, e.produced(wrap, 0, 1<<31-1, ts, "last"))
	e.mustPut(l, e.produced(wrap, 0, 0, ts, "first"))
	if o := e.offsets(l); o.End != 4 {
		e.Fatalf("end %d, want 4", o.End)
	}
}

// epochFence: a log refuses a former epoch of a producer id, without any coordinator.
func (e *env) epochFence() {
	l := e.log(e.create(1), 0)
	id := nextProducer()
	ts := now()
	e.mustPut(l, e.produced(id, 3, 0, ts, "a"))
	e.mustPut(l, e.produced(id, 3, 1, ts, "b"))
	a := e.put(l, e.produced(id, 4, 2, ts, "not at zero"))
	e.wantCode("a new epoch that does not begin at 0", a.Err, wire.OutOfOrderSequenceNumber)
	e.mustPut(l, e.produced(id, 4, 0, ts, "c"))
	a = e.put(l, e.produced(id, 3, 2, ts, "late"))
	e.wantCode("a former epoch", a.Err, wire.InvalidProducerEpoch)
	e.mustPut(l, e.produced(id, 4, 1, ts, "d"))
	if got := e.all(l, 0); len(got) != 4 || got[3].value != "d" {
		e.Fatalf("log holds %v", got)
	}
}

func (e *env) logAppendTime() {
	l := e.log(e.create(1, "message.timestamp.type", "LogAppendTime"), 0)
	began := time.Now().UnixMilli()
	last := int64(0)
	for i := range 5 {
		a := e.mustPut(l, e.plain(now()-3600e3, fmt.Sprint(i), "x"))
		if a.LogAppendTime < began-60e3 || a.LogAppendTime > time.Now().UnixMilli()+60e3 || a.LogAppendTime < last {
			e.Fatalf("log append time %d, after %d, test began at %d", a.LogAppendTime, last, began)
		}
		last = a.LogAppendTime
		got, r := e.read(l, span.ReadRequest{Offset: a.BaseOffset})
		h, _, err := batch.Parse(r.Batches)
		if err != nil || !h.LogAppendTime() || h.MaxTimestamp != a.LogAppendTime {
			e.Fatalf("header %+v, %v, want log append time %d", h, err, a.LogAppendTime)
		}
		for _, rec := range got {
			if rec.ts != a.LogAppendTime {
				e.Fatalf("record %+v, want log append time %d", rec, a.LogAppendTime)
			}
		}
		r.Release()
	}
}
