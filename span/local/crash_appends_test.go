package local_test

import (
	"errors"
	"sync"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// What the crash model appends: plain batches, those of a producer, and transactions of another one.

func (m *machine) build(b *batch.Builder, records []modelRecord) []byte {
	for _, r := range records {
		rec := batch.Record{Timestamp: r.ts}
		if r.key != "" {
			rec.Key = []byte(r.key)
		}
		if r.value != "" {
			rec.Value = []byte(r.value)
		}
		b.Add(rec)
	}
	raw, err := b.Build()
	if err != nil {
		m.t.Fatal(err)
	}
	return raw
}

func (m *machine) some(mt *modelTopic, n int) (out []modelRecord) {
	for range n {
		out = append(out, m.record(mt))
	}
	return out
}

func plainOf(p *modelPart) *modelProducer { return &p.plain }
func txnOf(p *modelPart) *modelProducer   { return &p.txn }

// of makes a batch of the producer x, whose next sequence is seq.
func (m *machine) of(mt *modelTopic, x *modelProducer, n int, txn bool) *sent {
	d := &sent{records: m.some(mt, n), producer: plainOf, epoch: x.epoch, seq: x.seq + int32(n), txn: txn}
	b := batch.NewBuilder().Producer(x.id, x.epoch, x.seq)
	if txn {
		d.producer = txnOf
		b.Transactional()
	}
	d.raw = m.build(b, d.records)
	return d
}

// marker ends the transaction of x. One that comes with a newer epoch begins the sequences anew.
func (m *machine) marker(x *modelProducer, commit, newEpoch bool) *sent {
	d := &sent{producer: txnOf, epoch: x.epoch, seq: x.seq, end: true, commit: commit}
	if newEpoch {
		d.epoch, d.seq = x.epoch+1, 0
	}
	m.values++
	ts := int64(m.values * 10)
	var err error
	if d.raw, err = (batch.Marker{Commit: commit, ProducerID: x.id, ProducerEpoch: d.epoch, Timestamp: ts}).Build(); err != nil {
		m.t.Fatal(err)
	}
	for r, err := range batch.Records(d.raw, 1<<10) {
		if err != nil {
			m.t.Fatal(err)
		}
		d.records = append(d.records, modelRecord{key: string(r.Key), value: string(r.Value), ts: ts, control: true})
	}
	return d
}

// submit starts appends to one partition: plain ones, the producer's, and those of the other one's transactions.
func (m *machine) submit(t *rapid.T, mt *modelTopic, p *modelPart, l span.Log, max int) (started []*sent, appends []*span.Append, done *sync.WaitGroup) {
	done = new(sync.WaitGroup)
	n := rapid.IntRange(1, max).Draw(t, "appends")
	plain, txn, open := p.plain, p.txn, len(p.open) > 0
	for range n {
		var d *sent
		// Of one draw: how many records, and what they are.
		what := rapid.IntRange(0, 23).Draw(t, "append")
		switch records := 1 + what%3; what / 3 {
		case 0, 1, 2:
			d = &sent{records: m.some(mt, records)}
			d.raw = m.build(batch.NewBuilder(), d.records)
		case 3, 4, 5:
			d = m.of(mt, &plain, records, false)
			plain.seq = d.seq
		case 6:
			d = m.of(mt, &txn, records, true)
			txn.seq, open = d.seq, true
		case 7:
			if !open {
				d = m.of(mt, &txn, records, true)
				txn.seq, open = d.seq, true
				break
			}
			d = m.marker(&txn, records > 1, records == 3)
			txn.epoch, txn.seq, open = d.epoch, d.seq, false
		}
		started = append(started, d)
		done.Add(1)
		a := &span.Append{Batch: d.raw, Done: func(*span.Append) { done.Done() }}
		appends = append(appends, a)
		l.Append(a)
	}
	return started, appends, done
}

// landed moves an acknowledged append into the model.
func (m *machine) landed(p *modelPart, d *sent, offset int64) {
	p.landed(d, offset)
	if d.end && d.commit {
		m.ran.commits.Add(1)
	} else if d.end {
		m.ran.aborts.Add(1)
	}
}

func (m *machine) append(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	started, appends, done := m.submit(t, mt, p, l, 8)
	done.Wait()
	for i, a := range appends {
		switch {
		case mt.sealed:
			if !errors.Is(a.Err, span.ErrSealed) {
				t.Fatalf("append to a sealed topic: %v", a.Err)
			}
		case a.Err != nil:
			t.Fatalf("append: %v", a.Err)
		case a.BaseOffset != p.end:
			t.Fatalf("append landed at %d, log ended at %d", a.BaseOffset, p.end)
		default:
			m.landed(p, started[i], a.BaseOffset)
		}
	}
}

// must appends d, which is to land.
func (m *machine) must(t *rapid.T, p *modelPart, l span.Log, d *sent) {
	a := put(l, d.raw)
	if a.Err != nil || a.BaseOffset != p.end || a.Duplicate {
		t.Fatalf("append: %+v, log ended at %d", a, p.end)
	}
	m.landed(p, d, a.BaseOffset)
}

// transact writes a transaction, or a part of one: what is open is ended first, or gone on with.
func (m *machine) transact(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	if mt.sealed {
		t.Skip("sealed")
	}
	what := rapid.IntRange(0, 7).Draw(t, "transaction")
	if len(p.open) > 0 && what&1 == 0 {
		m.must(t, p, l, m.marker(&p.txn, what&2 == 0, what == 6))
		return
	}
	m.must(t, p, l, m.of(mt, &p.txn, 1+what%3, true))
	if what > 3 {
		m.must(t, p, l, m.marker(&p.txn, what&2 == 0, what == 7))
	}
}

// fence begins a new epoch of a producer now and then, and checks that the old
// one is fenced.
func (m *machine) fence(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	if mt.sealed || p.plain.at < 0 {
		t.Skip("sealed, or nothing produced")
	}
	p.plain.epoch, p.plain.seq = p.plain.epoch+1, 0
	m.must(t, p, l, m.of(mt, &p.plain, 1, false))
	for _, x := range []*modelProducer{&p.plain, &p.txn} {
		if x.epoch == 0 {
			continue
		}
		b := batch.NewBuilder().Producer(x.id, x.epoch-1, 7)
		if x == &p.txn {
			b.Transactional()
		}
		if old := put(l, m.build(b, m.some(mt, 1))); old.Err == nil {
			t.Fatalf("former epoch landed at %d", old.BaseOffset)
		}
	}
}

// repeat sends the producers' last batches again.
func (m *machine) repeat(t *rapid.T) {
	mt, p, l := m.part(t)
	defer l.Release()
	if mt.sealed || p.plain.at < 0 {
		t.Skip("sealed, or nothing produced")
	}
	for _, x := range []*modelProducer{&p.plain, &p.txn} {
		// A marker of a newer epoch makes what was before it a former one's.
		if x.at < 0 || x == &p.txn && x.seq == 0 {
			continue
		}
		if a := put(l, x.last); a.Err != nil || !a.Duplicate || a.BaseOffset != x.at {
			t.Fatalf("repeat: %+v, first landed at %d", a, x.at)
		}
	}
}
