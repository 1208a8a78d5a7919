package local_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
	"github.com/braidstream/braid/span/local"
)

// system is a log of one partition: a real broker's or ours. Every method answers with
// text, codes as Kafka numbers them, in which what may differ is left out.
//
// What is normalised:
//   - times that a broker's clock gave (LogAppendTime) are shown as "now";
//   - the answer to a duplicate: Kafka tells its timestamp as log append time even
//     with CreateTime, we tell -1 there as for any append;
//   - the end of a transaction is the broker's own marker, written to ours as it stands there;
//   - a topic that is only compacted is not asked to delete records: the gateway
//     refuses that, while the engine does it for chains;
//   - after a compaction single records are compared, and what read_committed
//     shows of them: where the cleaners cut segments differs, and with it which empty batches stay;
//   - a last stable offset below the log start, where the head of an open transaction was
//     deleted: a broker tells it or the log start, by the kind of request and time; we tell the log start;
//   - aborted transactions that began past what was read: a broker names some of them;
//   - a transactional batch of a former epoch: a broker may ask the transaction's
//     coordinator first, whose code is another one; that both refuse is compared;
//   - the largest time is not asked for after a trim: a broker may name a record below its log start;
//   - a transaction does not begin with a gap or with a batch of the one before: a broker remembers the
//     lowest sequence that it was asked to append since it last asked the coordinator (KIP-890), also
//     of what it refused, and what follows depends on that;
//   - times are not looked up where a trim left a segment below the log start: a broker looks
//     into that first, and says that there is nothing when its records are all below;
//   - the limits on record times are compared where they are set: a broker's own default
//     (an hour ahead of its clock) is the gateway's to apply.
type system interface {
	// produce appends one batch. txn names the transactional id, "" for none.
	produce(raw []byte, txn string) string
	// read returns all batches from the offset to the end, and the bounds.
	read(offset int64, committed bool) string
	// records returns the visible records only.
	records(committed bool) []string
	list(ms int64) string
	offsets() string
	deleteBefore(offset int64) string
	producers() string
	configure(config map[string]string)
}

// Batches of these sizes fit both of the limits that a sequence changes between, one, none.
const (
	smallLimit, largeLimit = "1500", "3000"
	middleSize, hugeSize   = 2000, 4000
)

// sequence is one random course of requests, sent to both systems.
type sequence struct {
	t        testing.TB
	seed     uint64
	rng      *rand.Rand
	kafka    *apache
	ours     *engine
	trace    []string
	requests int

	config    map[string]string
	base      int64 // time of the first records, ms
	batches   int64
	compacted bool
	trimmed   bool
	everLAT   bool // some records may carry the broker's time
	producers []*diffProducer
	txns      []*diffTxn
	keys      int
}

type diffProducer struct {
	id    int64
	epoch int16
	next  int32
	sent  [][]byte
}

// diffTxn is a transactional id.
type diffTxn struct {
	name string
	diffProducer
	open bool
}

// TestDifferential sends the same random requests to Apache Kafka and to the engine, and compares
// the answers: offsets, times, codes, producers' state, transactions' views, and what cleaners and
// retention leave.
func TestDifferential(t *testing.T) {
	kafka := testkit.Shared(t, testkit.Property("log.cleaner.backoff.ms", "100"), testkit.Property("log.retention.check.interval.ms", "200"),
		testkit.Property("log.initial.task.delay.ms", "200"), testkit.Property("transaction.state.log.num.partitions", "1"))
	from, n := uint64(0), uint64(16)
	if os.Getenv("BRAID_SOAK") != "" {
		n = 300
	}
	// BRAID_DIFFERENTIAL=FROM,N runs N seeds from FROM on.
	if v := os.Getenv("BRAID_DIFFERENTIAL"); v != "" {
		if _, err := fmt.Sscanf(v, "%d,%d", &from, &n); err != nil {
			t.Fatalf("BRAID_DIFFERENTIAL=%q, want FROM,N: %v", v, err)
		}
	}
	total := 0
	for seed := from; seed < from+n; seed++ {
		s := newSequence(t, seed, kafka)
		s.run()
		total += s.requests
		if seed%20 == 19 {
			t.Logf("seed %d, %d requests", seed, total)
		}
		s.ours.close()
	}
	compareSizes(t, kafka)
	if !t.Failed() {
		summary.Line(t, "local engine beside Apache Kafka: %d sequences, %d requests were answered alike", n, total)
	}
}

// compareSizes sends batches around the size of a segment, below and above the topic's limit.
func compareSizes(t *testing.T, kafka *testkit.Cluster) {
	name := fmt.Sprintf("sizes-%d", time.Now().UnixNano())
	config := map[string]string{"retention.ms": "-1", "segment.bytes": "1048576", "max.message.bytes": "1200000"}
	theirs := newApache(t, kafka, name, config)
	ours := newEngine(t, name, config, func(o *local.Options) { o.LogFileBytes = 8 << 20 })
	defer ours.close()
	for _, size := range []int{1<<20 - 1, 1 << 20, 1<<20 + 1, 1_200_000, 1_200_001} {
		raw := made(t, time.Now().UnixMilli(), string(make([]byte, size-100)))
		raw = made(t, time.Now().UnixMilli(), string(make([]byte, size-100+size-len(raw))))
		if len(raw) != size {
			t.Fatalf("a batch of %d bytes, want %d", len(raw), size)
		}
		if k, e := theirs.produce(raw, ""), ours.produce(raw, ""); k != e {
			t.Fatalf("a batch of %d bytes: Kafka says %s, we say %s", size, k, e)
		}
	}
}

func newSequence(t testing.TB, seed uint64, kafka *testkit.Cluster) *sequence {
	s := &sequence{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), base: time.Now().Add(-10 * time.Minute).UnixMilli()}
	s.config = map[string]string{"retention.ms": "-1", "max.message.bytes": largeLimit, "message.timestamp.after.max.ms": "3600000",
		"message.timestamp.before.max.ms": "86400000"}
	switch seed % 4 {
	case 2:
		s.compacted = true
		for k, v := range map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.ms": "1",
			"delete.retention.ms": []string{"0", "86400000"}[s.rng.IntN(2)]} {
			s.config[k] = v
		}
	case 3:
		s.config["segment.ms"] = "1"
	default:
		if s.rng.IntN(3) == 0 {
			s.config["message.timestamp.type"] = "LogAppendTime"
			s.everLAT = true
		}
	}
	s.keys = 3 + s.rng.IntN(8)
	name := fmt.Sprintf("diff-%d-%d", seed, time.Now().UnixNano())
	s.kafka = newApache(t, kafka, name, s.config)
	s.ours = newEngine(t, name, s.config)
	for range 3 {
		s.producers = append(s.producers, &diffProducer{id: 1<<40 + s.rng.Int64N(1<<30)})
	}
	if seed%4 != 3 {
		for i := range 2 {
			x := &diffTxn{name: fmt.Sprintf("%s-%d", name, i)}
			x.id, x.epoch = s.kafka.initProducer(x.name)
			s.txns = append(s.txns, x)
		}
	}
	return s
}

// same asks both and compares.
func (s *sequence) same(what string, ask func(system) string) string {
	s.t.Helper()
	theirs := ask(s.kafka)
	ours := ask(s.ours)
	s.requests++
	s.trace = append(s.trace, what+" -> "+theirs)
	if ours != theirs {
		s.t.Fatalf("seed %d: %s\n Kafka says %s\n    we say %s\nafter\n%s", s.seed, what, theirs, ours,
			strings.Join(s.trace[max(0, len(s.trace)-40):], "\n"))
	}
	return theirs
}

func (s *sequence) run() {
	steps := 40
	for range steps {
		switch p := s.rng.IntN(100); {
		case p < 15:
			s.plain()
		case p < 45:
			s.idempotent()
		case p < 70 && len(s.txns) > 0:
			s.transactional()
		case p < 80:
			s.lookup()
		case p < 88 && !s.compacted: // there a broker cleans while we go on
			s.fetch()
		case p < 92 && !s.compacted:
			s.trim()
		case p < 95 && s.seed%4 < 2:
			s.reconfigure()
		case p < 97:
			s.same("producers", system.producers)
		default:
			s.same("offsets", system.offsets)
		}
	}
	if s.compacted {
		s.clean()
	} else if s.seed%4 == 3 {
		s.retain()
	}
	s.same("producers", system.producers)
	s.same("offsets", system.offsets)
	if !s.compacted {
		s.same("read all", func(x system) string { return x.read(-1, false) })
		s.same("read all committed", func(x system) string { return x.read(-1, true) })
	}
}

// build makes a batch with random records.
func (s *sequence) build(b *batch.Builder) []byte {
	s.batches++
	b.Codec(batch.Codec([]int{0, 0, 0, 1, 2, 3, 4}[s.rng.IntN(7)]))
	ts := s.base + s.batches*10
	// Where a broker rolls by the records' times, and segments are compared, they do not go back.
	if s.rng.IntN(6) == 0 && s.seed%4 != 3 {
		ts -= s.rng.Int64N(100) // clients' clocks differ
	}
	switch s.rng.IntN(40) {
	case 0:
		ts += 2 * time.Hour.Milliseconds()
	case 1:
		ts -= 48 * time.Hour.Milliseconds()
	}
	n := 1 + s.rng.IntN(4)
	huge := s.rng.IntN(25)
	for i := range n {
		r := batch.Record{Timestamp: ts + int64(s.rng.IntN(5)), Value: fmt.Appendf(nil, "value-%d-%d-%d", s.seed, s.batches, i)}
		if s.compacted || s.rng.IntN(2) == 0 {
			r.Key = fmt.Appendf(nil, "key-%d", s.rng.IntN(s.keys))
		}
		switch s.rng.IntN(30) {
		case 0:
			r.Key = nil
		case 1, 2, 3, 4:
			if r.Key != nil {
				r.Value = nil
			}
		case 5:
			r.Value, r.Key = []byte{}, []byte{}
		case 6:
			r.Headers = []batch.RecordHeader{{Key: []byte("h"), Value: []byte("1")}, {Key: []byte("h")}}
		}
		if i == 0 && huge < 2 {
			b.Codec(batch.None)
			r.Value = []byte(strings.Repeat("x", []int{middleSize, hugeSize}[huge]))
		}
		b.Add(r)
	}
	raw, err := b.Build()
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// send appends to both; true if it landed.
func (s *sequence) send(what string, raw []byte, txn string) bool {
	s.t.Helper()
	h, _, err := batch.Parse(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	what = fmt.Sprintf("%s: producer %d/%d seq %d, %d records, %d bytes, attributes %x, max time %d", what, h.ProducerID, h.ProducerEpoch, h.BaseSequence,
		h.NumRecords, len(raw), h.Attributes, h.MaxTimestamp)
	a := s.same(what, func(x system) string { return x.produce(raw, txn) })
	if s.seed%4 >= 2 {
		s.ours.flush() // a segment for each batch, as segment.ms=1 makes with Kafka
	}
	return strings.HasPrefix(a, "0 ")
}

func (s *sequence) plain() {
	raw := s.build(batch.NewBuilder())
	if s.rng.IntN(20) == 0 {
		raw[len(raw)-1] ^= 1
		s.same("damaged batch", func(x system) string { return x.produce(raw, "") })
		return
	}
	s.send("append", raw, "")
}

func (s *sequence) idempotent() {
	p := s.producers[s.rng.IntN(len(s.producers))]
	if len(p.sent) == 0 && s.rng.IntN(3) == 0 {
		p.next = []int32{5, 1<<31 - 2}[s.rng.IntN(2)] // an unknown producer begins anywhere; sequences wrap
	}
	epoch, seq := p.epoch, p.next
	what := "idempotent"
	switch s.rng.IntN(12) {
	case 0, 1:
		if len(p.sent) > 0 {
			s.send("again", p.sent[max(0, len(p.sent)-1-s.rng.IntN(7))], "")
			return
		}
	case 2:
		what, seq = "gap", batch.IncrementSequence(seq, 1+int32(s.rng.IntN(3)))
	case 3:
		if epoch > 0 {
			what, epoch = "former epoch", epoch-1
		}
	case 4:
		what, epoch, seq = "new epoch", epoch+1, 0
	case 5:
		what, epoch, seq = "new epoch, wrong sequence", epoch+1, 3
	}
	raw := s.build(batch.NewBuilder().Producer(p.id, epoch, seq))
	if s.send(what, raw, "") {
		p.landed(raw)
	}
}

func (p *diffProducer) landed(raw []byte) {
	h, _, _ := batch.Parse(raw)
	p.epoch, p.next = h.ProducerEpoch, batch.IncrementSequence(h.LastSequence(), 1)
	p.sent = append(p.sent, raw)
}

func (s *sequence) transactional() {
	x := s.txns[s.rng.IntN(len(s.txns))]
	switch p := s.rng.IntN(14); {
	case p < 7:
		if !x.open {
			s.kafka.addPartition(x.name, x.id, x.epoch)
			x.open = true
		}
		raw := s.build(batch.NewBuilder().Producer(x.id, x.epoch, x.next).Transactional())
		if s.send("transactional", raw, x.name) {
			x.landed(raw)
		}
	case p < 10:
		if x.open {
			commit := s.rng.IntN(3) > 0
			s.end(x, func() bool { return s.kafka.endTxn(x.name, x.id, x.epoch, commit) })
		}
	case p == 10 && x.open && len(x.sent) > 0 && s.openInLog(x):
		s.send("transactional again", x.sent[max(0, len(x.sent)-1-s.rng.IntN(3))], x.name)
	case p == 11 && x.open && s.openInLog(x):
		s.send("gap in a transaction", s.build(batch.NewBuilder().Producer(x.id, x.epoch, x.next+1).Transactional()), x.name)
	case p == 12 && x.open && s.openInLog(x):
		epoch, seq := x.epoch, x.next
		if s.rng.IntN(2) == 0 {
			epoch, seq = epoch+1, 0
		}
		s.send("not transactional while one is open", s.build(batch.NewBuilder().Producer(x.id, epoch, seq)), "")
	case p == 13:
		was, open := x.epoch, x.open
		var epoch int16
		s.end(x, func() bool {
			_, epoch = s.kafka.initProducer(x.name)
			return x.open
		})
		x.epoch, x.next, x.sent = epoch, 0, nil
		if !open {
			return // no marker told the partition of the new epoch: only the coordinator knows
		}
		raw := s.build(batch.NewBuilder().Producer(x.id, was, 0).Transactional())
		s.same("former epoch of a transactional id", func(y system) string {
			if strings.HasPrefix(y.produce(raw, x.name), "0 ") {
				return "landed"
			}
			return "refused"
		})
	}
}

// openInLog tells whether the partition knows of the open transaction: its first batch may have been refused.
func (s *sequence) openInLog(x *diffTxn) bool {
	return strings.Contains(s.ours.producers(), fmt.Sprintf("%d/%d ", x.id, x.epoch)) && s.ours.txnStart(x.id) >= 0
}

// end has Kafka end a transaction and writes its marker to ours.
func (s *sequence) end(x *diffTxn, f func() (marked bool)) {
	before := s.ours.end()
	if !f() {
		return
	}
	x.open = false
	for _, m := range s.kafka.markersFrom(before) {
		s.trace = append(s.trace, fmt.Sprintf("marker %+v", m))
		s.ours.mark(s.t, m)
	}
	// A broker tells of the marker a moment before it moves the last stable offset.
	want := s.ours.offsets()
	s.kafka.await("the last stable offset to move: "+want, func() bool { return s.kafka.offsets() == want })
	s.same("offsets after a transaction", system.offsets)
}

func (s *sequence) lookup() {
	ms := s.base + s.rng.Int64N(s.batches*10+20)
	kind := s.rng.IntN(6)
	if s.compacted || s.trimmed && s.seed%4 == 3 {
		kind %= 2
	}
	switch kind {
	case 0:
		ms = -2
	case 1:
		ms = -1
	case 2:
		// Where two batches got their time in one millisecond here and in two there,
		// the first with the largest is another one.
		if ms = -3; s.trimmed || s.everLAT {
			ms = -2
		}
	case 3:
		ms = s.base - 72*time.Hour.Milliseconds()
	case 4:
		ms = s.base + 100*time.Hour.Milliseconds()
	}
	if s.everLAT && ms > 0 && ms < s.base+99*time.Hour.Milliseconds() {
		ms = 1
	}
	s.same(fmt.Sprintf("list offsets at %d", ms), func(x system) string { return x.list(ms) })
}

func (s *sequence) fetch() {
	offset := s.rng.Int64N(s.ours.end()+4) - 1
	committed := s.rng.IntN(2) == 0
	s.same(fmt.Sprintf("read at %d, committed %v", offset, committed), func(x system) string { return x.read(offset, committed) })
}

func (s *sequence) trim() {
	offset := s.rng.Int64N(s.ours.end()+3) - 1
	if s.rng.IntN(3) > 0 {
		offset /= 3
	}
	s.trimmed = true
	s.same(fmt.Sprintf("delete before %d", offset), func(x system) string { return x.deleteBefore(offset) })
}

// reconfigure changes the largest batch, by which it is seen to have come into force, and
// something else at random.
func (s *sequence) reconfigure() {
	change := map[string]string{"max.message.bytes": smallLimit}
	if s.config["max.message.bytes"] == smallLimit {
		change["max.message.bytes"] = largeLimit
	}
	switch s.rng.IntN(3) {
	case 0:
		change["message.timestamp.type"] = []string{"CreateTime", "LogAppendTime"}[s.rng.IntN(2)]
		s.everLAT = s.everLAT || change["message.timestamp.type"] == "LogAppendTime"
	case 1:
		change["message.timestamp.before.max.ms"] = []string{"86400000", "9223372036854775807"}[s.rng.IntN(2)]
	case 2:
		change["message.timestamp.after.max.ms"] = []string{"3600000", "9223372036854775807"}[s.rng.IntN(2)]
	}
	s.trace = append(s.trace, fmt.Sprintf("configure %v", change))
	s.kafka.configure(change)
	s.ours.configure(change)
	for k, v := range change {
		s.config[k] = v
	}
}

// clean ends what is open, appends a last batch behind which the cleaners do not look, and waits
// until both have left the same.
func (s *sequence) clean() {
	for _, x := range s.txns {
		if x.open {
			s.end(x, func() bool { return s.kafka.endTxn(x.name, x.id, x.epoch, s.rng.IntN(2) == 0) })
		}
	}
	// A broker rolls by the records' times, and markers are ten minutes ahead of the data.
	at := time.Now().Add(40 * time.Minute).UnixMilli()
	last := func() {
		at += 10
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: at, Key: []byte("last"), Value: []byte("last")}).Build()
		if err != nil {
			s.t.Fatal(err)
		}
		s.send("last", raw, "")
	}
	last()
	for _, committed := range []bool{false, true} {
		var theirs, ours []string
		deadline, more := time.Now().Add(time.Minute), time.Now().Add(time.Second)
		for {
			if time.Now().After(more) {
				// A tombstone goes in a second pass, which a broker makes when there is more to clean.
				last()
				more = time.Now().Add(time.Second)
			}
			s.ours.compact()
			theirs, ours = s.kafka.records(committed), s.ours.records(committed)
			if slices.Equal(theirs, ours) {
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("seed %d: after compaction (committed %v)\n only Kafka has %q\n only we have %q\n%s", s.seed, committed, without(theirs, ours), without(ours, theirs), strings.Join(s.trace, "\n"))
			}
		}
		s.requests++
		s.trace = append(s.trace, fmt.Sprintf("%d records left by the cleaners", len(ours)))
	}
}

func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(v string) bool { return slices.Contains(other, v) })
}

// retain lowers retention, by size or by time, and waits until both have the same log start.
func (s *sequence) retain() {
	change := map[string]string{"retention.bytes": fmt.Sprint(200 + s.rng.IntN(3000))}
	if s.rng.IntN(2) == 0 {
		// From the middle of the records' times on.
		middle := s.base + s.batches*5
		change = map[string]string{"retention.ms": fmt.Sprint(time.Now().UnixMilli() - middle)}
		s.ours.freeze()
	}
	change["max.message.bytes"] = smallLimit
	s.trace = append(s.trace, fmt.Sprintf("configure %v", change))
	s.kafka.configure(change)
	s.ours.configure(change)
	deadline := time.Now().Add(time.Minute)
	for {
		s.ours.retain()
		theirs, ours := s.kafka.offsets(), s.ours.offsets()
		if theirs == ours {
			s.trace = append(s.trace, "retention left "+ours)
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("seed %d: after retention\n Kafka says %s\n we say %s\n%s", s.seed, theirs, ours, strings.Join(s.trace, "\n"))
		}
	}
}
