package chain_test

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

func TestReaderEnd(t *testing.T) {
	const room = chain.UnknownRoom
	sealed := func(start, end int64) catalog.Span { return catalog.Span{Start: start, End: end} }
	open := func(start int64) catalog.Span { return catalog.Span{Start: start, End: catalog.Open} }
	for _, x := range []struct {
		name      string
		start     int64
		spans     []catalog.Span
		end, want int64
	}{
		{"no spans", 3, nil, 3, 3},
		{"sealed only", 0, []catalog.Span{sealed(0, 4)}, 4, 4},
		{"a new topic", 0, []catalog.Span{open(0)}, 0, 0},
		{"no gap", 0, []catalog.Span{sealed(0, 4), open(4)}, 4, 4},
		{"behind a gap", 0, []catalog.Span{sealed(0, 4), open(4 + room)}, 4 + room, 4},
		{"records behind it", 0, []catalog.Span{sealed(0, 4), open(4 + room)}, 5 + room, 5 + room},
		{"an empty span was lost", 0, []catalog.Span{sealed(0, 4), sealed(4+room, 4+room), open(4 + 2*room)}, 4 + 2*room, 4},
		{"nothing was ever there", 0, []catalog.Span{sealed(0, 0), open(room)}, room, 0},
		{"trimmed to the end", 4, []catalog.Span{open(4 + room)}, 4 + room, 4},
		{"trimmed into the gap", 9, []catalog.Span{sealed(0, 4), open(4 + room)}, 4 + room, 9},
		{"trimmed to the open span", 4 + room, []catalog.Span{open(4 + room)}, 4 + room, 4 + room},
	} {
		if got := chain.ReaderEnd(&catalog.Chain{Start: x.start, Spans: x.spans}, x.end); got != x.want {
			t.Errorf("%s: %d, want %d", x.name, got, x.want)
		}
	}
}

// After the loss of a cluster, with nothing behind the gap yet, a reader comes to the
// end of the log; and offsets in the gap stay in range.
func TestEndBeforeAnEmptySpan(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.gateway().put("one")
	w.gateway().put("two")
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{2}, false))
	const next = 2 + chain.UnknownRoom
	bounds := func(what string, from, end int64) {
		t.Helper()
		for _, committed := range []bool{false, true} {
			g := w.gateway()
			// A copy is read, and then the follower may tell of it.
			for range 2 {
				r := read(from)
				r.Committed = committed
				res, err := g.p.Read(w.ctx, r)
				if err != nil {
					t.Fatalf("%s, a read at %d: %v", what, from, err)
				}
				if res.Size() != 0 || res.HighWatermark != end || res.LastStable != end {
					t.Errorf("%s, a read at %d: %d bytes, high watermark %d, last stable %d; want %d", what, from, res.Size(), res.HighWatermark, res.LastStable, end)
				}
				res.Release()
			}
		}
	}
	latest := func(what string, start, end int64) {
		t.Helper()
		for _, committed := range []bool{false, true} {
			if s, e, _, err := w.gateway().p.Offsets(w.ctx, committed); err != nil || s != start || e != end {
				t.Errorf("%s: from %d to %d, %v; want %d to %d", what, s, e, err, start, end)
			}
		}
	}
	bounds("at the end", 2, 2)
	bounds("in the gap", 1000, 1000)
	bounds("at the open span", next, next)
	latest("empty", 0, 2)
	if got := w.gateway().readAll(0); len(got) != 2 {
		t.Fatalf("%v", got)
	}
	// No truncation to who was sent to the open span's start.
	for epoch := range int32(2) {
		if at, end, err := w.gateway().p.EpochEnd(w.ctx, epoch); err != nil || at != epoch || end != next {
			t.Errorf("epoch %d ends as %d at %d, %v; want %d", epoch, at, end, err, next)
		}
	}
	// The empty span is lost as well.
	w.must(w.fleet.Lose(w.ctx, w.topic, "c", []int64{next}, false))
	bounds("lost twice", 2, 2)
	latest("lost twice", 0, 2)
	if start, err := w.gateway().p.DeleteRecords(w.ctx, -1); err != nil || start != 2 {
		t.Errorf("all deleted: %d, %v", start, err)
	}
	latest("all deleted", 2, 2)
	bounds("all deleted", 2, 2)
	const last = next + chain.UnknownRoom
	a := w.gateway().put("three")
	if a.BaseOffset != last {
		t.Fatalf("%+v", a)
	}
	latest("goes on", 2, last+1)
	for _, from := range []int64{2, 1000, next, last} {
		if got := w.gateway().readAll(from); len(got) != 1 || got[0].offset != last {
			t.Errorf("from %d: %v", from, got)
		}
		res, err := w.gateway().p.Read(w.ctx, read(from))
		if err != nil || res.HighWatermark != last+1 {
			t.Errorf("from %d: high watermark %d, %v", from, res.HighWatermark, err)
			continue
		}
		res.Release()
	}
	bounds("goes on", last+1, last+1)
	// Who was told to delete up to an offset in a gap is not refused.
	w.must(w.fleet.Lose(w.ctx, w.topic, "a", []int64{last + 1}, false))
	if start, err := w.gateway().p.DeleteRecords(w.ctx, last+5); err != nil || start != last+5 {
		t.Errorf("deleted into the gap: %d, %v", start, err)
	}
	latest("deleted into the gap", last+5, last+5)
}

// A cluster that has just given no answer did not say that nothing came since: no reader is told
// an end while the next answer is waited for.
func TestEndIsNotToldWithoutTheCopy(t *testing.T) {
	w := newWorld(t, "a")
	c := w.fleet.Cluster("a")
	g := w.gateway()
	g.put("one")
	g.readAll(0)
	stop := g.p.Notify(1, func() {})
	defer stop()
	told := func() bool {
		res, ok := g.p.TryRead(read(1))
		if ok {
			res.Release()
		}
		return ok
	}
	eventually(t, "the follower tells of the end", told)
	c.SetDown(true)
	eventually(t, "the follower has no answer", func() bool { return !told() })
	c.SetHangs(true)
	defer c.SetHangs(false)
	before := c.Hanging()
	eventually(t, "the follower asks again", func() bool { return c.Hanging() > before })
	if told() {
		t.Error("an end is told though the copy has not answered since it was away")
	}
}

// Who looks for a time that a lost span may have is sent there, not past it.
func TestTimeInALostSpan(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	before := time.Now().UnixMilli()
	g.put("one")
	g.put("two")
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{2}, true))
	find := func(what string, ms, want int64) {
		t.Helper()
		offset, at, _, found, err := w.gateway().p.OffsetFor(w.ctx, ms)
		if err != nil || found != (want >= 0) || found && (offset != want || at < ms) {
			t.Errorf("%s, time %d: offset %d of time %d, %v, %v; want offset %d", what, ms, offset, at, found, err, want)
		}
	}
	later := time.Now().Add(time.Hour).UnixMilli()
	for _, x := range []struct{ ms, want int64 }{{0, 0}, {before, 0}, {later, -1}} {
		find("nothing behind it", x.ms, x.want)
	}
	w.gateway().put("three")
	find("a record behind it", before, 0)
	if _, err := w.gateway().p.DeleteRecords(w.ctx, 1); err != nil {
		t.Fatal(err)
	}
	find("trimmed", before, 1)
}
