package controller

import (
	"maps"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A cluster is lost of which no gateway that lives knows an acknowledgement: its span is cut at
// its own start, and looks empty. Retention leaves it alone, and all of it is back with the cluster.
func TestLostSpanThatLooksEmptyIsKept(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, stranded string
		deleted        int64 // records, by a client, before the loss
	}{
		{name: "replay", stranded: strandedReplay},
		{name: "in place", stranded: strandedInPlace},
		{name: "the start lies past the cut", stranded: strandedReplay, deleted: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			f.controller(func(o *Options) {
				o.RetentionEvery, o.SweepEvery, o.OrphanAge = 10*time.Millisecond, 10*time.Millisecond, 20*time.Millisecond
			})
			on := f.topic("on", 2, "b", map[string]string{ConfigGuarantee: guaranteeAvailable, ConfigStranded: tc.stranded, "retention.ms": "-1"})
			w, other := f.writer(on, 0, 100), f.writer(on, 1, 101)
			unheard := func(catalog.AckReport) bool { return false }
			w.publishes, other.publishes = unheard, unheard
			other.append(3)
			if op := f.done(f.move("a", "on")); op.State != catalog.OpDone {
				t.Fatalf("%+v", op)
			}
			for range 10 {
				w.append(1)
			}
			if tc.deleted > 0 {
				f.check(chain.FromCatalog(f.watch, f.cat).TrimStart(f.ctx, on.ID, 0, tc.deleted))
				f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(on, 0))].parts[0].start = tc.deleted })
				maps.DeleteFunc(w.acked, func(at int64, _ string) bool { return at < tc.deleted })
			}
			f.gateway(1) // it has seen none of them
			f.doubles["a"].set(func() { f.doubles["a"].away = true })
			f.until("the failover", func() bool {
				return chain.OpenSpan(f.chain(on, 0)).Copies[0].Cluster == "b" && chain.OpenSpan(f.chain(on, 1)).Copies[0].Cluster == "b"
			})
			// Retention looks at both partitions at once: when it has dropped what the other one has
			// below its start, it has looked at the lost span too.
			f.check(chain.FromCatalog(f.watch, f.cat).TrimStart(f.ctx, on.ID, 1, 3))
			f.until("retention of the other partition", func() bool { return f.chain(on, 1).Spans[0].Seq > 0 })
			if sp := f.chain(on, 0).Spans[0]; sp.End != sp.Start || !chain.Awaited(&sp) {
				t.Fatalf("the first span is %+v", sp)
			}
			l := &lostAndBack{fleet: f, topic: on, w: w}
			unheardOf := func(c catalog.Certificate) bool {
				return c.Partitions[0].Unreported && c.Partitions[0].Acknowledged == 0
			}
			if c := l.of(catalog.OpFailover, func(catalog.Certificate) bool { return true }); !unheardOf(c) {
				t.Errorf("nobody has reported: %+v", c.Partitions[0])
			}
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			f.until("the return", func() bool {
				return !sealedOn(f.chain(on, 0), "a", true) && f.watch.Snapshot().Extend(on.ID) == nil
			})
			w.verify()
			w.append(1)
			w.verify()
			if c := l.of(catalog.OpReturn, isFinal); !unheardOf(c) || c.Partitions[0].Verdict != catalog.VerdictUnverified {
				t.Errorf("nobody has reported: %+v", c.Partitions[0])
			}
			f.until("the other partition to hold nothing of the cluster", func() bool { return len(f.chain(on, 1).Spans) == 1 })
		})
	}
}

// A cluster is lost when all gateways that had appended there have ended. What they reported as they ended is not cut
// off, readers are told that end, and a producer that comes again has nothing twice; what others may
// have had acknowledged past it keeps its offsets when the cluster is back.
func TestCutHeedsReportsOfEndedRuns(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, stranded string
		killed         int // records that were acknowledged by a run which could not report them
		folded         bool
	}{
		{name: "replay", stranded: strandedReplay},
		{name: "in place", stranded: strandedInPlace},
		{name: "folded", stranded: strandedReplay, folded: true},
		{name: "and one run was killed", stranded: strandedReplay, killed: 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			f.controller(func(o *Options) { o.SweepEvery = 10 * time.Millisecond })
			on := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable, ConfigStranded: tc.stranded, "retention.ms": "-1"})
			w := f.writer(on, 0, 100)
			for i := range 4 {
				w.append(3)
				w.restart(value(int32(i)))
			}
			if tc.folded {
				f.until("the reports to be folded", func() bool { return len(f.reports(on)) < 3 })
			}
			unheard := w.publishes
			w.publishes = func(r catalog.AckReport) bool { return r.Span > 0 }
			for range tc.killed {
				w.append(1)
			}
			w.publishes, w.span = unheard, -1
			f.gateway(1) // it has seen none of them
			f.doubles["a"].set(func() { f.doubles["a"].away = true })
			f.until("the failover", func() bool { return chain.OpenSpan(f.chain(on, 0)).Copies[0].Cluster == "b" })
			ch := f.chain(on, 0)
			if sp := ch.Spans[0]; sp.End != 12 || !sp.Reported || !chain.Awaited(&sp) {
				t.Fatalf("the lost span is %+v", sp)
			}
			if end := chain.ReaderEnd(ch, chain.OpenSpan(ch).Start); end != 12 {
				t.Errorf("readers are told the end %d", end)
			}
			l := &lostAndBack{fleet: f, topic: on, w: w}
			if c := l.of(catalog.OpFailover, func(catalog.Certificate) bool { return true }).Partitions[0]; c.Acknowledged != 12 || c.Unreported || c.End != 12 {
				t.Errorf("while the cluster is away: %+v", c)
			}
			f.doubles["a"].set(func() { f.doubles["a"].away = false })
			f.until("the return", func() bool { return l.isBack("a") })
			w.verify()
			w.append(1)
			w.verify()
			if n := int64(len(f.records(on, 0))); n != 13+int64(tc.killed) {
				t.Errorf("%d records are in the chain", n)
			}
			c := l.of(catalog.OpReturn, isFinal).Partitions[0]
			want := catalog.VerdictVerified
			if tc.killed > 0 {
				want = catalog.VerdictUnverified
			}
			if c.Acknowledged != 12 || c.Unreported || c.Verdict != want || c.InPlace != int64(tc.killed) || c.Replayed != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}
