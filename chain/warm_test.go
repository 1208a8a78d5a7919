package chain_test

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A gateway that appends to a partition makes the copy ready that an extend is
// about to open, once, and gives it back when the extend is gone.
func TestNextCopyIsWarm(t *testing.T) {
	w := newWorld(t, "a", "b")
	g := w.gateway()
	w.must(g.send("s0", 1, 7, 0, 0).wait().Err)
	next, err := g.clients.Of("b").Create(w.ctx, span.Spec{Name: "next", Partitions: 1})
	w.must(err)
	e := &catalog.Extend{Op: "one", Step: catalog.StepPrepare, New: catalog.PhysicalTopic{Cluster: "b", Topic: next.Name, TopicID: next.ID, Partitions: 1}}
	for _, step := range []catalog.Step{catalog.StepPrepare, catalog.StepHold, catalog.StepSeal} {
		e := *e
		e.Step = step
		w.fleet.Catalog.SetExtend(w.topic, &e)
	}
	until := func(what string, f func() bool) {
		t.Helper()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !f() {
			select {
			case <-tick.C:
			case <-w.ctx.Done():
				t.Fatalf("%s did not come", what)
			}
		}
	}
	until("the warming", func() bool { return g.clients.Of("b").Warmed() == 1 })
	if n := g.clients.Of("b").Logs(); n != 1 {
		t.Errorf("%d handles", n)
	}
	w.fleet.Catalog.SetExtend(w.topic, nil)
	until("the handle's return", func() bool { return g.clients.Of("b").Logs() == 0 })
	if n := g.clients.Of("b").Warmed(); n != 1 {
		t.Errorf("warmed %d times", n)
	}
}
