package local_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// victimTransactors is how many transactional producers write to a partition at the same time.
const victimTransactors = 3

// transactor writes one transaction after the other for ever, as a client and its coordinator do: batches, of which several are
// on their way; when all are acknowledged, the decision; then the marker.
type transactor struct {
	l     span.Log
	topic int
	i     int // which producer
	run   uint64
	say   func(format string, args ...any)
}

func transactorID(i int) int64 { return 1<<41 + int64(i) }

// transactionName names the k-th transaction of a run's producer i, transactionValue a record of it.
func transactionName(run uint64, i, k int) string { return fmt.Sprintf("%x-%d-%d", run, i, k) }

func transactionValue(name string, record, of int) string {
	return fmt.Sprintf("%s-%d-%d-%0*d", name, record, of, 1+record%3*500, 0)
}

func (x transactor) transact() error {
	producers, err := x.l.Producers(context.Background())
	if err != nil {
		return err
	}
	epoch := int16(0)
	for _, p := range producers {
		if p.ID == transactorID(x.i) {
			epoch = p.Epoch + 1
		}
	}
	seq := int32(0)
	for k := 0; ; k++ {
		name, of := transactionName(x.run, x.i, k), 1+(k+x.i)%5
		x.say("begin %d %d 0 %s", x.topic, victimTransacted, name)
		var landed sync.WaitGroup
		for r := range of {
			value := transactionValue(name, r, of)
			raw, err := batch.NewBuilder().Producer(transactorID(x.i), epoch, seq).Transactional().
				Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}).Build()
			if err != nil {
				return err
			}
			seq++
			landed.Add(1)
			x.l.Append(&span.Append{Batch: raw, Done: func(a *span.Append) {
				defer landed.Done()
				if a.Err != nil {
					x.say("error %v", a.Err)
					return
				}
				x.say("ack %d %d %d %s", x.topic, victimTransacted, a.BaseOffset, value)
			}})
		}
		landed.Wait()
		commit := k%3 > 0
		x.say("%s %d %d 0 %s", map[bool]string{true: "commit", false: "abort"}[commit], x.topic, victimTransacted, name)
		raw, err := batch.Marker{Commit: commit, ProducerID: transactorID(x.i), ProducerEpoch: epoch, Timestamp: time.Now().UnixMilli()}.Build()
		if err != nil {
			return err
		}
		if a := put(x.l, raw); a.Err != nil {
			return a.Err
		}
		x.say("ended %d %d 0 %s", x.topic, victimTransacted, name)
	}
}

func (x transactor) write() {
	x.say("error %v", x.transact())
	os.Exit(1)
}

// transactions is what victims have said of theirs, by topic and name.
type transactions struct {
	all     map[string]*transaction
	current map[string]string // by topic and producer: the last that began
	// What became of them, and of those in former directories.
	committed, aborted, left   int
	pastCommitted, pastAborted int
}

type transaction struct {
	commit bool // was decided; else it is aborted, by the victim or by whoever finds it open
	ended  bool
}

func newTransactions() *transactions {
	return &transactions{all: map[string]*transaction{}, current: map[string]string{}}
}

func (x *transactions) String() string {
	return fmt.Sprintf("%d transactions committed, %d aborted, %d left open by a kill", x.committed, x.aborted, x.left)
}

// another begins with another directory.
func (x *transactions) another() {
	clear(x.all)
	clear(x.current)
	x.pastCommitted, x.pastAborted = x.committed, x.aborted
}

// tell takes one line.
func (x *transactions) tell(what string, topic int, _ int64, value string) error {
	var run uint64
	var producer, k int
	if _, err := fmt.Sscanf(value, "%x-%d-%d", &run, &producer, &k); err != nil {
		return err
	}
	name := fmt.Sprint(topic, " ", transactionName(run, producer, k))
	if what == "begin" {
		x.all[name] = new(transaction)
		x.current[fmt.Sprint(topic, " ", transactorID(producer))] = name
		return nil
	}
	txn := x.all[name]
	if txn == nil {
		return fmt.Errorf("%s did not begin", name)
	}
	switch what {
	case "commit":
		txn.commit = true
	case "ended":
		txn.ended = true
	}
	return nil
}

// check does what a coordinator does after a crash, with what was left open, and compares what a consumer of committed records
// reads with what victims have said. It returns all records, by offset.
func (x *transactions) check(t *testing.T, round, topic int, l span.Log) map[int64]string {
	t.Helper()
	producers, err := l.Producers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range producers {
		name := x.current[fmt.Sprint(topic, " ", p.ID)]
		txn := x.all[name]
		if txn == nil {
			t.Fatalf("round %d: producer %d has not begun anything", round, p.ID)
		}
		if p.TxnStart < 0 {
			continue
		}
		if txn.ended {
			t.Fatalf("round %d: transaction %s was ended, and is open from %d on", round, name, p.TxnStart)
		}
		x.left++
		raw, err := batch.Marker{Commit: txn.commit, ProducerID: p.ID, ProducerEpoch: p.Epoch, Timestamp: time.Now().UnixMilli()}.Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	o, err := l.Offsets(context.Background())
	if err != nil || o.LastStable != o.End {
		t.Fatalf("round %d: nothing is open, and %+v, %v", round, o, err)
	}
	// parts splits the value of a record.
	parts := func(r modelRecord) (name string, record, of int) {
		var run uint64
		var producer, k int
		if _, err := fmt.Sscanf(r.value, "%x-%d-%d-%d-%d", &run, &producer, &k, &record, &of); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(topic, " ", transactionName(run, producer, k)), record, of
	}
	everything, _ := consume(t, l, 0, false)
	seen, _ := consume(t, l, 0, true)
	read := map[string]int{} // records of a transaction that were read
	for offset := range o.End {
		r, ok := seen[offset]
		if !ok {
			continue
		}
		name, record, of := parts(r)
		switch txn := x.all[name]; {
		case txn == nil:
			t.Fatalf("round %d: offset %d holds %.60q, of a transaction that never began", round, offset, r.value)
		case !txn.commit:
			t.Fatalf("round %d: offset %d of aborted transaction %s is read as committed", round, offset, name)
		case read[name] != record || record >= of:
			t.Fatalf("round %d: record %d of transaction %s at offset %d, want record %d", round, record, name, offset, read[name])
		}
		if read[name]++; read[name] == of {
			read[name] = -1 // whole
		}
	}
	x.committed, x.aborted = x.pastCommitted, x.pastAborted
	for name, txn := range x.all {
		var in int
		if _, err := fmt.Sscan(name, &in); err != nil {
			t.Fatal(err)
		}
		switch {
		case !txn.commit:
			x.aborted++
		case in == topic && read[name] != -1:
			t.Fatalf("round %d: of transaction %s, which was committed, %d records are read", round, name, read[name])
		default:
			x.committed++
		}
	}
	found := map[int64]string{}
	for offset, r := range everything {
		if !r.control {
			found[offset] = r.value
		}
	}
	return found
}
