package controller

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A gateway that trims moves a chain's start and no more: the spans below it go
// though nothing is past retention, and with them what keeps their cluster.
func TestSpansBelowTheStartGo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller(func(o *Options) { o.RetentionEvery = 20 * time.Millisecond })
	topic := f.topic("log", 2, "a", map[string]string{"retention.ms": "-1"})
	for p := range 2 {
		f.writer(topic, p, int64(100+p)).append(3)
	}
	if op := f.done(f.move("b", "log")); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	if got := f.chain(topic, 0); len(got.Spans) != 2 {
		t.Fatalf("after the move: %+v", got.Spans)
	}
	for p := range 2 {
		source := chain.FromCatalog(f.watch, f.cat)
		f.check(source.TrimStart(f.ctx, topic.ID, int32(p), 3))
	}
	f.until("the sealed spans are gone", func() bool { return len(f.chain(topic, 0).Spans) == 1 && len(f.chain(topic, 1).Spans) == 1 })
	if got := f.chain(topic, 0); got.Start != 3 || got.Spans[0].Copies[0].Cluster != "b" {
		t.Errorf("chain: %+v", got)
	}
}
