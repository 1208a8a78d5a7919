package chain_test

import (
	"testing"

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

// open is the span that takes appends, as a gateway knows it.
func (w *world) open(g *gateway) *catalog.Span {
	w.t.Helper()
	ch, _, err := g.view.Chain(w.topic, 0)
	w.must(err)
	return chain.OpenSpan(ch)
}
