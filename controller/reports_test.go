package controller

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Gateways are started again and again, as are controllers: what they have reported
// stays small, and the certificate compares all of it with the sealed span.
func TestRestartsDoNotFillTheCatalog(t *testing.T) {
	for _, harm := range []bool{false, true} {
		t.Run(map[bool]string{false: "honest", true: "one record is dropped"}[harm], func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			var once sync.Once
			old := ""
			options := func(o *Options) {
				o.SweepEvery, o.ReportsWait = time.Millisecond, patience
				o.Fault = func(p string) error {
					if p == FaultCommitted && harm {
						once.Do(func() {
							f.doubles["a"].set(func() {
								l := f.doubles["a"].topics[old].parts[0]
								l.batches = slices.Delete(l.batches, 77, 78)
							})
						})
					}
					return nil
				}
			}
			c := f.controller(options)
			topic := f.topic("orders", 1, "a", nil)
			old = physicalNameOf(f.chain(topic, 0))
			ws := []*writer{f.writer(topic, 0, 100), f.writer(topic, 0, 200)}
			ws[1].node = 2
			const runs = 200
			for i := range runs {
				w := ws[i%2]
				w.append(1)
				w.append(2)
				w.restart(fmt.Sprint("run", i))
				if i%50 == 49 { // wherever its sweep is
					c.Close()
					c = f.controller(options)
				}
			}
			f.until("few reports are left", func() bool { return len(f.reports(topic)) <= 3 })
			for _, w := range ws {
				w.append(1)
			}
			op := f.move("b", "orders")
			for _, w := range ws {
				w.through()
			}
			p := f.lastWord(topic, f.done(op))
			compared := slices.ContainsFunc(p.Checked, func(s string) bool {
				return strings.HasPrefix(s, "every batch acknowledged in offsets 0 to ") && strings.Contains(s, "by offset, count and checksum")
			})
			if p.Acknowledged < 3*runs+2 || p.Acknowledged != p.End || !compared {
				t.Errorf("%+v", p)
			}
			if !harm && (p.Verdict != catalog.VerdictVerified || p.Found != p.Acknowledged) {
				t.Errorf("%+v", p)
			}
			if harm && (p.Verdict != catalog.VerdictViolated || p.Lost == 0 || !slices.ContainsFunc(p.Ranges, func(r catalog.Range) bool {
				return r.What == "lost" && r.From <= 116 && 116 < r.To
			})) {
				t.Errorf("%+v", p)
			}
			f.until("the reports are dropped", func() bool { return len(f.reports(topic)) == 0 })
		})
	}
}

// A certificate that comes late finds the old copy removed, or its head, or reads it in
// another controller: what the counts had verified stays so, and it says what was not compared.
func TestLateCertificate(t *testing.T) {
	const past = int64(-1)
	for _, tc := range []struct {
		name    string
		trim    int64 // where the chain begins by then; past: behind the sealed span
		remove  bool  // the copy is gone
		crash   bool  // and so is the controller
		verdict catalog.Verdict
		says    string
	}{
		{"the copy is removed", past, true, false, catalog.VerdictVerified, "offsets 0 to %d by count only: the sealed copy was removed"},
		{"and another controller takes over", past, true, true, catalog.VerdictVerified, "offsets 0 to %d by count only: the sealed copy was removed"},
		{"the copy is removed by nobody", 0, true, false, catalog.VerdictUnverified, ""},
		{"its head is trimmed meanwhile", 20, false, false, catalog.VerdictVerified, "every batch acknowledged in offsets 20 to %d was compared"},
		{"another controller takes over", 0, false, true, catalog.VerdictVerified, "every batch acknowledged in offsets 0 to %d was compared"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 1, "a", map[string]string{"retention.ms": "-1"})
			w := f.writer(topic, 0, 100)
			old := topicOf(chain.OpenSpan(f.chain(topic, 0)))
			for range 20 {
				w.append(2)
			}
			reached, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f.controller(func(o *Options) {
				o.ReportsWait, o.RetentionEvery = patience, 10*time.Millisecond
				o.Fault = func(p string) (err error) {
					if p == FaultTurnedOver {
						once.Do(func() {
							close(reached)
							select {
							case <-goOn:
							case <-f.ctx.Done():
							}
							if tc.crash {
								err = Crashed()
							}
						})
					}
					return err
				}
			})
			op := f.move("b", "orders")
			w.through()
			op = f.done(op)
			<-reached
			if p := f.certificate(topic, op.ID).Partitions[0]; p.Verdict != catalog.VerdictVerified {
				t.Fatalf("by count: %+v", p)
			}
			a := f.doubles["a"]
			end := f.chain(topic, 0).Spans[0].End
			if tc.trim == past {
				tc.trim = end
			}
			if tc.says != "" {
				tc.says = fmt.Sprintf(tc.says, end)
			}
			if tc.trim > 0 {
				f.check(chain.FromCatalog(f.watch, f.cat).TrimStart(f.ctx, topic.ID, 0, tc.trim))
			}
			if tc.trim == end {
				f.until("the chain does without the copy", func() bool { return len(f.chain(topic, 0).Spans) == 1 })
			}
			if tc.remove {
				f.check(a.Delete(f.ctx, old))
			} else {
				a.set(func() {
					l := a.topics[old.Name].parts[0]
					a.asked = func(*doubleLog) { l.start = tc.trim }
				})
			}
			close(goOn)
			if tc.crash {
				f.controller(func(o *Options) { o.ReportsWait = patience })
			}
			p := f.lastWord(topic, op)
			if p.Verdict != tc.verdict || p.Acknowledged != end || p.Found != end && tc.trim != 20 ||
				tc.says != "" && !slices.ContainsFunc(p.Checked, func(s string) bool { return strings.HasPrefix(s, tc.says) }) {
				t.Errorf("%+v", p)
			}
			if tc.remove && slices.ContainsFunc(p.Checked, func(s string) bool { return strings.HasPrefix(s, "every batch") }) {
				t.Errorf("it says more than was done: %q", p.Checked)
			}
		})
	}
}

// Of two moves in quick succession the second is certified first: the first finds its
// reports all the same, and then none are left.
func TestCertificatesLeaveOthersTheirReports(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(5)
	var first atomic.Bool
	goOn := make(chan struct{})
	f.controller(func(o *Options) {
		o.ReportsWait, o.SweepEvery = patience, time.Millisecond
		o.Fault = func(p string) error {
			if p == FaultTurnedOver && !first.Swap(true) {
				select {
				case <-goOn:
				case <-f.ctx.Done():
				}
			}
			return nil
		}
	})
	one := f.move("b", "orders")
	w.through()
	one = f.done(one)
	f.until("the first certificate to be held up", first.Load)
	two := f.move("a", "orders")
	w.through()
	two = f.done(two)
	f.until("the second one's last word", func() bool {
		list, err := f.cat.CertificationsOf(f.ctx, topic.ID)
		f.check(err)
		return len(list) == 1
	})
	if n := len(f.reports(topic)); n < 2 {
		t.Errorf("%d reports are left for the first one", n)
	}
	close(goOn)
	for _, op := range []catalog.Op{one, two} {
		if p := f.lastWord(topic, op); p.Verdict != catalog.VerdictVerified || p.Acknowledged != p.Found || p.Found == 0 {
			t.Errorf("%+v", p)
		}
	}
	f.until("the reports are dropped", func() bool { return len(f.reports(topic)) == 0 })
}

// Reports that come too late for their certificate go, as do those of topics that are
// gone. Those of an open span stay.
func TestLateReportsGo(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller(func(o *Options) { o.SweepEvery = time.Millisecond })
	topic := f.topic("orders", 2, "a", nil)
	f.done(f.move("b", "orders"))
	f.until("the certificate's last word", func() bool {
		list, err := f.cat.CertificationsOf(f.ctx, topic.ID)
		f.check(err)
		return len(list) == 0
	})
	seq := chain.OpenSpan(f.chain(topic, 1)).Seq
	f.check(f.cat.PutAckReports(f.ctx, topic.ID, []catalog.AckReport{{Partition: 0, Span: 0}, {Partition: 1, Span: 0}, {Partition: 1, Span: seq, Last: true}}))
	gone := catalog.RandomID()
	f.check(f.cat.PutAckReports(f.ctx, gone, []catalog.AckReport{{}}))
	f.until("late reports go", func() bool {
		return len(f.reports(topic)) == 1 && len(f.reports(catalog.Topic{ID: gone})) == 0
	})
	if r := f.reports(topic)[0]; r.Partition != 1 || r.Span != seq {
		t.Errorf("left is %+v", r)
	}
}
