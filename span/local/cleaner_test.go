package local_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// putKeyed appends n records of half a KiB, whose keys are the numbers below keys.
func putKeyed(t *testing.T, l span.Log, n, keys int) {
	t.Helper()
	for i := range n {
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, i%keys), Value: fmt.Appendf(nil, "%0500d", i)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
}

// A topic may be deleted while it is compacted, at whatever operation of it: no other topic comes to
// harm by it, and its directory goes.
func TestDeleteWhileCompacted(t *testing.T) {
	for after := 1; ; after++ {
		fs := vfs.NewMem()
		s, err := local.Open(memOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		other := create(t, s, "other", 1)
		topic := create(t, s, "compacted", 1, "cleanup.policy", "compact", "segment.bytes", "4096")
		l := s.Log(topic, 0)
		putKeyed(t, l, 40, 3)
		l.Release()
		if err := s.FlushNow(); err != nil {
			t.Fatal(err)
		}
		var ops atomic.Int64
		var hit atomic.Bool
		fs.SetFault(func(op vfs.Op, name string) error {
			// The cleaner's own: what is removed is the keeper's doing.
			if !strings.HasPrefix(name, "/data/data/") || op == vfs.OpRemove || ops.Add(1) != int64(after) {
				return nil
			}
			hit.Store(true)
			if err := s.Delete(context.Background(), topic); err != nil {
				t.Error(err)
			}
			// A pass of the keeper that removes the directory if it may.
			if err := s.KeepNow(); err != nil {
				t.Error(err)
			}
			return nil
		})
		if err := s.CompactNow(); err != nil {
			t.Errorf("operation %d: compaction: %v", after, err)
		}
		fs.SetFault(nil)
		if !hit.Load() {
			if after < 10 {
				t.Fatalf("only %d operations", after)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			break
		}
		if h, err := s.Health(context.Background()); err != nil || !h.Writable {
			t.Fatalf("deleted at operation %d: %+v, %v", after, h, err)
		}
		l = s.Log(other, 0)
		mustPut(t, l, made(t, 1, "v"))
		l.Release()
		if err := s.KeepNow(); err != nil {
			t.Error(err)
		}
		for name := range fs.Sizes() {
			if strings.HasPrefix(name, "/data/data/2/") {
				t.Errorf("deleted at operation %d: %s is left", after, name)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// listFS tells of the lists that are asked for, before they are made.
type listFS struct {
	*vfs.Mem
	before func(dir string)
}

func (f listFS) List(dir string) ([]string, error) {
	f.before(dir)
	return f.Mem.List(dir)
}

// What a compaction writes while a start still removes what is left over is not taken for that.
func TestCompactionWhileLeftOversAreRemoved(t *testing.T) {
	fs := vfs.NewMem()
	o := memOptions(fs)
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "4096")
	l := s.Log(topic, 0)
	putKeyed(t, l, 40, 3)
	l.Release()
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{})
	compacted := make(chan error, 1)
	var once sync.Once
	o.FS = listFS{fs, func(dir string) {
		if dir != "/data/data/1" {
			return
		}
		once.Do(func() {
			<-opened
			done := make(chan struct{})
			go func() {
				compacted <- s.CompactNow()
				close(done)
			}()
			// It may not end before the list is made: this is how long it gets to do so all the same.
			select {
			case <-done:
			case <-time.After(200 * time.Millisecond):
			}
		})
	}}
	if s, err = local.Open(o); err != nil {
		t.Fatal(err)
	}
	close(opened)
	if err := <-compacted; err != nil {
		t.Fatal(err)
	}
	if err := s.KeepNow(); err != nil { // what was replaced goes
		t.Fatal(err)
	}
	l = s.Log(topic, 0)
	got := readAll(t, l, 0)
	l.Release()
	if len(got) < 3 || len(got) >= 40 {
		t.Errorf("%d records are left", len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := local.CheckFS(fs, "/data"); err != nil || len(r.Problems) > 0 {
		t.Fatalf("check: %+v, %v", r, err)
	}
}

// A retention that was made longer, and answered, while the old one is applied, holds.
func TestLongerRetentionWhileTheShorterIsApplied(t *testing.T) {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	fs := vfs.NewMem()
	o := memOptions(fs)
	o.Now = c.now
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	topic := create(t, s, "t", 1, "retention.ms", "60000", "segment.bytes", "4096")
	l := s.Log(topic, 0)
	defer l.Release()
	for range 20 {
		mustPut(t, l, made(t, c.now().UnixMilli(), fmt.Sprintf("%0500d", 1)))
	}
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Minute)
	// The change goes first in the log, and the trim was decided before.
	err = s.RetainBehind(func() error {
		return s.Configure(context.Background(), topic, map[string]string{"retention.ms": "-1"})
	})
	if err != nil {
		t.Fatal(err)
	}
	off, err := l.Offsets(context.Background())
	if err != nil || off.Start != 0 {
		t.Fatalf("%+v, %v: removed after the answer that it stays", off, err)
	}
}

// A segment that a reader found damaged while more was written to it stays fenced off.
func TestDamageFoundDuringAFlush(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	l := s.Log(topic, 0)
	for i := range 10 {
		mustPut(t, l, made(t, 1, fmt.Sprintf("%0500d", i)))
	}
	l.Release()
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = local.Open(memOptions(fs)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	l = s.Log(topic, 0)
	defer l.Release()
	mustPut(t, l, made(t, 1, "more"))
	read := func() error {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: 0, MaxBytes: 1000})
		r.Release()
		return err
	}
	const segment = "/data/data/1/0-00000000000000000000.seg"
	ran := once(fs, vfs.OpSync, func() {
		fs.Flip(segment, 200, 1)
		if err := read(); !errors.Is(err, span.ErrStorage) {
			t.Errorf("read of a damaged segment: %v", err)
		}
		fs.Flip(segment, 200, 1)
	})
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if !ran() {
		t.Fatal("no segment was synced")
	}
	if err := read(); !errors.Is(err, span.ErrStorage) {
		t.Errorf("what was fenced off is served again: %v", err)
	}
}

// A segment with more keys than the table holds is compacted in parts, as Apache Kafka's cleaner does: up to the last
// batch whose keys fitted, from where the next one goes on. Readers find every key's last value all the while.
func TestSegmentOfMoreKeysThanTheTableHolds(t *testing.T) {
	fs := vfs.NewMem()
	o := memOptions(fs)
	o.CompactionMemory, o.LogFileBytes = 4096, 256<<10 // 96 keys
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "60000")
	l := s.Log(topic, 0)
	const records, keys = 1500, 500
	for i := range records {
		b := batch.NewBuilder()
		if i == 700 || i == 701 {
			// A transaction of an aborted record each side of a part's end must not come back.
			b.Producer(9, 0, int32(i-700)).Transactional()
		}
		raw, err := b.Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, i%keys), Value: fmt.Append(nil, i)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
		if i == 701 {
			raw, err := batch.Marker{ProducerID: 9, Timestamp: 1}.Build()
			if err != nil {
				t.Fatal(err)
			}
			mustPut(t, l, raw)
		}
	}
	// Closes the segment.
	raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: []byte("last"), Value: make([]byte, 59_000)}).Build()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, l, raw)
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	latest := func(when string) int {
		t.Helper()
		n := 0
		last := map[string]string{}
		for offset := int64(0); ; {
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 3000, Committed: true})
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if len(r.Batches) == 0 {
				r.Release()
				break
			}
			for h, b := range batch.Walk(r.Batches) {
				offset = h.NextOffset()
				if h.IsControl() || h.IsTransactional() && len(r.Aborted) > 0 {
					continue
				}
				for rec, err := range batch.Records(b, 1<<20) {
					if err != nil {
						t.Fatal(err)
					}
					if rec.Offset == 700 || rec.Offset == 701 {
						t.Errorf("%s: an aborted record is served as committed", when)
					}
					last[string(rec.Key)] = string(rec.Value)
					n++
				}
			}
			r.Release()
		}
		for k := range keys {
			if want := fmt.Sprint(records - keys + k); last[fmt.Sprint(k)] != want {
				t.Fatalf("%s: key %d has %q, want %s", when, k, last[fmt.Sprint(k)], want)
			}
		}
		return n - 1
	}
	was := latest("before")
	for pass := range 30 {
		if err := s.CompactNow(); err != nil {
			t.Fatalf("pass %d: %v", pass, err)
		}
		n := latest(fmt.Sprint("pass ", pass))
		if n == keys {
			break
		}
		if n > was || pass == 29 {
			t.Fatalf("pass %d leaves %d of %d records", pass, n, was)
		}
		was = n
		if pass%3 == 2 {
			l.Release()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if r, err := local.CheckFS(fs, "/data"); err != nil || len(r.Problems) > 0 {
				t.Fatalf("check: %+v, %v", r, err)
			}
			if s, err = local.Open(o); err != nil {
				t.Fatal(err)
			}
			l = s.Log(topic, 0)
		}
	}
	l.Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
