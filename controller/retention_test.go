package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

func TestRetained(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_000_000)
	ch := &catalog.Chain{Start: 0, Spans: []catalog.Span{
		{Seq: 0, Start: 0, End: 10, MaxTimestamp: 100_000},
		{Seq: 1, Start: 10, End: 20, MaxTimestamp: 500_000},
		{Seq: 2, Start: 20, End: 30, MaxTimestamp: -1, SealedAt: time.UnixMilli(700_000)},
		{Seq: 3, Start: 30, End: catalog.Open},
	}}
	sizes := []spanSize{{0, 100}, {1, 100}, {2, 100}, {3, 50}}
	for _, tc := range []struct {
		name   string
		config map[string]string
		sizes  []spanSize
		open   int64
		want   int64
	}{
		{"a week", nil, sizes, -1, 0},
		{"no limit", map[string]string{"retention.ms": "-1"}, sizes, 35, 0},
		{"first span", map[string]string{"retention.ms": "600000"}, sizes, -1, 10},
		{"a young span holds later ones", map[string]string{"retention.ms": "400000"}, sizes, 35, 20},
		{"all sealed ones and the head of the open one", map[string]string{"retention.ms": "1000"}, sizes, 35, 35},
		{"by size", map[string]string{"retention.ms": "-1", "retention.bytes": "150"}, sizes, -1, 20},
		{"what is left still has the size", map[string]string{"retention.ms": "-1", "retention.bytes": "151"}, sizes, -1, 10},
		{"not measured", map[string]string{"retention.ms": "-1", "retention.bytes": "1"}, sizes[1:], -1, 0},
		{"compacted", map[string]string{"retention.ms": "1", "cleanup.policy": "compact"}, sizes, 35, 0},
		{"neither", map[string]string{"retention.ms": "1", "cleanup.policy": ""}, sizes, 35, 0},
		{"compacted and deleted", map[string]string{"retention.ms": "600000", "cleanup.policy": "compact,delete"}, sizes, -1, 10},
	} {
		if got := retained(ch, tc.config, tc.sizes, tc.open, now); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestRetentionDropsSpansAndTheirTopics(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", map[string]string{"retention.ms": "3600000"})
	kept := f.topic("kept", 1, "a", map[string]string{"cleanup.policy": "compact", "delete.retention.ms": "1000"})
	w, kw := f.writer(topic, 0, 100), f.writer(kept, 0, 101)
	w.append(5)
	kw.append(5)
	f.controller(func(o *Options) {
		o.RetentionEvery, o.SweepEvery, o.OrphanAge = 10*time.Millisecond, 20*time.Millisecond, 40*time.Millisecond
	})
	for _, name := range []string{"orders", "kept"} {
		if op := f.done(f.move("b", name)); op.State != catalog.OpDone {
			t.Fatalf("%+v", op)
		}
	}
	w.append(3)
	f.until("tombstones to be held", func() (held bool) {
		f.doubles["b"].set(func() {
			held = f.doubles["b"].topics[physicalNameOf(f.chain(kept, 0))].config["delete.retention.ms"] == forever
		})
		return held
	})
	if n := len(f.chain(topic, 0).Spans); n != 2 {
		t.Fatalf("%d spans before they are due", n)
	}
	f.check(f.admin.SetConfig(f.ctx, catalog.DefaultTenant, "orders", map[string]string{"retention.ms": "1"}))
	f.until("everything to be trimmed", func() bool {
		ch := f.chain(topic, 0)
		return len(ch.Spans) == 1 && ch.Start == 8
	})
	f.until("the physical topic to be deleted and the open copy to be cut", func() (done bool) {
		f.doubles["a"].set(func() { done = len(f.doubles["a"].topics) == 1 })
		f.doubles["b"].set(func() { done = done && f.doubles["b"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].start == 3 })
		return done
	})
	if n := len(f.chain(kept, 0).Spans); n != 2 {
		t.Errorf("a compacted topic has %d spans left", n)
	}
	w.append(1)
	if ch := f.chain(topic, 0); ch.Sealed == "" {
		t.Error("the producers' state went with the span")
	}
}

// What is appended while a log is asked for what is due is not due.
func TestRetentionSparesWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	topic := f.topic("orders", 1, "a", map[string]string{"retention.ms": "1"})
	f.writer(topic, 0, 100).append(5)
	came := false
	f.doubles["a"].set(func() {
		f.doubles["a"].aged = func(l *doubleLog) {
			if came || l.end != 5 {
				return
			}
			came = true
			b := oneBatch(-1, -1, -1, 1, time.Now().Add(time.Hour), "fresh")
			l.batches = append(l.batches, doubleBatch{l.end, b})
			l.end++
		}
	})
	f.controller(func(o *Options) { o.RetentionEvery = 10 * time.Millisecond })
	f.until("the old records to go", func() bool { return f.chain(topic, 0).Start >= 5 })
	if ch := f.chain(topic, 0); ch.Start != 5 {
		t.Errorf("starts at %d: an acknowledged record went that is not due", ch.Start)
	}
}

// A topic whose policy is nothing keeps its records until a client deletes them; then the clusters give up their space.
func TestRecordsOfATopicWithoutPolicyGoByRequest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", map[string]string{"retention.ms": "1", "cleanup.policy": ""})
	w := f.writer(topic, 0, 100)
	w.append(5)
	f.controller(func(o *Options) {
		o.RetentionEvery, o.SweepEvery, o.OrphanAge = 10*time.Millisecond, 20*time.Millisecond, 40*time.Millisecond
	})
	if op := f.done(f.move("b", "orders")); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	w.append(3)
	f.check(chain.FromCatalog(f.watch, f.cat).TrimStart(f.ctx, topic.ID, 0, 7))
	f.until("the sealed span to go and the open copy to be cut", func() (done bool) {
		ch := f.chain(topic, 0)
		f.doubles["a"].set(func() { done = len(f.doubles["a"].topics) == 0 })
		f.doubles["b"].set(func() { done = done && f.doubles["b"].topics[physicalNameOf(ch)].parts[0].start == 2 })
		return done && len(ch.Spans) == 1
	})
	if ch := f.chain(topic, 0); ch.Start != 7 {
		t.Errorf("starts at %d: records went that nobody deleted", ch.Start)
	}
}

// By size a sealed span goes when what follows it is enough, and the chain begins
// where its open copy does, which drops segments by itself. A sealed copy keeps
// what it has.
func TestRetentionBySize(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", map[string]string{"retention.ms": "-1", "retention.bytes": "1000"})
	w := f.writer(topic, 0, 100)
	w.append(5)
	f.controller(func(o *Options) { o.RetentionEvery = 10 * time.Millisecond })
	old := physicalNameOf(f.chain(topic, 0))
	if op := f.done(f.move("b", "orders")); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	config := func(on, name string) (v string) {
		f.doubles[on].set(func() { v = f.doubles[on].topics[name].config["retention.bytes"] })
		return v
	}
	f.until("the sealed copy's own limit to be taken away", func() bool { return config("a", old) == "-1" })
	fresh := physicalNameOf(f.chain(topic, 0))
	if v := config("b", fresh); v != "1000" {
		t.Errorf("the open copy's limit is %s", v)
	}
	w.append(3)
	var open int64
	f.doubles["b"].set(func() { open = f.doubles["b"].topics[fresh].parts[0].size() })
	var sealed int64
	f.doubles["a"].set(func() { sealed = f.doubles["a"].topics[old].parts[0].size() })
	if open < 10 || sealed < 10 {
		t.Fatalf("%d and %d bytes", sealed, open)
	}
	f.check(f.admin.SetConfig(f.ctx, catalog.DefaultTenant, "orders", map[string]string{"retention.bytes": fmt.Sprint(open)}))
	f.until("the sealed span to go", func() bool { ch := f.chain(topic, 0); return len(ch.Spans) == 1 && ch.Start == 5 })
	f.doubles["b"].set(func() { f.doubles["b"].topics[fresh].parts[0].start = 2 })
	f.until("the chain to follow", func() bool { return f.chain(topic, 0).Start == 7 })
	w.append(1)
}

func TestOrphansWait(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	x := physicalTopic{orphanKey: orphanKey{"a", catalog.ID{1}}}
	none := func(physicalTopic) bool { return false }
	due, seen := orphans([]physicalTopic{x}, none, nil, at, time.Minute)
	if len(due) != 0 || len(seen) != 1 {
		t.Error("deleted at first sight")
	}
	if _, again := orphans([]physicalTopic{x}, func(physicalTopic) bool { return true }, seen, at.Add(30*time.Second), time.Minute); len(again) != 0 {
		t.Error("what is needed again is still counted")
	}
	if due, _ = orphans([]physicalTopic{x}, none, seen, at.Add(time.Minute), time.Minute); len(due) != 1 {
		t.Error("not deleted after the wait")
	}
}
