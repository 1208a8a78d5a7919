package controller

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// lostAndBack is a topic whose cluster is lost with twelve acknowledged records, and three that nobody
// knows of.
type lostAndBack struct {
	*fleet
	topic catalog.Topic
	w     *writer
	old   *doubleLog
}

func (f *fleet) loses(stranded string) *lostAndBack {
	f.t.Helper()
	topic := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable, ConfigStranded: stranded, "retention.ms": "-1"})
	l := &lostAndBack{fleet: f, topic: topic, w: f.writer(topic, 0, 100)}
	sp := chain.OpenSpan(f.chain(topic, 0))
	l.old = f.doubles["a"].topics[sp.Copies[0].Topic].parts[0]
	for range 12 {
		l.w.append(1)
	}
	h := &doubleHandle{d: f.doubles["a"], topic: topicOf(sp)}
	f.doubles["a"].set(func() {
		for i := range int32(3) {
			if _, err := h.append(oneBatch(999, 0, i, 1, time.Now(), "lonely")); err != nil {
				f.t.Error(err)
			}
		}
	})
	return l
}

// away takes the cluster away, and waits for the failover.
func (l *lostAndBack) away() {
	l.t.Helper()
	l.doubles["a"].set(func() { l.doubles["a"].away = true })
	l.until("the failover", func() bool { return chain.OpenSpan(l.chain(l.topic, 0)).Copies[0].Cluster == "b" })
	l.w.append(1)
}

// of gives the topic's certificate of a kind, once there is one.
func (l *lostAndBack) of(kind catalog.OpKind, ready func(catalog.Certificate) bool) (cert catalog.Certificate) {
	l.t.Helper()
	l.until("certificate of the "+string(kind), func() bool {
		list, err := l.cat.Certificates(l.ctx, l.topic.ID)
		l.check(err)
		for _, c := range list {
			if cert = c; c.Kind == kind && ready(c) {
				return true
			}
		}
		return false
	})
	return cert
}

func isFinal(c catalog.Certificate) bool {
	return !slices.ContainsFunc(c.Partitions, func(p catalog.PartitionCertificate) bool { return slices.ContainsFunc(p.Checked, isToCome) })
}

// The certificate of a failover says nothing of what was not read. When the cluster is back, its log is
// compared with what was acknowledged on it, and what was stranded is looked up where it was
// appended anew; the failover's certificate is revised by that.
func TestFailoverCertificateIsRevisedByTheReturn(t *testing.T) {
	t.Parallel()
	drop := func(l *doubleLog, i int) { l.batches = slices.Delete(l.batches, i, i+1) }
	again := func(l *doubleLog, i int) {
		b := slices.Clone(l.batches[i].bytes)
		batch.SetBaseOffset(b, l.end)
		l.batches, l.end = append(l.batches, doubleBatch{l.end, b}), l.end+1
	}
	for _, tc := range []struct {
		name     string
		stranded string
		silent   bool             // the gateway reports nothing
		back     func(*doubleLog) // done to the lost log before it is back
		replayed func(*doubleLog) // and to the one that it was appended to, before that is read
		verdict  catalog.Verdict
		what     string // a range that is named
		at       int64  // with this offset; -1 any
	}{
		{name: "honest", stranded: strandedReplay, verdict: catalog.VerdictVerified, what: "replayed", at: 12},
		{name: "honest, in place", stranded: strandedInPlace, verdict: catalog.VerdictVerified, what: "stranded", at: 12},
		{name: "a record is dropped", stranded: strandedReplay, back: func(l *doubleLog) { drop(l, 2) }, verdict: catalog.VerdictViolated, what: "lost", at: 2},
		{name: "a record is dropped, in place", stranded: strandedInPlace, back: func(l *doubleLog) { drop(l, 2) }, verdict: catalog.VerdictViolated, what: "lost", at: 2},
		{name: "it comes back shorter", stranded: strandedReplay, back: func(l *doubleLog) { l.batches, l.end = l.batches[:9], 9 }, verdict: catalog.VerdictViolated, what: "lost", at: 9},
		{name: "no gateway reports", stranded: strandedReplay, silent: true, verdict: catalog.VerdictUnverified, what: "unverified", at: 3},
		{name: "what was appended anew is dropped", stranded: strandedReplay, replayed: func(l *doubleLog) { drop(l, len(l.batches)-2) },
			verdict: catalog.VerdictViolated, what: "lost", at: 13},
		{name: "what was appended anew is doubled", stranded: strandedReplay, replayed: func(l *doubleLog) {
			again(l, len(l.batches)-2)
			l.batches[len(l.batches)-2], l.batches[len(l.batches)-1] = l.batches[len(l.batches)-1], l.batches[len(l.batches)-2]
			for i := len(l.batches) - 2; i < len(l.batches); i++ {
				l.batches[i].offset = int64(i)
				batch.SetBaseOffset(l.batches[i].bytes, int64(i))
			}
		}, verdict: catalog.VerdictViolated, what: "duplicated", at: -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			var l *lostAndBack
			var once sync.Once
			f.controller(func(o *Options) {
				o.SweepEvery = 10 * time.Millisecond // nothing that is needed later is swept
				o.Fault = func(p string) error {
					if p == FaultRestored && tc.replayed != nil {
						once.Do(func() {
							open := f.doubles["b"].topics[physicalNameOf(f.chain(l.topic, 0))].parts[0]
							f.doubles["b"].set(func() { tc.replayed(open) })
						})
					}
					return nil
				}
			})
			l = f.loses(tc.stranded)
			f.gateway(1, l.w)
			if tc.silent {
				l.w.publishes = func(catalog.AckReport) bool { return false }
			}
			l.away()
			first := l.of(catalog.OpFailover, func(catalog.Certificate) bool { return true })
			if p := first.Partitions[0]; !p.Unread || p.Found != 0 || p.Verdict != catalog.VerdictUnverified || first.Return != "" ||
				!slices.Contains(p.Checked, toComeReturn("a")) {
				t.Errorf("while the cluster is away: %+v", first)
			}
			f.until("the certificate to be postponed", func() bool {
				list, err := f.cat.Postponed(f.ctx, l.topic.ID)
				f.check(err)
				return len(list) == 1
			})
			f.doubles["a"].set(func() {
				if tc.back != nil {
					tc.back(l.old)
				}
				f.doubles["a"].away = false
			})
			back := l.of(catalog.OpReturn, isFinal)
			over := l.of(catalog.OpFailover, isFinal)
			if over.Return != back.Op || !slices.Equal(back.Failovers, []string{over.Op}) {
				t.Errorf("no link: %+v, %+v", over, back)
			}
			for _, c := range []catalog.Certificate{over, back} {
				p := c.Partitions[0]
				if p.Verdict != tc.verdict || p.Unread || !slices.ContainsFunc(p.Ranges, func(r catalog.Range) bool {
					return r.What == tc.what && (tc.at < 0 || r.From <= tc.at && tc.at < r.To)
				}) {
					t.Errorf("%s: %+v", c.Kind, p)
				}
				if tc.back == nil && !tc.silent && (p.Acknowledged != 12 || p.Found != 15) {
					t.Errorf("%s: %d acknowledged, %d found", c.Kind, p.Acknowledged, p.Found)
				}
				want := [2]int64{3, 0}
				if tc.stranded == strandedInPlace {
					want = [2]int64{0, 3}
				}
				if got := [2]int64{p.Replayed, p.InPlace}; tc.back == nil && got != want {
					t.Errorf("%s: %v were appended anew and are read in place, want %v", c.Kind, got, want)
				}
			}
			if tc.stranded == strandedReplay && tc.verdict == catalog.VerdictVerified && !slices.ContainsFunc(back.Partitions[0].Checked, func(s string) bool {
				return strings.HasPrefix(s, "3 batches of 3 stranded records, appended anew from offset ")
			}) {
				t.Errorf("what was read back is not said: %q", back.Partitions[0].Checked)
			}
			f.until("nothing is left of it", func() bool {
				list, err := f.cat.Postponed(f.ctx, l.topic.ID)
				f.check(err)
				under, err := f.cat.CertificationsOf(f.ctx, l.topic.ID)
				f.check(err)
				return len(list)+len(under) == 0 && !slices.ContainsFunc(f.reports(l.topic), func(r catalog.AckReport) bool { return r.Span == 0 })
			})
		})
	}
}

// A lost span that leaves the chain before its cluster is back was never read, and its certificate says so.
func TestPostponedCertificateOfATrimmedSpan(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller(func(o *Options) { o.SweepEvery, o.RetentionEvery = 10*time.Millisecond, 10*time.Millisecond })
	l := f.loses(strandedReplay)
	f.gateway(1, l.w)
	l.away()
	f.until("the certificate to be postponed", func() bool {
		list, err := f.cat.Postponed(f.ctx, l.topic.ID)
		f.check(err)
		return len(list) == 1
	})
	f.check(chain.FromCatalog(f.watch, f.cat).TrimStart(f.ctx, l.topic.ID, 0, chain.OpenSpan(f.chain(l.topic, 0)).Start))
	f.until("the chain does without the span", func() bool { return len(f.chain(l.topic, 0).Spans) == 1 })
	c := l.of(catalog.OpFailover, isFinal).Partitions[0]
	if !c.Unread || c.Verdict != catalog.VerdictUnverified || !slices.Contains(c.Checked, goneUnread) {
		t.Errorf("%+v", c)
	}
	f.until("nothing is left of it", func() bool {
		list, err := f.cat.Postponed(f.ctx, l.topic.ID)
		f.check(err)
		return len(list) == 0
	})
}

// Two spans of one partition are lost with the same cluster: the records that each of them left
// there are taken in, of both, once.
func TestReturnOfTwoSpansOfAPartition(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("on", 1, "a", map[string]string{ConfigGuarantee: guaranteeAvailable})
	w := f.writer(topic, 0, 100)
	strand := func(producer int64, name string, n int32) {
		t.Helper()
		w.append(2)
		h := &doubleHandle{d: f.doubles["a"], topic: topicOf(chain.OpenSpan(f.chain(topic, 0)))}
		f.doubles["a"].set(func() {
			for i := range n {
				if _, err := h.append(oneBatch(producer, 0, i, 1, time.Now(), name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	failover := func() {
		t.Helper()
		f.doubles["a"].set(func() { f.doubles["a"].away = true })
		op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", To: "b"})
		f.check(err)
		if op = f.done(op); op.State != catalog.OpDone || op.Total != 1 {
			t.Fatalf("%+v", op)
		}
		f.doubles["a"].set(func() { f.doubles["a"].away = false })
	}
	// No gateway votes, so that nothing is taken in between; one gives its word at fences.
	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, patience)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	words := make(chan struct{})
	var worded sync.WaitGroup
	worded.Go(func() {
		acked := map[string]bool{}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-words:
				return
			case <-tick.C:
			}
			for e := range f.watch.Snapshot().Extends() {
				w.mu.Lock()
				next := w.report.Next
				w.mu.Unlock()
				if e.Mode == catalog.ModeFence && e.Step == catalog.StepSeal && !acked[e.Op] {
					acked[e.Op] = f.cat.PutHoldAck(f.ctx, e.Topic.ID, e.Op, catalog.HoldAck{Node: 1, At: time.Now(), Next: []int64{next}}) == nil
				}
			}
		}
	})
	t.Cleanup(func() { close(words); worded.Wait() })
	f.controller()
	strand(998, "first", 3)
	failover()
	w.append(1)
	back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
	f.check(err)
	if back = f.done(back); back.State != catalog.OpDone || back.Total != 1 {
		t.Fatalf("%+v", back)
	}
	strand(999, "second", 4)
	failover()
	w.append(1)
	f.check(f.cat.PutClusterVote(f.ctx, s, catalog.ClusterVote{Cluster: "a", Up: true, Since: time.Now().Add(-time.Minute)}))
	l := &lostAndBack{fleet: f, topic: topic, w: w}
	cert := l.of(catalog.OpReturn, isFinal)
	if len(cert.Partitions) != 2 || len(cert.Failovers) != 2 || cert.Partitions[0].Replayed != 3 || cert.Partitions[1].Replayed != 4 {
		t.Errorf("%+v", cert)
	}
	count := map[string]int{}
	for _, v := range f.records(topic, 0) {
		count[v[:strings.IndexByte(v, '-')]]++
	}
	if count["first"] != 3 || count["second"] != 4 || count["v"] != len(w.acked) {
		t.Errorf("%v, and %d were acknowledged", count, len(w.acked))
	}
}

// What was appended anew counts as verified only as far as it was read where it went: nobody but the return has counted it.
func TestReplayThatWasNotReadIsUnverified(t *testing.T) {
	t.Parallel()
	stranded := []catalog.Gap{{From: 100, To: 106}, {From: 108, To: 112}}
	for _, tc := range []struct {
		name   string
		replay replayed
		want   catalog.Verdict
		from   int64
	}{
		{"nothing is on record", replayed{why: "it is not on record where"}, catalog.VerdictUnverified, 100},
		{"it is gone", replayed{why: "they are gone"}, catalog.VerdictUnverified, 100},
		{"a part was read", replayed{batches: 2, records: 4, from: 104, why: "more than the limit"}, catalog.VerdictUnverified, 104},
		{"all of it was read", replayed{batches: 5, records: 10, from: 112, whole: true}, catalog.VerdictVerified, 0},
		{"one is missing, and the rest was not read", replayed{batches: 2, records: 4, from: 104, lost: 2, why: "more than the limit"}, catalog.VerdictViolated, 104},
	} {
		ev := evidence{
			end:      catalog.SealedEnd{End: 100, Physical: 112, Next: 200},
			returned: &catalog.ReturnedSpan{Cut: 100, End: 100, First: -1, Taken: 10, Stranded: stranded},
			reports:  []catalog.AckReport{{Node: 1, Records: 102, Next: 100}},
			strayEnd: 112, replay: tc.replay,
		}
		c := judgeReturned(0, &ev)
		named := slices.ContainsFunc(c.Ranges, func(r catalog.Range) bool { return r.What == "unverified" && r.From == tc.from && r.To == 112 })
		if c.Verdict != tc.want || named != (tc.from > 0) || strings.Contains(strings.Join(c.Checked, " "), "count only") {
			t.Errorf("%s: %s, %+v, %q", tc.name, c.Verdict, c.Ranges, c.Checked)
		}
	}
}
