package controller

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// strand lets a cluster hold records of a producer that nobody knows of.
func (l *lostAndBack) strand(cluster string, producer int64, name string, n int32) {
	l.t.Helper()
	h := &doubleHandle{d: l.doubles[cluster], topic: topicOf(chain.OpenSpan(l.chain(l.topic, 0)))}
	l.doubles[cluster].set(func() {
		for i := range n {
			if _, err := h.append(oneBatch(producer, 0, i, 1, time.Now(), name)); err != nil {
				l.t.Error(err)
			}
		}
	})
}

// counts is how many records the partition has of each name.
func (l *lostAndBack) counts() map[string]int {
	l.t.Helper()
	out := map[string]int{}
	for _, v := range l.records(l.topic, 0) {
		out[v[:strings.IndexByte(v, '-')]]++
	}
	return out
}

func (l *lostAndBack) isBack(cluster string) bool {
	return !sealedOn(l.chain(l.topic, 0), cluster, true) && l.watch.Snapshot().Extend(l.topic.ID) == nil
}

// heard is a log that tells what was written to it.
type heard struct {
	mu sync.Mutex
	b  []byte
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b = append(h.b, p...)
	return len(p), nil
}

func (h *heard) has(s string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Contains(h.b, []byte(s))
}

// What a return has taken in is not taken in again by the next one, and its span not judged again.
func TestSecondReturnLeavesSettledSpansAlone(t *testing.T) {
	t.Parallel()
	for _, stranded := range []string{strandedReplay, strandedInPlace} {
		t.Run(stranded, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			f.controller(func(o *Options) { o.SweepEvery = 10 * time.Millisecond })
			l := f.loses(stranded)
			l.strand("a", -1, "plain", 2)
			f.gateway(1, l.w)
			l.away()
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			first := l.of(catalog.OpReturn, isFinal)
			back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
			f.check(err)
			if back = f.done(back); back.State != catalog.OpDone || back.Total != 1 {
				t.Fatalf("%+v", back)
			}
			l.w.append(3)
			l.strand("a", 997, "later", 1)
			l.away()
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			second := l.of(catalog.OpReturn, func(c catalog.Certificate) bool { return c.Op != first.Op && isFinal(c) })
			if len(second.Partitions) != 1 {
				t.Errorf("the second return judged %d spans, want 1: %+v", len(second.Partitions), second)
			}
			for _, c := range []catalog.Certificate{first, second} {
				for _, p := range c.Partitions {
					if p.Verdict != catalog.VerdictVerified {
						t.Errorf("%+v", p)
					}
				}
			}
			want := map[string]int{"v": len(l.w.acked), "lonely": 3, "plain": 2, "later": 1}
			if got := l.counts(); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			if !l.isBack("a") {
				t.Error("not all is readable again")
			}
		})
	}
}

// What is stranded on one cluster was appended again on another one, which is away as well: it
// waits for that one, without the topic's extend, and is left out then, wherever on it the retry lies.
func TestReturnWaitsForRetriesOnAClusterThatIsAway(t *testing.T) {
	t.Parallel()
	for name, acked := range map[string]bool{"acknowledged": true, "stranded there as well": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b", "c")
			var said heard
			f.controller(func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
			l := f.loses(strandedReplay)
			retrier := f.writer(l.topic, 0, 998)
			f.gateway(1, l.w, retrier)
			at := func(cluster string) func() bool {
				return func() bool { return chain.OpenSpan(f.chain(l.topic, 0)).Copies[0].Cluster == cluster }
			}
			l.strand("a", 998, "v", 2)
			f.doubles["a"].set(func() { f.doubles["a"].away = true })
			f.until("the failover", func() bool { return !at("a")() })
			second := chain.OpenSpan(f.chain(l.topic, 0)).Copies[0].Cluster
			l.w.append(1)
			if acked {
				retrier.append(1)
				retrier.append(1)
				l.w.append(1) // what it saw acknowledged last is the end
			} else {
				l.strand(second, 998, "v", 2)
			}
			f.doubles[second].set(func() { f.doubles[second].away = true })
			f.until("the other failover", func() bool { return !at("a")() && !at(second)() })
			l.w.append(1)
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			f.until("the first return to be put off", func() bool { return said.has(errElsewhere.Error()) })
			if _, err := f.cat.Extend(f.ctx, l.topic.Tenant, l.topic.ID); !errors.Is(err, catalog.ErrNotFound) {
				t.Errorf("the topic has an extend while the return waits: %v", err)
			}
			f.doubles[second].set(func() { f.doubles[second].away = false })
			f.until("both returns", func() bool { return l.isBack("a") && l.isBack(second) })
			want := map[string]int{"v": len(l.w.acked) + 2, "lonely": 3}
			if got := l.counts(); !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			list, err := f.cat.Certificates(f.ctx, l.topic.ID)
			f.check(err)
			if !slices.ContainsFunc(list, func(c catalog.Certificate) bool {
				return c.Kind == catalog.OpReturn && c.From == "a" && c.Partitions[0].LeftOut == 2
			}) {
				t.Errorf("none tells of 2 records that were left out: %+v", list)
			}
		})
	}
}

// A range is read in place or left out, not both, and nothing is said to be appended anew where nothing was.
func TestReturnedRangesAreNamedOnce(t *testing.T) {
	t.Parallel()
	gaps := []catalog.Gap{{From: 5, To: 7}, {From: 10, To: 20}}
	for _, tc := range []struct {
		name string
		x    catalog.ReturnedSpan
		want []catalog.Range
	}{
		{"in place", catalog.ReturnedSpan{InPlace: true, Taken: 7, Left: 5, Skip: []catalog.Gap{{From: 5, To: 7}, {From: 12, To: 15}}}, []catalog.Range{
			{From: 5, To: 7, What: "left out", Note: cameAgain}, {From: 10, To: 12, What: "stranded", Note: readInPlace},
			{From: 12, To: 15, What: "left out", Note: cameAgain}, {From: 15, To: 20, What: "stranded", Note: readInPlace}}},
		{"all left out", catalog.ReturnedSpan{Left: 12}, []catalog.Range{
			{From: 5, To: 7, What: "left out", Note: cameAgain}, {From: 10, To: 20, What: "left out", Note: cameAgain}}},
		{"markers only", catalog.ReturnedSpan{}, nil},
	} {
		tc.x.Cut, tc.x.First, tc.x.Stranded = 10, -1, gaps
		v := returnedVerdict(&evidence{end: catalog.SealedEnd{Physical: 20, End: 20, Next: 100}, returned: &tc.x})
		if !slices.Equal(v.c.Ranges, tc.want) {
			t.Errorf("%s: %+v", tc.name, v.c.Ranges)
		}
	}
}
