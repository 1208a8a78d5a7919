package local_test

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// What the crash model knows of topics, and how it looks at the store.

type modelTopic struct {
	span.Topic
	sealed, gone bool
	compacted    bool
	brief        bool // tombstones and markers may go at once
	parts        []*modelPart
}

// modelRecord is a record, or the one of a marker.
type modelRecord struct {
	key, value string // the key only in a compacted topic; no value: a tombstone
	ts         int64
	control    bool
	fate       fate
}

// fate is what became of a record's transaction.
type fate int

const (
	decided fate = iota // committed, or of no transaction
	undecided
	aborted
)

func (r modelRecord) String() string {
	return fmt.Sprintf("key %q value %.20q of %d at %d, control %v, fate %d", r.key, r.value, len(r.value), r.ts, r.control, r.fate)
}

// same tells whether what was read is what was written.
func (r modelRecord) same(got modelRecord) bool {
	r.fate, got.fate = decided, decided
	return r == got
}

type modelPart struct {
	start, end int64
	records    map[int64]modelRecord
	plain, txn modelProducer
	open       []int64 // offsets of the open transaction
}

// modelProducer is a producer of the partition.
type modelProducer struct {
	id    int64
	epoch int16
	seq   int32
	last  []byte
	at    int64 // offset of last
}

func newPart(i int) *modelPart {
	return &modelPart{records: map[int64]modelRecord{}, plain: modelProducer{id: 1<<40 + int64(i), at: -1}, txn: modelProducer{id: 1<<41 + int64(i), at: -1}}
}

// sent is an append on its way: a plain batch, one of the producer, one in its transaction, or the end of that.
type sent struct {
	records  []modelRecord
	producer func(*modelPart) *modelProducer // nil: none
	epoch    int16
	seq      int32 // of the producer's next batch, behind this one
	txn      bool
	end      bool // of the transaction; commit tells how
	commit   bool
	raw      []byte
}

// landed moves an append into the model.
func (p *modelPart) landed(d *sent, offset int64) {
	for i, r := range d.records {
		if d.txn {
			r.fate = undecided
			p.open = append(p.open, offset+int64(i))
		}
		p.records[offset+int64(i)] = r
	}
	p.end = offset + int64(len(d.records))
	if d.end {
		for _, o := range p.open {
			r := p.records[o]
			if r.fate = aborted; d.commit {
				r.fate = decided
			}
			p.records[o] = r
		}
		p.open = nil
	}
	if d.producer == nil {
		return
	}
	x := d.producer(p)
	x.epoch, x.seq = d.epoch, d.seq
	if !d.end {
		x.last, x.at = d.raw, offset
	}
}

// stable is the last stable offset.
func (p *modelPart) stable() int64 {
	if len(p.open) == 0 {
		return p.end
	}
	return max(p.start, p.open[0])
}

// readAll reads a partition from an offset on: everything, or what a consumer of committed records shows.
func (m *machine) readAll(l span.Log, from int64, committed bool) (got map[int64]modelRecord, end int64) {
	return consume(m.t, l, from, committed)
}

// checkPart compares a partition with the model, and returns what is in it.
func (m *machine) checkPart(mt *modelTopic, i int) map[int64]modelRecord {
	p := mt.parts[i]
	l := m.s.Log(mt.Topic, int32(i))
	defer l.Release()
	o, err := l.Offsets(context.Background())
	if err != nil || o.Start != p.start || o.End != p.end || o.HighWatermark != p.end || o.LastStable != p.stable() {
		m.t.Fatalf("%s/%d: offsets %+v, %v, want [%d, %d, %d)", mt.Name, i, o, err, p.start, p.stable(), p.end)
	}
	got, end := m.readAll(l, p.start, false)
	if end != p.end && (!mt.compacted || end > p.end) {
		m.t.Fatalf("%s/%d: read to %d, want %d\n%s", mt.Name, i, end, p.end, m.s.Internals(mt.Topic, int32(i)))
	}
	for offset, r := range got {
		if want, ok := p.records[offset]; !ok || !want.same(r) {
			m.t.Fatalf("%s/%d: offset %d holds %v, want %v", mt.Name, i, offset, r, want)
		}
	}
	m.checkMissing(mt, i, got)
	if p.txn.at >= 0 {
		m.checkCommitted(mt, i, l, got)
	}
	return got
}

// checkMissing: of a compacted log only such records are gone that may be, of any other one none; and where a compaction
// was, none is left that is of no use.
func (m *machine) checkMissing(mt *modelTopic, i int, got map[int64]modelRecord) {
	p := mt.parts[i]
	fail := func(what string, offset int64) {
		m.t.Fatalf("%s/%d: %s: offset %d: %v\n%s", mt.Name, i, what, offset, p.records[offset], m.s.Internals(mt.Topic, int32(i)))
	}
	if !mt.compacted {
		for offset := p.start; offset < p.end; offset++ {
			if _, ok := got[offset]; !ok {
				fail("gone", offset)
			}
		}
		return
	}
	cleaned := m.s.Cleaned(mt.Topic, int32(i))
	later := map[string]bool{} // keys with a later record
	ended := map[string]bool{} // keys whose last record is a tombstone that is gone
	below := map[string]bool{} // keys with a later record in what was compacted
	for offset := p.end - 1; offset >= p.start; offset-- {
		r := p.records[offset]
		_, ok := got[offset]
		switch {
		case r.control:
			if !ok && !mt.brief {
				fail("a marker is gone before its time", offset)
			}
			continue
		case r.fate == aborted:
			if ok && offset < cleaned {
				fail("an aborted record is left by a compaction", offset)
			}
			continue
		case r.fate == undecided:
			if !ok {
				fail("gone while its transaction is open", offset)
			}
			continue
		case !ok && !later[r.key]:
			if r.value != "" || !mt.brief {
				fail("the last record of its key is gone", offset)
			}
			ended[r.key] = true
		case ok && ended[r.key]:
			fail("back, though the tombstone behind it has done its work", offset)
		case ok && offset < cleaned && below[r.key]:
			fail("left by a compaction, with a later record of its key", offset)
		}
		later[r.key] = true
		if offset < cleaned {
			below[r.key] = true
		}
	}
}

// checkCommitted: a consumer of committed records sees all of them below the last stable offset, and no other.
func (m *machine) checkCommitted(mt *modelTopic, i int, l span.Log, got map[int64]modelRecord) {
	p := mt.parts[i]
	seen, _ := m.readAll(l, p.start, true)
	for offset, r := range got {
		if want := p.records[offset]; want.control || want.fate != decided || offset >= p.stable() {
			continue
		} else if !r.same(seen[offset]) {
			m.t.Fatalf("%s/%d: the committed record at %d is read as %v", mt.Name, i, offset, seen[offset])
		}
	}
	for offset := range seen {
		if p.records[offset].fate != decided || offset >= p.stable() {
			m.t.Fatalf("%s/%d: offset %d is read as committed: %v, last stable offset %d", mt.Name, i, offset, p.records[offset], p.stable())
		}
	}
}

// list looks up times: any, and the largest.
func (m *machine) list(t *rapid.T) {
	mt := m.live(t)
	i := rapid.IntRange(0, len(mt.parts)-1).Draw(t, "partition")
	got := m.checkPart(mt, i)
	l := m.s.Log(mt.Topic, int32(i))
	defer l.Release()
	offsets := slices.Sorted(maps.Keys(got))
	largest := int64(batch.NoTimestamp)
	for _, r := range got {
		largest = max(largest, r.ts)
	}
	m.ran.lists.Add(1)
	for _, ask := range []int64{span.MaxTimestamp, int64(rapid.IntRange(0, m.values*10+20).Draw(t, "time"))} {
		want := span.Position{Offset: -1}
		for _, o := range offsets {
			if ask == span.MaxTimestamp && got[o].ts == largest || ask >= 0 && got[o].ts >= ask {
				want = span.Position{Offset: o, Timestamp: got[o].ts}
				break
			}
		}
		at, found, err := l.OffsetFor(context.Background(), ask)
		if !found {
			at = span.Position{Offset: -1}
		}
		if err != nil || at != want {
			t.Fatalf("%s/%d: time %d is at %+v, %v, want %+v\n%s", mt.Name, i, ask, at, err, want, m.s.Internals(mt.Topic, int32(i)))
		}
	}
}

func (m *machine) checkAll() {
	list, err := m.s.Topics(context.Background(), "")
	if err != nil {
		m.t.Fatal(err)
	}
	var want []string
	for _, mt := range m.topics {
		if mt.gone {
			continue
		}
		want = append(want, mt.Name)
		for i := range mt.parts {
			m.checkPart(mt, i)
		}
	}
	var got []string
	for _, t := range list {
		got = append(got, t.Name)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.t.Fatalf("topics %v, want %v", got, want)
	}
}

// value is another one, some longer than a sector, so that they tear.
func (m *machine) value() string {
	m.values++
	n := []int{0, 10, 600, 5000}[m.values%4]
	return fmt.Sprintf("%d-%0*d", m.values, n+1, 7)
}

// record is another one for the topic. Their times go back and forth.
func (m *machine) record(mt *modelTopic) modelRecord {
	r := modelRecord{value: m.value()}
	r.ts = int64(m.values*10 + 20 - m.values*71%400)
	if mt.compacted {
		r.key = fmt.Sprint("k", m.values*5%7)
		if m.values%6 == 0 {
			r.value = ""
		}
	}
	return r
}

// fataler is a test, of rapid's or not.
type fataler interface{ Fatalf(string, ...any) }

// consume reads a partition from an offset on: everything, or what a consumer of committed records shows.
func consume(t fataler, l span.Log, from int64, committed bool) (got map[int64]modelRecord, end int64) {
	got = map[int64]modelRecord{}
	offset := from
	for {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 3000, Committed: committed})
		if err != nil {
			t.Fatalf("read at %d: %v", offset, err)
		}
		if len(r.Batches) == 0 {
			r.Release()
			return got, offset
		}
		offset = shown(t, &r, offset, committed, got)
		r.Release()
	}
}

// shown adds the records from an offset on of what was read to got, and returns the offset past it. As with Apache Kafka's consumer, a
// transaction is skipped from where it is said to begin up to its marker.
func shown(t fataler, r *span.ReadResult, from int64, committed bool, got map[int64]modelRecord) (next int64) {
	begins := slices.Clone(r.Aborted)
	skipped := map[int64]bool{}
	for h, b := range batch.Walk(r.Batches) {
		if err := batch.Verify(b); err != nil {
			t.Fatalf("batch at %d: %v", h.BaseOffset, err)
		}
		next = h.NextOffset()
		begins = slices.DeleteFunc(begins, func(a span.Aborted) bool {
			skipped[a.ProducerID] = skipped[a.ProducerID] || a.FirstOffset <= h.LastOffset()
			return a.FirstOffset <= h.LastOffset()
		})
		if committed && h.IsControl() {
			if marker, err := batch.ParseMarker(b); err != nil {
				t.Fatalf("marker at %d: %v", h.BaseOffset, err)
			} else if !marker.Commit {
				skipped[h.ProducerID] = false
			}
			continue
		}
		if committed && h.IsTransactional() && skipped[h.ProducerID] {
			continue
		}
		for rec, err := range batch.Records(b, 1<<24) {
			if err != nil {
				t.Fatalf("records of the batch at %d: %v", h.BaseOffset, err)
			}
			if rec.Offset >= from {
				got[rec.Offset] = modelRecord{key: string(rec.Key), value: string(rec.Value), ts: rec.Timestamp, control: h.IsControl()}
			}
		}
	}
	return next
}
