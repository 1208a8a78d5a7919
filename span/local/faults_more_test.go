package local_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit/summary"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// allFaults are the ways in which each operation fails.
var allFaults = []fault{{err: syscall.EIO, times: 1}, {err: syscall.ENOSPC, times: 1}, {err: syscall.ENOSPC, times: 5},
	{err: syscall.EIO, times: 1, short: true}, {err: syscall.ENOSPC, times: 1, short: true}, {err: syscall.EIO, times: forGood}}

// plan is a fault that comes at the after-th operation that it may concern.
type plan struct {
	fault
	after int

	mu     sync.Mutex
	n      int
	synced bool // a sync failed: that is for good
	where  string
}

// on lets it come over fs.
func (p *plan) on(fs *vfs.Mem) {
	fs.SetFault(func(op vfs.Op, name string) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.short && op != vfs.OpWrite {
			return nil
		}
		if errors.Is(p.err, syscall.ENOSPC) && (op == vfs.OpRead || op == vfs.OpOpen || op == vfs.OpRemove) {
			return nil // these need no space
		}
		if p.n++; p.n < p.after || p.n >= p.after+p.times {
			return nil
		}
		p.synced = p.synced || op == vfs.OpSync || op == vfs.OpSyncDir
		if p.where == "" {
			kind := name[strings.LastIndex(name, "/")+1:]
			p.where = fmt.Sprintf("%s %s", op, kind[strings.LastIndex(kind, ".")+1:])
		}
		if p.short {
			return &vfs.ShortWrite{Bytes: p.after * 97 % 4500, Err: p.err}
		}
		return p.err
	})
}

// reached tells whether there were so many operations.
func (p *plan) reached() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n >= p.after
}

func (p *plan) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%v at operation %d (%s)", p.fault, p.after, p.where)
}

// atEveryOperation runs a course with each of the faults at each of its operations; in short runs at each eleventh; of names the course. least is how
// many there are at the least, a third of that where only some can fail so.
func atEveryOperation(t *testing.T, of string, least int, course func(t *testing.T, p *plan)) {
	for _, f := range allFaults {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			step := 1
			if testing.Short() {
				step = 11
			}
			kinds := map[string]bool{}
			n := 0
			for after := 1; ; after += step {
				p := &plan{fault: f, after: after}
				course(t, p)
				if !p.reached() {
					break
				}
				n++
				kinds[p.where] = true
			}
			want := least
			if f.short || errors.Is(f.err, syscall.ENOSPC) {
				want /= 3
			}
			if n*step < want {
				t.Fatalf("only %d operations", n)
			}
			if !t.Failed() {
				summary.Line(t, "local engine, %s: %v: %d times, at %d kinds of operations and files, nothing acknowledged is lost", of, f, n, len(kinds))
			}
			t.Log(slices.Sorted(maps.Keys(kinds)))
		})
	}
}

// reopened opens a directory after a fault, once more where the fault hits it as well; nil without a disk.
func reopened(t *testing.T, p *plan, o local.Options) *local.Store {
	t.Helper()
	for range 6 {
		s, err := local.Open(o)
		if err == nil {
			return s
		}
		if !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%s: open: %v", p, err)
		}
	}
	if p.times != forGood {
		t.Fatalf("%s: cannot be opened", p)
	}
	return nil
}

// refusedOrUnknown fails the test where an append was refused for another reason than the storage.
func refusedOrUnknown(t *testing.T, p *plan, err error) {
	t.Helper()
	var rejected *span.RejectedError
	if !errors.Is(err, span.ErrStorage) && !errors.Is(err, span.ErrUnknownOutcome) && !errors.As(err, &rejected) {
		t.Errorf("%s: append: %v", p, err)
	}
}

// faultyTxn is a transaction of two records, and what was said of it.
type faultyTxn struct {
	commit bool // its marker, if it was written
	sure   bool // its marker was acknowledged
	asked  bool // its marker was appended
}

func faultyTxnValue(i, r int) string { return fmt.Sprintf("%d/%d/%0*d", i, r, 1+(i+r)%3*600, 0) }

// TestFaultAtEveryOperationOfTransactions: as TestFaultAtEveryOperation, of transactions, the state of producers, retention by size,
// and what a checkpoint has of them. A transaction whose end was acknowledged has that end, one of which
// nothing is known is whole or not there, and none is torn.
func TestFaultAtEveryOperationOfTransactions(t *testing.T) {
	atEveryOperation(t, "transactions", 100, func(t *testing.T, p *plan) {
		fs := vfs.NewMem()
		p.on(fs)
		o := memOptions(fs)
		o.FlushBytes = 8 << 10
		txns, retained := map[int]*faultyTxn{}, map[string]int64{}
		s := reopened(t, p, o)
		if s == nil {
			return
		}
		stop := func() { _ = s.Close() } // of a failed file system it fails
		made1 := func(name string, config map[string]string) (span.Topic, bool) {
			topic, err := s.Create(context.Background(), span.Spec{Name: name, Partitions: 1, Config: config})
			return topic, err == nil
		}
		x, ok := made1("x", map[string]string{"segment.bytes": "4096", "retention.ms": "-1"})
		var r span.Topic
		if ok {
			r, ok = made1("r", map[string]string{"segment.bytes": "2048", "retention.bytes": "3000", "retention.ms": "3600000"})
		}
		for i := 0; ok && i < 9; i++ {
			if i == 5 {
				stop()
				if s = reopened(t, p, o); s == nil {
					break
				}
			}
			txns[i] = transactAtFault(t, p, s.Log(x, 0), i)
			v := fmt.Sprintf("r/%d/%0900d", i, 0)
			if a := put(s.Log(r, 0), made(t, 1<<42, v)); a.Err == nil { // far ahead: nothing goes for its age
				retained[v] = a.BaseOffset
			} else {
				refusedOrUnknown(t, p, a.Err)
			}
			if i%3 == 2 {
				_ = s.FlushNow() // these may fail
				_ = s.RetainNow()
			}
		}
		if ok && s != nil && !p.reached() && (len(txns) != 9 || len(retained) != 9) {
			t.Fatalf("without a fault: %d transactions, %d records", len(txns), len(retained))
		}
		fs.SetFault(nil)
		left := []*vfs.Mem{fs.Clone(), fs.Crash(rand.New(rand.NewPCG(uint64(p.after), 3)))}
		if s != nil {
			stop()
		}
		if !ok {
			return
		}
		for _, fs := range left {
			transactionsAfterFault(t, p, fs, x, r, txns, retained)
		}
	})
}

// transactAtFault runs the i-th transaction, of a producer of its own.
func transactAtFault(t *testing.T, p *plan, l span.Log, i int) *faultyTxn {
	defer l.Release()
	out := &faultyTxn{commit: i%3 > 0}
	id := int64(1)<<41 + int64(i)
	for r := range 2 {
		raw, err := batch.NewBuilder().Producer(id, 0, int32(r)).Transactional().
			Add(batch.Record{Timestamp: 1, Value: []byte(faultyTxnValue(i, r))}).Build()
		if err != nil {
			t.Fatal(err)
		}
		if a := put(l, raw); a.Err != nil {
			refusedOrUnknown(t, p, a.Err)
			out.commit = false
		}
	}
	raw, err := batch.Marker{Commit: out.commit, ProducerID: id, Timestamp: 1}.Build()
	if err != nil {
		t.Fatal(err)
	}
	a := put(l, raw)
	if out.sure = a.Err == nil; !out.sure {
		refusedOrUnknown(t, p, a.Err)
	}
	out.asked = true
	return out
}

func transactionsAfterFault(t *testing.T, p *plan, fs *vfs.Mem, x, r span.Topic, txns map[int]*faultyTxn, retained map[string]int64) {
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatalf("%s: cannot be opened again: %v", p, err)
	}
	defer func() { _ = s.Close() }()
	l := s.Log(x, 0)
	producers, err := l.Producers(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	known := map[int64]bool{}
	for _, pr := range producers {
		known[pr.ID] = true
		i := int(pr.ID - 1<<41)
		if pr.TxnStart < 0 {
			continue
		}
		if txns[i] == nil || txns[i].sure {
			t.Fatalf("%s: transaction %d was ended, and is open", p, i)
		}
		raw, err := batch.Marker{ProducerID: pr.ID, ProducerEpoch: pr.Epoch, Timestamp: 1}.Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	seen, _ := consume(t, l, 0, true)
	count := map[string]int{}
	for _, rec := range seen {
		count[rec.value]++
	}
	for i, txn := range txns {
		a, b := count[faultyTxnValue(i, 0)], count[faultyTxnValue(i, 1)]
		whole := a == 1 && b == 1
		switch none := a == 0 && b == 0; {
		case !whole && !none:
			t.Fatalf("%s: of transaction %d %d and %d records are read", p, i, a, b)
		case whole && !txn.commit:
			t.Fatalf("%s: aborted transaction %d is read as committed", p, i)
		case none && txn.commit && txn.sure:
			t.Fatalf("%s: transaction %d was committed, and is gone", p, i)
		case txn.sure && txn.commit && !known[int64(1)<<41+int64(i)]:
			t.Fatalf("%s: nothing is known of the producer of transaction %d", p, i)
		}
	}
	lr := s.Log(r, 0)
	o, err := lr.Offsets(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, v := range readAll(t, lr, o.Start) {
		got[v] = true
	}
	for v, offset := range retained {
		if offset >= o.Start && !got[fmt.Sprintf("%d=%s", offset, v)] {
			t.Fatalf("%s: %.20q was acknowledged at %d, log starts at %d", p, v, offset, o.Start)
		}
	}
	// Retention leaves what its size says.
	if o.Start > max(0, o.End-3) {
		t.Fatalf("%s: retention left %+v", p, o)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("%s: close: %v", p, err)
	}
	if rep, err := local.CheckFS(fs, "/data"); err != nil || len(rep.Problems) > 0 {
		t.Fatalf("%s: check: %+v, %v", p, rep, err)
	}
}
