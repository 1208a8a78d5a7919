package chain_test

import (
	"testing"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// A physical topic that was deleted while its cluster is up, and that no change of the chain stands behind, holds no
// producer up until its own time limit: it is told to come again, and its batches land when the chain goes on.
func TestFinding12_OpenCopyThatIsGone(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	st, err := w.fleet.Clients().Store("a")
	w.must(err)
	c := w.fleet.Catalog.Chain(w.topic, 0)
	cp := chain.OpenSpan(&c).Copies[0]
	w.must(st.Delete(w.ctx, span.Topic{Name: cp.Topic, ID: cp.TopicID}))
	for range 2 {
		err := g.send("s1", 1, 7, 0, 1).wait().Err
		isKind(t, err, chain.ErrUnavailable)
		isKind(t, err, span.ErrGone)
	}
	w.must(w.fleet.Lose(w.ctx, w.topic, "b", []int64{1}, true))
	eventually(t, "the batch lands", func() bool { return g.send("s1", 1, 7, 0, 1).wait().Err == nil })
	if got := values(g.readAll(0)); len(got) != 1 || got[0] != "s1-0" {
		t.Fatal(got)
	}
}
