package chain_test

import (
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A run that ends says what it has seen of the span that is open, ends of transactions too, as its
// last word: it is never said again, whatever becomes of the chain.
func TestLastWordOfARun(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway(func(o *chain.Options) { o.Node = 5 })
	w.must(g.send("r", 2, -1, -1, -1).wait().Err)
	w.must(g.p.Mark(w.ctx, batch.Marker{ProducerID: 1 << 41}))
	open := w.open(g)
	g.logs.Marked(w.topic, 0, open.Copies[0].TopicID) // by its cluster
	g.logs.Marked(w.topic, 0, catalog.RandomID())     // of a copy that is none of the chain's
	w.must(g.send("r", 1, -1, -1, -1).wait().Err)
	g.logs.Close()
	w.move("b")
	list := w.fleet.Catalog.Reports(w.topic)
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	if r := list[0]; !r.Last || r.Node != 5 || r.Records != 3 || r.Batches != 2 || r.Markers != 2 || r.Span != open.Seq {
		t.Errorf("%+v", r)
	}
}

// Ends of transactions alone are reported too, also one that is heard of when the span has ended.
func TestEndsOfTransactionsAreReported(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	open := w.open(g)
	g.logs.Marked(w.topic, 0, open.Copies[0].TopicID)
	markers := func() (n int64) {
		for _, r := range w.fleet.Catalog.Reports(w.topic) {
			if r.Span == open.Seq && !r.Last {
				n = max(n, r.Markers)
			}
		}
		return n
	}
	w.move("b")
	eventually(t, "a report of the first", func() bool { return markers() == 1 })
	g.logs.Marked(w.topic, 0, open.Copies[0].TopicID)
	eventually(t, "a report of both", func() bool { return markers() == 2 })
}

// A report tells since when the first append that was acknowledged after a move was waited for: not at all where
// nobody produced, from the append that was held, or from the one that was sent back, on.
func TestReportsSinceWhenAppendsWaited(t *testing.T) {
	for _, tc := range []struct {
		name string
		idle bool
		// meanwhile appends while the span is sealed, and gives when the first of that came.
		meanwhile func(w *world, g *gateway) (came time.Time, landed func())
	}{
		{name: "nobody", idle: true, meanwhile: func(*world, *gateway) (time.Time, func()) { return time.Time{}, func() {} }},
		{name: "held", meanwhile: func(w *world, g *gateway) (time.Time, func()) {
			came := time.Now()
			p := g.send("held", 1, -1, -1, -1)
			eventually(w.t, "refused by the seal", func() bool { return g.view.Refreshes() > 0 })
			return came, func() { w.must(p.wait().Err) }
		}},
		{name: "sent back", meanwhile: func(w *world, g *gateway) (time.Time, func()) {
			came := time.Now()
			isKind(w.t, g.send("late", 1, -1, -1, -1).wait().Err, chain.ErrHeldTooLong)
			return came, func() {}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, "a", "b")
			g := w.gateway(func(o *chain.Options) {
				if tc.name == "sent back" {
					o.HoldTime = 50 * time.Millisecond
				}
			})
			g.put("before")
			open := w.open(g)
			m, err := w.fleet.NewMove(w.ctx, w.topic, "b")
			w.must(err)
			w.must(m.Seal(w.ctx))
			came, landed := tc.meanwhile(w, g)
			w.must(m.Commit(w.ctx))
			eventually(t, "the gateway hears of it", func() bool { return w.open(g).Seq > open.Seq })
			if tc.idle {
				// It has turned from the span when it has reported it.
				eventually(t, "a report", func() bool { return len(w.fleet.Catalog.Reports(w.topic)) > 0 })
			}
			landed()
			g.put("after")
			var r catalog.AckReport
			eventually(t, "a report with the first acknowledgement", func() bool {
				for _, x := range w.fleet.Catalog.Reports(w.topic) {
					if x.Span == open.Seq && x.FirstAck > 0 {
						r = x
					}
				}
				return r.FirstAck > 0
			})
			if r.Idle != tc.idle || r.Asked <= r.LastAck || r.Asked > r.FirstAck {
				t.Errorf("%+v", r)
			}
			if d := time.Unix(0, r.Asked).Sub(came); !tc.idle && (d < 0 || r.Asked >= r.FirstAck) {
				t.Errorf("asked %v after it came: %+v", d, r)
			}
		})
	}
}

// open is the span that takes appends, as a gateway knows it.
func (w *world) open(g *gateway) *catalog.Span {
	w.t.Helper()
	ch, _, err := g.view.Chain(w.topic, 0)
	w.must(err)
	return chain.OpenSpan(ch)
}
