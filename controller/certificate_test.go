package controller

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A cluster that drops, doubles, swaps or alters acknowledged records is named by
// the certificate.
func TestCertificateNamesWhatAClusterDid(t *testing.T) {
	for _, tc := range []struct {
		name string
		lie  func(l *doubleLog) // on the sealed copy, before it is certified
		want string
	}{
		// What the counts, which are those of offsets, cannot tell is seen among the
		// last batches only, which are compared one by one.
		{"dropped", func(l *doubleLog) { l.batches = slices.Delete(l.batches, len(l.batches)-3, len(l.batches)-2) }, "lost"},
		{"swapped", func(l *doubleLog) {
			x, y := &l.batches[len(l.batches)-3], &l.batches[len(l.batches)-2]
			batch.SetBaseOffset(x.bytes, y.offset)
			batch.SetBaseOffset(y.bytes, x.offset)
			x.bytes, y.bytes = y.bytes, x.bytes
		}, "lost"},
		{"altered", func(l *doubleLog) {
			x := &l.batches[len(l.batches)-2]
			h, _, err := batch.Parse(x.bytes)
			if err != nil {
				panic(err)
			}
			x.bytes = oneBatch(100, 0, h.BaseSequence, 1, time.Unix(5, 0), "other")
			batch.SetBaseOffset(x.bytes, x.offset)
		}, "lost"},
		{"stray", func(l *doubleLog) {
			b := oneBatch(100, 0, 50, 1, time.Unix(5, 0), "stray")
			batch.SetBaseOffset(b, l.end)
			l.batches = append(l.batches, doubleBatch{l.end, b})
			l.end++
		}, "stray"},
		{"honest", func(*doubleLog) {}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 1, "a", nil)
			w := f.writer(topic, 0, 100)
			for range 6 {
				w.append(1)
			}
			old := f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0]
			f.controller(func(o *Options) {
				o.Fault = func(p string) error {
					if p == FaultCommitted {
						f.doubles["a"].set(func() { tc.lie(old) })
					}
					return nil
				}
			})
			op := f.move("b", "orders")
			w.through()
			op = f.done(op)
			var p catalog.PartitionCertificate
			f.until("the last word of the certificate", func() bool {
				p = f.certificate(topic, op.ID).Partitions[0]
				return slices.ContainsFunc(p.Checked, func(s string) bool { return strings.Contains(s, "read again after") })
			})
			if tc.want == "" {
				if p.Verdict != catalog.VerdictVerified || p.Acknowledged != p.Found {
					t.Errorf("%+v", p)
				}
				return
			}
			if p.Verdict != catalog.VerdictViolated || !slices.ContainsFunc(p.Ranges, func(r catalog.Range) bool { return r.What == tc.want }) {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	b := func(offset int64, records int32, producer int64, first int32) seenBatch {
		return seenBatch{offset: offset, next: offset + int64(records), records: records, crc: uint32(offset), producer: producer, first: first, last: first + records - 1}
	}
	end := catalog.SealedEnd{Span: 0, Start: 0, End: 10, Next: 10, Physical: 10}
	full := []catalog.AckReport{{Records: 10}}
	for _, tc := range []struct {
		name                        string
		ev                          evidence
		verdict                     catalog.Verdict
		lost, duplicated, reordered int64
	}{
		{"all is well", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 1, 1, 2)}}, catalog.VerdictVerified, 0, 0, 0},
		{"no report", evidence{tail: []seenBatch{b(8, 2, 1, 0)}}, catalog.VerdictUnverified, 0, 0, 0},
		{"unknown outcomes count", evidence{reports: []catalog.AckReport{{Records: 7, Unknown: 3}}}, catalog.VerdictVerified, 0, 0, 0},
		{"more acknowledged than there", evidence{reports: []catalog.AckReport{{Records: 11}}}, catalog.VerdictViolated, 1, 0, 0},
		{"doubled over the boundary", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 1, 0)}}, catalog.VerdictViolated, 0, 2, 0},
		{"missing at the boundary", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 1, 5)}}, catalog.VerdictViolated, 3, 0, 0},
		{"reordered in the next span", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 1, 4), b(12, 2, 1, 2)}}, catalog.VerdictViolated, 2, 0, 2},
		{"a new producer", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 2, 7)}}, catalog.VerdictVerified, 0, 0, 0},
		{"the next span cannot be read", evidence{reports: full, headErr: errEnough}, catalog.VerdictUnverified, 0, 0, 0},
		{"the sealed copy cannot be read", evidence{reports: full, tailErr: errEnough}, catalog.VerdictUnverified, 0, 0, 0},
		{"it cannot be read again", evidence{reports: full, strayErr: errEnough}, catalog.VerdictUnverified, 0, 0, 0},
		{"the cluster is away", evidence{reports: full, lossy: true}, catalog.VerdictUnverified, 0, 0, 0},
	} {
		tc.ev.end, tc.ev.strayEnd = end, -1
		c := judge(0, &tc.ev)
		if c.Verdict != tc.verdict || c.Lost != tc.lost || c.Duplicated != tc.duplicated || c.Reordered != tc.reordered {
			t.Errorf("%s: %+v", tc.name, c)
		}
		if c.Verdict != catalog.VerdictVerified && len(c.Ranges) == 0 {
			t.Errorf("%s: no range says why", tc.name)
		}
	}
}

// A physical log that went back is left behind: the chain ends where it went back
// to, the next span begins past all that was acknowledged, and the certificate
// names the range. What was appended on the reused offsets is no duplicate.
func TestRepair(t *testing.T) {
	f := newFleet(t, "a", "b")
	f.controller()
	topic := f.topic("orders", 2, "a", nil)
	w, other := f.writer(topic, 0, 100), f.writer(topic, 1, 101)
	w.append(2)
	w.append(2)
	w.append(2)
	other.append(3)
	f.doubles["a"].set(func() {
		l := f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0]
		l.batches, l.end = l.batches[:1], 2 // 2 to 6 are gone
		b := oneBatch(100, 0, 6, 1, time.Now(), "v")
		batch.SetBaseOffset(b, 2) // appended on a used offset, and never acknowledged
		l.batches, l.end = append(l.batches, doubleBatch{2, b}), 3
	})
	f.check(f.cat.PutAlarm(f.ctx, catalog.Alarm{Topic: catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID},
		Partition: 0, Span: 0, Acknowledged: 6, End: 2, At: time.Now()}))
	f.until("the repair", func() bool { return len(f.chain(topic, 0).Spans) == 2 })
	ch := f.chain(topic, 0)
	if ch.Spans[0].End != 2 || !ch.Spans[0].Hole || ch.Spans[0].Copies[0].Unreadable || ch.Spans[1].Start != 6+repairRoom {
		t.Errorf("%+v", ch)
	}
	if oc := f.chain(topic, 1); oc.Spans[0].Hole || oc.Spans[1].Start != 3 {
		t.Errorf("the healthy partition: %+v", oc)
	}
	blob, err := f.cat.Producers(f.ctx, ch.Sealed)
	f.check(err)
	state, err := chain.DecodeProducers(blob)
	f.check(err)
	if p := chain.FindProducer(state, 100); p == nil || !p.Jump || p.LastSequence != 5 {
		t.Errorf("state: %+v", state)
	} else if r, _ := chain.Judge(p, 0, 6, 6); r != chain.RuleAppend {
		t.Errorf("the batch that was never acknowledged is ruled %v", r)
	}
	w.append(1)
	var cert catalog.Certificate
	f.until("the certificate", func() bool {
		list, err := f.cat.Certificates(f.ctx, topic.ID)
		f.check(err)
		if len(list) == 1 {
			cert = list[0]
		}
		return len(list) == 1
	})
	if p := cert.Partitions[0]; cert.Kind != catalog.OpRepair || p.Lost != 4 || p.Verdict != catalog.VerdictViolated ||
		!slices.ContainsFunc(p.Ranges, func(r catalog.Range) bool { return r.What == "lost" && r.From == 2 && r.To == 6 }) {
		t.Errorf("%+v", cert)
	}
	f.until("the alarm to be dropped", func() bool {
		list, err := f.cat.Alarms(f.ctx)
		f.check(err)
		return len(list) == 0
	})
}

// A log that was cut goes back on a cluster that was away for so long that it is called
// failed: it stays so until an operator fails back, and its topics go on there all the same.
func TestRepairOnAClusterThatIsCalledFailed(t *testing.T) {
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(6)
	c, err := f.cat.Cluster(f.ctx, "a")
	f.check(err)
	c.State = catalog.ClusterFailed
	_, err = f.cat.PutCluster(f.ctx, c, catalog.Fence{})
	f.check(err)
	f.check(f.cat.PutAlarm(f.ctx, catalog.Alarm{Topic: catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID},
		Partition: 0, Span: 0, Acknowledged: 6, End: 2, At: time.Now()}))
	f.controller()
	f.until("the repair", func() bool { return len(f.chain(topic, 0).Spans) == 2 })
	if ch := f.chain(topic, 0); !ch.Spans[0].Hole || chain.OpenSpan(ch).Copies[0].Cluster != "a" {
		t.Errorf("%+v", ch)
	}
}

// An alarm that comes when the seal holds already, after the alarms were read, is
// heeded all the same: the log went back on the way.
func TestAlarmBehindTheSeal(t *testing.T) {
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(6)
	var raised atomic.Bool
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			if p != FaultSealed || raised.Swap(true) {
				return nil
			}
			return f.cat.PutAlarm(f.ctx, catalog.Alarm{Topic: catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID},
				Partition: 0, Span: 0, Acknowledged: 6, End: 2, At: time.Now()})
		}
	})
	if op := f.done(f.move("b", "orders")); op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	ch := f.chain(topic, 0)
	if len(ch.Spans) < 2 || ch.Spans[0].End != 2 || !ch.Spans[0].Hole || ch.Spans[1].Start != 6+repairRoom {
		t.Errorf("%+v", ch)
	}
}
