package chain_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// consumer reads at the end of a partition as a gateway does: read, and when
// there is nothing wait for Notify.
type consumer struct {
	g    *gateway
	got  chan found
	stop chan struct{}
	wg   sync.WaitGroup
}

func (g *gateway) consume(from int64) *consumer {
	c := &consumer{g: g, got: make(chan found, 10000), stop: make(chan struct{})}
	c.wg.Add(1)
	go c.run(from)
	g.w.t.Cleanup(c.close)
	return c
}

func (c *consumer) close() {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.wg.Wait()
}

func (c *consumer) run(at int64) {
	defer c.wg.Done()
	for {
		res, err := c.g.p.Read(c.g.w.ctx, read(at))
		n := 0
		if err == nil {
			for _, f := range decode(c.g.w.t, res.Batches) {
				if f.offset >= at {
					c.got <- f
					at, n = f.offset+1, n+1
				}
			}
			res.Release()
		}
		if n > 0 {
			continue
		}
		wake := make(chan struct{}, 1)
		cancel := c.g.p.Notify(at, func() { wake <- struct{}{} })
		select {
		case <-wake:
		case <-time.After(10 * time.Second): // as a client's own wait ends
		case <-c.stop:
			cancel()
			return
		}
		cancel()
	}
}

func (c *consumer) next() found {
	c.g.w.t.Helper()
	select {
	case f := <-c.got:
		return f
	case <-time.After(patience):
		c.g.w.t.Fatal("a record did not come")
		return found{}
	}
}

func TestOwnAppendsCostReadersNothing(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	g.put("first")
	n0, _ := g.clients.Of("a").Reads()
	var cs []*consumer
	for range 10 {
		cs = append(cs, g.consume(0))
	}
	for i := range 50 {
		g.put(fmt.Sprint("r", i))
	}
	for _, c := range cs {
		for i := range int64(51) {
			if f := c.next(); f.offset != i {
				t.Fatalf("%+v, want offset %d", f, i)
			}
		}
	}
	if n, _ := g.clients.Of("a").Reads(); n-n0 > 60 { // ten begin; 510 would be one for each record
		t.Fatalf("%d reads of the copy for ten readers of 51 own records", n-n0)
	}
}

// Ten groups tailing a topic that another gateway writes cost its cluster one read.
func TestTenReadersCostTheCopyOneRead(t *testing.T) {
	w := newWorld(t, "a", "b")
	writer, g := w.gateway(), w.gateway()
	writer.put("first")
	var cs []*consumer
	for range 10 {
		c := g.consume(0)
		c.next()
		cs = append(cs, c)
	}
	_, before := g.clients.Of("a").Reads()
	var size int64
	for i := range 100 {
		b, _ := records(t, fmt.Sprint("r", i), 1, -1, -1, -1)
		size += int64(len(b))
		writer.put(fmt.Sprint("r", i))
		// Each reader has it before the next is written: the worst case for sharing.
		for _, c := range cs {
			if f := c.next(); f.offset != int64(i+1) || f.value != fmt.Sprintf("r%d-0", i) {
				t.Fatalf("%+v", f)
			}
		}
	}
	if _, after := g.clients.Of("a").Reads(); after-before > size*105/100 {
		t.Fatalf("%d bytes read for %d written", after-before, size)
	}
	// They go on over a move, also to records appended here.
	w.move("b")
	g.put("moved")
	writer.put("moved too")
	for _, c := range cs {
		if f := c.next(); f.value != "moved-0" || f.epoch != 1 {
			t.Fatalf("%+v", f)
		}
		if f := c.next(); f.value != "moved too-0" {
			t.Fatalf("%+v", f)
		}
	}
}

// Two gateways write one partition, both are read from.
func TestTailOfInterleavedWriters(t *testing.T) {
	w := newWorld(t, "a")
	g, other := w.gateway(), w.gateway()
	c, d := g.consume(0), other.consume(0)
	for i := range 200 {
		if i%3 == 0 {
			other.put(fmt.Sprint("r", i))
		} else {
			g.put(fmt.Sprint("r", i))
		}
	}
	for i := range 200 {
		for _, c := range []*consumer{c, d} {
			if f := c.next(); f.offset != int64(i) || f.value != fmt.Sprintf("r%d-0", i) {
				t.Fatalf("%+v at %d", f, i)
			}
		}
	}
}

func TestTailCacheIsBounded(t *testing.T) {
	w := newWorld(t, "a")
	m := chain.NewMetrics(nil)
	g := w.gateway(func(o *chain.Options) { o.CacheBytes, o.Metrics = 64<<10, m })
	big := string(make([]byte, 5000))
	g.put(big)
	if n := gauge(t, m.CacheBytes); n != 0 {
		t.Fatalf("%v bytes cached of a partition that nobody reads", n)
	}
	g.readAll(0)
	g.put(big)
	if gauge(t, m.CacheBytes) == 0 {
		t.Fatal("nothing cached although somebody reads")
	}
	for range 198 {
		g.put(big)
	}
	eventually(t, "the cache shrinks below its bound", func() bool { return gauge(t, m.CacheBytes) <= 64<<10 })
	if got := g.readAll(0); len(got) != 200 {
		t.Fatalf("%d records", len(got))
	}
}

// A read from the copy passes the tail cache by, which holds the same offsets.
func TestReadFromTheCopy(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	g.put("read")
	g.readAll(0) // what has a reader is cached
	g.put("cached")
	for _, from := range []bool{false, true} {
		r := read(1)
		r.FromCopy = from
		if res, ok := g.p.TryRead(r); ok == from {
			t.Errorf("from the copy %v: served without I/O %v", from, ok)
		} else if ok {
			res.Release()
		}
		res, err := g.p.Read(t.Context(), r)
		if err != nil || len(res.Batches) == 0 {
			t.Fatalf("from the copy %v: %v, %d bytes", from, err, len(res.Batches))
		}
		res.Release()
	}
}

func TestLogAppendTimeIsReadFromTheCopy(t *testing.T) {
	w := newWorld(t, "a")
	w.fleet.Cluster("a").SetLogAppendTime(777)
	g := w.gateway()
	a := g.send("x", 1, -1, -1, -1).wait()
	if a.Err != nil || a.LogAppendTime != 777 {
		t.Fatalf("%+v", a)
	}
	res, err := g.p.Read(w.ctx, read(0))
	w.must(err)
	if h, _, err := batch.Parse(res.Batches); err != nil || h.MaxTimestamp != 777 || !h.LogAppendTime() {
		t.Fatalf("%+v, %v", h, err)
	}
	res.Release()
}

// What a reader holds stays as it is, whatever is appended and evicted meanwhile.
func TestReadersMemoryIsNotReused(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway(func(o *chain.Options) { o.CacheBytes = 32 << 10 })
	for i := range 20 {
		g.put(fmt.Sprint("keep", i))
	}
	res, err := g.p.Read(w.ctx, read(0))
	w.must(err)
	before := slices.Clone(res.Batches)
	for range 100 {
		g.put(string(make([]byte, 4000)))
	}
	if !slices.Equal(before, res.Batches) {
		t.Fatal("the memory of a reader changed")
	}
	res.Release()
}

func TestReadsAreCutAtWholeBatches(t *testing.T) {
	w := newWorld(t, "a")
	g, cold := w.gateway(), w.gateway(func(o *chain.Options) { o.CacheBytes = -1 })
	for i := range int32(300) {
		w.must(g.send(fmt.Sprint("r", i), 1+int(i%3), 7, 0, sequenceOf(i)).wait().Err)
	}
	end := int64(0)
	for _, f := range g.readAll(0) {
		end = f.offset + 1
	}
	for _, r := range []*gateway{g, cold} {
		for at := int64(0); at < end; at += 7 {
			for _, max := range []int{1, 100, 1000, 5000} {
				q := read(at)
				q.MaxBytes = max
				res, err := r.p.Read(w.ctx, q)
				w.must(err)
				fs := decode(t, res.Batches)
				if len(fs) == 0 || fs[0].offset > at || fs[len(fs)-1].offset < at {
					t.Fatalf("read at %d of %d bytes: %v", at, max, fs)
				}
				if h, size, _ := batch.Parse(res.Batches); len(res.Batches) > max && len(res.Batches) > size {
					t.Fatalf("%d bytes for at most %d, the first batch (at %d) has %d", len(res.Batches), max, h.BaseOffset, size)
				}
				res.Release()
			}
		}
	}
}

func sequenceOf(i int32) int32 { return i/3*6 + []int32{0, 1, 3}[i%3] }

func TestReadStepsOverGapsAndUnreadableSpans(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	g := w.gateway()
	g.put("one")
	w.move("b")
	g.put("two")
	w.fleet.Cluster("b").SetDown(true)
	w.must(w.fleet.Lose(w.ctx, w.topic, "c", []int64{2}, true))
	g = w.gateway() // knows where the chain goes on
	a := g.send("three", 1, -1, -1, -1).wait()
	if a.Err != nil || a.BaseOffset != 2+chain.UnknownRoom {
		t.Fatalf("%+v", a)
	}
	// From before the loss, from in the unreadable span, from in the hole.
	for _, from := range []int64{1, 2, 1000, chain.UnknownRoom, 2 + chain.UnknownRoom} {
		cold := w.gateway()
		res, err := cold.p.Read(w.ctx, read(from))
		if err != nil || decode(t, res.Batches)[0].value != "three-0" {
			t.Fatalf("from %d: %v", from, err)
		}
		res.Release()
	}
	_, err := g.p.Read(w.ctx, read(4+chain.UnknownRoom))
	isKind(t, err, chain.ErrOffsetOutOfRange)
}

func TestTimestampsAcrossSpans(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	g := w.gateway()
	at := func(ts int64) {
		t.Helper()
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: ts, Value: []byte("v")}).Build()
		w.must(err)
		h, err := batch.Validate(raw, batch.Limits{})
		w.must(err)
		done := make(chan error, 1)
		g.p.Append(&chain.Append{Batch: raw, Header: h, Done: func(a *chain.Append) { done <- a.Err }})
		w.must(<-done)
	}
	for _, ts := range []int64{10, 20} {
		at(ts)
	}
	w.move("b")
	for _, ts := range []int64{50, 30} {
		at(ts)
	}
	w.move("c")
	at(40)
	for _, x := range []struct {
		ms, offset, ts int64
		epoch          int32
		found          bool
	}{
		{0, 0, 10, 0, true}, {11, 1, 20, 0, true}, {21, 2, 50, 1, true}, {50, 2, 50, 1, true}, {51, -1, -1, -1, false},
		{span.MaxTimestamp, 2, 50, 1, true},
	} {
		offset, ts, epoch, ok, err := g.p.OffsetFor(w.ctx, x.ms)
		if err != nil || offset != x.offset || ts != x.ts || epoch != x.epoch || ok != x.found {
			t.Errorf("%d: %d %d %d %v %v, want %+v", x.ms, offset, ts, epoch, ok, err, x)
		}
	}
	// Trimmed records are not found any more, whether the copy still has them or not.
	c := w.fleet.Catalog.Chain(w.topic, 0)
	c.Start = 1
	w.fleet.Catalog.Commit(w.topic, 0, c)
	eventually(t, "the trim is known", func() bool { s, _, _, err := g.p.Offsets(w.ctx, false); return err == nil && s == 1 })
	if offset, _, _, ok, err := g.p.OffsetFor(w.ctx, 0); err != nil || !ok || offset != 1 {
		t.Fatalf("%d %v %v", offset, ok, err)
	}
}

func TestDeleteRecords(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	for i := range 4 {
		g.put(fmt.Sprint("r", i))
	}
	w.move("b")
	for i := range 4 {
		g.put(fmt.Sprint("s", i))
	}
	if start, err := g.p.DeleteRecords(w.ctx, 2); err != nil || start != 2 {
		t.Fatalf("%d %v", start, err)
	}
	_, err := g.p.Read(w.ctx, read(1))
	isKind(t, err, chain.ErrOffsetOutOfRange)
	if got := values(g.readAll(2)); len(got) != 6 {
		t.Fatal(got)
	}
	if start, err := g.p.DeleteRecords(w.ctx, 1); err != nil || start != 2 {
		t.Fatalf("backwards: %d %v", start, err)
	}
	_, err = g.p.DeleteRecords(w.ctx, 9)
	isKind(t, err, chain.ErrOffsetOutOfRange)
	if start, err := g.p.DeleteRecords(w.ctx, -1); err != nil || start != 8 {
		t.Fatalf("%d %v", start, err)
	}
	if start, end, _, err := g.p.Offsets(w.ctx, false); err != nil || start != 8 || end != 8 {
		t.Fatalf("%d %d %v", start, end, err)
	}
	if a := g.put("after"); a.BaseOffset != 8 || a.LogStart != 8 {
		t.Fatalf("%+v", a)
	}
}

func TestProducersOfAChain(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("x", 2, 7, 1, 0).wait().Err)
	w.must(g.send("y", 1, 8, 0, 0).wait().Err)
	w.move("b")
	w.must(g.send("x", 1, 7, 1, 2).wait().Err)
	ps, err := g.p.Producers(w.ctx)
	w.must(err)
	slices.SortFunc(ps, func(a, b span.Producer) int { return int(a.ID - b.ID) })
	if len(ps) != 2 || ps[0].LastSequence != 2 || ps[0].LastOffset != 3 || ps[1].ID != 8 || ps[1].LastOffset != 2 {
		t.Fatalf("%+v", ps)
	}
}

func TestTopicDeletedUnderUse(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	g.put("one")
	c := g.consume(0)
	c.next()
	w.fleet.Catalog.Remove(w.topic)
	eventually(t, "the partition is gone", func() bool {
		_, err := g.p.Read(w.ctx, read(0))
		return err != nil
	})
	_, err := g.p.Read(w.ctx, read(0))
	isKind(t, err, chain.ErrUnknownTopic)
	isKind(t, g.send("two", 1, -1, -1, -1).wait().Err, chain.ErrUnknownTopic)
	if _, err := g.logs.Partition(w.topic, 0); err == nil {
		t.Fatal("a partition of a deleted topic")
	}
	c.close()
}

func TestUnknownPartitions(t *testing.T) {
	w := newWorld(t, "a")
	g := w.gateway()
	_, err := g.logs.Partition(w.topic, 1)
	isKind(t, err, chain.ErrUnknownPartition)
	_, err = g.logs.Partition(catalog.ID{9}, 0)
	isKind(t, err, chain.ErrUnknownTopic)
}

func TestCloseAnswersWhatIsHeld(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
	w.must(err)
	w.must(m.Seal(w.ctx))
	p := g.send("x", 1, -1, -1, -1)
	eventually(t, "refused", func() bool { return g.view.Refreshes() > 0 })
	g.logs.Close()
	isKind(t, p.wait().Err, chain.ErrClosed)
	isKind(t, g.send("y", 1, -1, -1, -1).wait().Err, chain.ErrClosed)
}

func TestReportsWhatWasAcknowledged(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway(func(o *chain.Options) { o.Node = 5 })
	for i := range 100 {
		w.must(g.send(fmt.Sprint("r", i), 2, 7, 0, int32(2*i)).wait().Err)
	}
	w.move("b")
	g.put("next")
	var last catalog.AckReport
	eventually(t, "a report with the first acknowledgement after the move", func() bool {
		for _, r := range w.fleet.Catalog.Reports(w.topic) {
			last = r
		}
		return last.FirstAck != 0
	})
	if last.Node != 5 || last.Span != 0 || last.Records != 200 || last.Batches != 100 || last.Unknown != 0 || last.Next != 200 ||
		len(last.Tail) != 64 || last.Tail[63].Offset != 198 || last.Tail[0].Offset != 72 || last.FirstAck <= last.LastAck {
		t.Fatalf("%+v", last)
	}
}

// A reader that stands in a gap with nothing behind it yet waits, and does not
// look again and again.
func TestWaitInAGap(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.gateway().put("one")
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{1}, false))
	g := w.gateway()
	woken := make(chan struct{}, 100)
	for _, at := range []int64{1, 500, 1 + chain.UnknownRoom} {
		cancel := g.p.Notify(at, func() { woken <- struct{}{} })
		defer cancel()
	}
	select {
	case <-woken:
		t.Fatal("woken for nothing")
	case <-time.After(50 * time.Millisecond):
	}
	w.gateway().put("two")
	for range 3 {
		select {
		case <-woken:
		case <-time.After(patience):
			t.Fatal("never woken")
		}
	}
}

// Consumers that go through an old part of a topic together cost its cluster one read of it, one alone as much.
func TestReadersOfOldRecordsShare(t *testing.T) {
	w := newWorld(t, "a", "b")
	writer := w.gateway()
	big := string(make([]byte, 5000))
	for range 40 {
		writer.put(big)
	}
	w.move("b")
	writer.put(big)
	_, total := func() (int, int64) {
		g := w.gateway()
		g.logs.KeepShelf(time.Hour)
		got := g.readAll(0)
		if g.logs.Shelved() != 0 {
			t.Fatal("what one reads alone is kept")
		}
		_, n := g.clients.Of("a").Reads()
		return len(got), n
	}()
	g := w.gateway()
	g.logs.KeepShelf(time.Hour)
	at := make([]int64, 5)
	for at[len(at)-1] < 40 {
		for i := range at {
			r := read(at[i])
			r.MaxBytes = 21 << 10
			r.Committed = i%2 == 1
			res, err := g.p.Read(w.ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range decode(t, res.Batches) {
				if f.offset != at[i] {
					t.Fatalf("reader %d: %+v, want offset %d", i, f, at[i])
				}
				at[i]++
			}
			res.Release()
		}
	}
	if _, n := g.clients.Of("a").Reads(); n > total+2*(21<<10) {
		t.Fatalf("five readers cost the copy %d bytes, one %d", n, total)
	}
}
