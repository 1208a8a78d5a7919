package controller

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A cluster that drops, doubles, swaps or alters acknowledged records is named by
// the certificate, wherever they lie, with the range of offsets.
func TestCertificateNamesWhatAClusterDid(t *testing.T) {
	t.Parallel()
	swap := func(x, y *doubleBatch) {
		batch.SetBaseOffset(x.bytes, y.offset)
		batch.SetBaseOffset(y.bytes, x.offset)
		x.bytes, y.bytes = y.bytes, x.bytes
	}
	alter := func(x *doubleBatch) {
		h, _, err := batch.Parse(x.bytes)
		if err != nil {
			panic(err)
		}
		x.bytes = oneBatch(100, 0, h.BaseSequence, 1, time.Unix(5, 0), "other")
		batch.SetBaseOffset(x.bytes, x.offset)
	}
	double := func(l *doubleLog) {
		b := slices.Clone(l.batches[len(l.batches)-1].bytes)
		batch.SetBaseOffset(b, l.end)
		l.batches = append(l.batches, doubleBatch{l.end, b})
		l.end++
	}
	for _, tc := range []struct {
		name  string
		early func(l *doubleLog) // when the log holds four batches
		lie   func(l *doubleLog) // on the sealed copy, before it is certified
		limit int64
		want  string
		at    int64 // an offset in the range that is named
	}{
		{name: "dropped", lie: func(l *doubleLog) { l.batches = slices.Delete(l.batches, len(l.batches)-3, len(l.batches)-2) }, want: "lost", at: -3},
		{name: "swapped", lie: func(l *doubleLog) { swap(&l.batches[len(l.batches)-3], &l.batches[len(l.batches)-2]) }, want: "lost", at: -3},
		{name: "altered", lie: func(l *doubleLog) { alter(&l.batches[len(l.batches)-2]) }, want: "lost", at: -2},
		// What follows is further from the end than what gateways list one by one.
		{name: "dropped far from the end", lie: func(l *doubleLog) { l.batches = slices.Delete(l.batches, 5, 6) }, want: "lost", at: 5},
		{name: "swapped far from the end", lie: func(l *doubleLog) { swap(&l.batches[5], &l.batches[8]) }, want: "lost", at: 5},
		{name: "altered far from the end", lie: func(l *doubleLog) { alter(&l.batches[6]) }, want: "lost", at: 6},
		{name: "doubled in another's place", lie: func(l *doubleLog) {
			l.batches[7].bytes = slices.Clone(l.batches[6].bytes)
			batch.SetBaseOffset(l.batches[7].bytes, l.batches[7].offset)
		}, want: "lost", at: 7},
		{name: "doubled far from the end", early: double, want: "duplicated", at: 4},
		{name: "of nobody", early: func(l *doubleLog) {
			b := oneBatch(77, 0, 0, 1, time.Unix(5, 0), "of a gateway that is gone")
			batch.SetBaseOffset(b, l.end)
			l.batches = append(l.batches, doubleBatch{l.end, b})
			l.end++
		}, want: "unverified", at: 4},
		{name: "past the limit", lie: func(l *doubleLog) { alter(&l.batches[6]) }, limit: 500, want: ""},
		{name: "trimmed by nobody", lie: func(l *doubleLog) { l.start = 20 }, want: "unverified", at: 3},
		{name: "stray", lie: func(l *doubleLog) {
			b := oneBatch(100, 0, 500, 1, time.Unix(5, 0), "stray")
			batch.SetBaseOffset(b, l.end)
			l.batches = append(l.batches, doubleBatch{l.end, b})
			l.end++
		}, want: "stray", at: 0},
		{name: "honest"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			topic := f.topic("orders", 1, "a", nil)
			// Two gateways, whose batches lie among each other.
			one, two := f.writer(topic, 0, 100), f.writer(topic, 0, 200)
			two.node = 2
			old := f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0]
			for i := range 20 {
				if i == 2 && tc.early != nil {
					f.doubles["a"].set(func() { tc.early(old) })
				}
				one.append(1)
				two.append(1)
			}
			var end int64
			var once sync.Once             // a leader that takes over passes the point again
			written := make(chan struct{}) // both gateways' reports are
			f.controller(func(o *Options) {
				o.CertifyBytes = tc.limit
				o.Fault = func(p string) error {
					if p == FaultCommitted {
						once.Do(func() {
							f.doubles["a"].set(func() {
								if end = old.end; tc.lie != nil {
									tc.lie(old)
								}
							})
						})
						select {
						case <-written:
						case <-f.ctx.Done():
						}
					}
					return nil
				}
			})
			op := f.move("b", "orders")
			one.through()
			two.through()
			close(written)
			op = f.done(op)
			p := f.lastWord(topic, op)
			if tc.want == "" {
				if p.Verdict != catalog.VerdictVerified || p.Acknowledged != p.Found {
					t.Errorf("%+v", p)
				}
				said := slices.ContainsFunc(p.Checked, func(s string) bool { return strings.Contains(s, "by count only: more than braid.certify.bytes") })
				if said != (tc.limit > 0) {
					t.Errorf("checked: %q", p.Checked)
				}
				return
			}
			at := tc.at
			if at < 0 {
				at += end
			}
			want := catalog.VerdictViolated
			if tc.want == "unverified" {
				want = catalog.VerdictUnverified
			}
			if p.Verdict != want || !slices.ContainsFunc(p.Ranges, func(r catalog.Range) bool {
				return r.What == tc.want && (tc.want == "stray" || r.From <= at && at < r.To && r.To-r.From <= 20)
			}) {
				t.Errorf("%+v", p)
			}
		})
	}
}

// lastWord waits until nothing of an operation's certificate is to come any more.
func (f *fleet) lastWord(topic catalog.Topic, op catalog.Op) (p catalog.PartitionCertificate) {
	f.t.Helper()
	f.until("the last word of the certificate", func() bool {
		p = f.certificate(topic, op.ID).Partitions[0]
		return !slices.ContainsFunc(p.Checked, func(s string) bool { return strings.HasPrefix(s, "to come") })
	})
	return p
}

// What the log of a chunk holds beside, or instead of, what was acknowledged there.
func TestJudgeContent(t *testing.T) {
	t.Parallel()
	b := func(offset int64, records int32, producer int64) seenBatch {
		return seenBatch{offset: offset, next: offset + int64(records), records: records, crc: uint32(producer*1000 + offset), producer: producer, first: int32(offset), last: int32(offset) + records - 1}
	}
	x, y, z := b(0, 1, 1), b(1, 2, 2), b(3, 1, 3)
	z2 := b(5, 1, 3)
	other := z
	other.crc++
	free := b(4, 1, -1)
	free.first = -1
	copyOf := func(s seenBatch, at int64) seenBatch {
		s.offset, s.next = at, at+int64(s.records)
		return s
	}
	for _, tc := range []struct {
		name       string
		acked, log []seenBatch
		doubt      []seenBatch // of unknown outcome
		verdict    catalog.Verdict
		lost, dup  int64
		range0     string
	}{
		{"the same", []seenBatch{x, y, z}, []seenBatch{x, y, z}, nil, catalog.VerdictVerified, 0, 0, ""},
		{"in any order", []seenBatch{z, x, y}, []seenBatch{x, y, z}, nil, catalog.VerdictVerified, 0, 0, ""},
		{"one is missing", []seenBatch{x, y, z}, []seenBatch{x, z}, nil, catalog.VerdictViolated, 2, 0, "lost"},
		{"one is another", []seenBatch{x, y, z}, []seenBatch{x, y, other}, nil, catalog.VerdictViolated, 1, 0, "lost"},
		{"one is another, and one more", []seenBatch{x, z}, []seenBatch{x, y, other}, nil, catalog.VerdictViolated, 1, 0, "lost"},
		{"one more", []seenBatch{x, z}, []seenBatch{x, y, z}, nil, catalog.VerdictUnverified, 0, 0, "unverified"},
		{"two more", []seenBatch{x}, []seenBatch{x, y, z}, nil, catalog.VerdictUnverified, 0, 0, "unverified"},
		{"one more, of unknown outcome", []seenBatch{x, z}, []seenBatch{x, y, z}, []seenBatch{y}, catalog.VerdictVerified, 0, 0, ""},
		{"three more, of unknown outcome", []seenBatch{free}, []seenBatch{x, y, z, free}, []seenBatch{x, y, z}, catalog.VerdictVerified, 0, 0, ""},
		{"three more", []seenBatch{free}, []seenBatch{x, y, z, free}, []seenBatch{x, y}, catalog.VerdictUnverified, 0, 0, "unverified"},
		{"one twice", []seenBatch{x, y}, []seenBatch{x, y, copyOf(x, 3)}, nil, catalog.VerdictViolated, 0, 1, "duplicated"},
		{"one acknowledged by two gateways", []seenBatch{x, y, y, z}, []seenBatch{x, y, z}, nil, catalog.VerdictVerified, 0, 0, ""},
		{"two in a row acknowledged by two gateways", []seenBatch{x, y, y, z, z2, z2, z, free}, []seenBatch{x, free, y, z, z2}, nil, catalog.VerdictViolated, 4, 0, "lost"},
		{"two of one producer in a row acknowledged by two gateways", []seenBatch{x, z, z2, z2, z, free}, []seenBatch{x, z, free, z2}, nil, catalog.VerdictVerified, 0, 0, ""},
		{"one without a producer acknowledged twice", []seenBatch{x, free, free}, []seenBatch{x, free}, nil, catalog.VerdictViolated, 1, 0, "lost"},
	} {
		r := catalog.AckReport{Digest: &catalog.AckDigest{}}
		for _, b := range tc.acked {
			r.Digest.Add(b.offset, b.records, b.crc)
			r.Records += int64(b.records)
		}
		for _, b := range tc.doubt {
			r.InDoubt = append(r.InDoubt, catalog.AckedBatch{Offset: -1, Records: b.records, CRC: b.crc})
		}
		ev := evidence{end: catalog.SealedEnd{End: 10, Next: 10, Physical: 10}, reports: []catalog.AckReport{r}, strayEnd: 10}
		c, _ := contentOf(&ev, 1<<20)
		ev.content = c
		c.to, c.held, c.batches = 10, make([]catalog.AckChunk, len(c.digest.Chunks)), [][]seenBatch{tc.log}
		for _, b := range tc.log {
			c.count(b)
		}
		got := judge(0, &ev)
		if got.Verdict != tc.verdict || got.Lost != tc.lost || got.Duplicated != tc.dup || (len(got.Ranges) > 0) != (tc.range0 != "") || tc.range0 != "" && got.Ranges[0].What != tc.range0 {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
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
		{"ends of transactions count", evidence{reports: []catalog.AckReport{{Records: 6, Markers: 3}, {Unknown: 1}}}, catalog.VerdictVerified, 0, 0, 0},
		{"more than ends of transactions", evidence{reports: []catalog.AckReport{{Records: 6, Markers: 3}}}, catalog.VerdictUnverified, 0, 0, 0},
		{"an end is counted twice", evidence{reports: []catalog.AckReport{{Records: 8, Markers: 3}}}, catalog.VerdictUnverified, 0, 0, 0},
		{"unknown outcomes count", evidence{reports: []catalog.AckReport{{Records: 7, Unknown: 3}}}, catalog.VerdictVerified, 0, 0, 0},
		{"more acknowledged than there", evidence{reports: []catalog.AckReport{{Records: 11}}}, catalog.VerdictViolated, 1, 0, 0},
		{"doubled over the boundary", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 1, 0)}}, catalog.VerdictViolated, 0, 2, 0},
		{"missing at the boundary", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 1, 5)}}, catalog.VerdictViolated, 3, 0, 0},
		{"reordered in the next span", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 1, 4), b(12, 2, 1, 2)}}, catalog.VerdictViolated, 2, 0, 2},
		{"a new producer", evidence{reports: full, tail: []seenBatch{b(8, 2, 1, 0)}, head: []seenBatch{b(10, 2, 2, 7)}}, catalog.VerdictVerified, 0, 0, 0},
		{"the next span cannot be read", evidence{reports: full, headErr: errEnough}, catalog.VerdictUnverified, 0, 0, 0},
		{"the sealed copy cannot be read", evidence{reports: full, tailErr: errEnough}, catalog.VerdictUnverified, 0, 0, 0},
		{"it cannot be read again", evidence{reports: full, strayErr: errEnough}, catalog.VerdictUnverified, 0, 0, 0},
		// The topic's setting was another when these were appended.
		{"stamped by the cluster once", evidence{reports: []catalog.AckReport{{Records: 10, Tail: []catalog.AckedBatch{{Offset: 8, Records: 2, CRC: 99}}}},
			tail: []seenBatch{{offset: 8, next: 10, records: 2, crc: 8, producer: -1, first: -1, stamped: true}}}, catalog.VerdictVerified, 0, 0, 0},
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
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller(reported)
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
		f.doubles["a"].halved = true // logs go back where brokers are away; there is no other place for the topic
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
	other.append(1)
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
	t.Parallel()
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
	t.Parallel()
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

// A pause is the time in which an append waited; where nobody produced it is none.
func TestPauses(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	none := int64(-1)
	for _, tc := range []struct {
		name         string
		sealed, next []catalog.AckReport
		want         int64 // ms, -1 not known
		idle         bool
	}{
		{"nothing", nil, nil, none, false},
		{"nobody went on yet", []catalog.AckReport{{LastAck: 10 * ms}}, nil, none, false},
		{"of a release that does not say", []catalog.AckReport{{LastAck: 10 * ms, FirstAck: 7010 * ms}}, nil, 7000, false},
		{"it waited from the seal on", []catalog.AckReport{{LastAck: 10 * ms, FirstAck: 30 * ms, Asked: 9 * ms}}, nil, 20, false},
		{"it came to a sealed span after a silence", []catalog.AckReport{{LastAck: 10 * ms, FirstAck: 7010 * ms, Asked: 7005 * ms}}, nil, 5, false},
		{"it came after the move", []catalog.AckReport{{LastAck: 10 * ms, FirstAck: 7010 * ms, Asked: 7009 * ms, Idle: true}}, nil, none, true},
		{"one of two gateways was idle", []catalog.AckReport{{LastAck: 10 * ms, FirstAck: 7010 * ms, Asked: 7009 * ms, Idle: true},
			{LastAck: 12 * ms, FirstAck: 40 * ms, Asked: 11 * ms}}, nil, 28, false},
		{"no later than the last", []catalog.AckReport{{LastAck: 10 * ms, FirstAck: 10 * ms, Asked: 9 * ms}}, nil, none, false},
	} {
		got, idle := pauseMs(tc.sealed, tc.next)
		if idle != tc.idle || (got == nil) != (tc.want < 0) || got != nil && int64(*got) != tc.want {
			t.Errorf("%s: %v, idle %v; want %d ms, idle %v", tc.name, got, idle, tc.want, tc.idle)
		}
	}
	quiet := evidence{end: catalog.SealedEnd{End: 1, Next: 1}, strayEnd: -1, reports: []catalog.AckReport{{LastAck: 10 * ms, Records: 1}}}
	for _, final := range []bool{false, true} {
		if quiet.final = final; judge(0, &quiet).Idle != final {
			t.Errorf("nobody went on, final %v: %+v", final, judge(0, &quiet))
		}
	}
	quiet.reports[0].Asked = 11 * ms
	if p := judge(0, &quiet); p.Idle || p.PauseMs != nil {
		t.Errorf("somebody was sent back, and did not come again: %+v", p)
	}
}
