package local_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// wide is a compacted topic with batches that have more keys than the table of a compaction holds, and what
// was written to it.
type wide struct {
	t      *testing.T
	s      *local.Store
	topic  span.Topic
	all    []keyed
	latest map[string]int64
}

// wideKeys is how many keys there are; the table holds 96.
const wideKeys = 400

func wideOptions(fs *vfs.Mem) local.Options {
	o := memOptions(fs)
	o.CompactionMemory, o.LogFileBytes = 4096, 256<<10
	return o
}

// put appends one batch with a record for each number: of that key, and without a value if it is negative.
func (w *wide) put(numbers ...int) {
	w.t.Helper()
	b := batch.NewBuilder()
	for _, n := range numbers {
		k := keyed{key: fmt.Sprint(max(n, -n))}
		r := batch.Record{Timestamp: 1, Key: []byte(k.key)}
		if n >= 0 {
			k.value = fmt.Sprint("v", len(w.all))
			r.Value = []byte(k.value)
		}
		b.Add(r)
		w.latest[k.key] = int64(len(w.all))
		w.all = append(w.all, k)
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	mustPut(w.t, w.s.Log(w.topic, 0), raw)
}

// look reads everything: what is there is what was written, and every key has its last value, unless that is a tombstone, which
// may be gone with all that was before it. It returns how many records are left, and of how many keys.
func (w *wide) look(when string) (records, keys int) {
	w.t.Helper()
	got, _ := readKeyed(w.t, w.s.Log(w.topic, 0), false)
	last := map[string]int64{}
	for offset, k := range got {
		if w.all[offset] != k {
			w.t.Fatalf("%s: offset %d holds %v, was written as %v", when, offset, k, w.all[offset])
		}
		last[k.key] = max(last[k.key], offset)
	}
	for key, offset := range w.latest {
		at, ok := last[key]
		if ok && at != offset || !ok && w.all[offset].value != "" {
			w.t.Fatalf("%s: key %s was last written at %d, and is at %d, %v", when, key, offset, at, ok)
		}
	}
	return len(got), len(last)
}

// TestBatchOfMoreKeysThanTheTableHolds: such a batch is compacted within the same memory, a part of its keys at a time: at the
// head of the log, behind what was compacted, and one behind the other; with keys that it has several
// times, tombstones that may go at once, and with the end of the process at any time.
func TestBatchOfMoreKeysThanTheTableHolds(t *testing.T) {
	fs := vfs.NewMem()
	rng := rand.New(rand.NewPCG(1, 2))
	w := &wide{t: t, latest: map[string]int64{}}
	var err error
	if w.s, err = local.Open(wideOptions(fs)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.s.Close() }()
	w.topic = create(t, w.s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "20000", "delete.retention.ms", "0")
	spread := func() {
		numbers := rng.Perm(wideKeys)
		numbers = append(numbers, rng.Perm(wideKeys)[:300]...)
		for i := range numbers {
			if rng.IntN(4) == 0 {
				numbers[i] = -numbers[i]
			}
		}
		w.put(numbers...)
	}
	closing := wideKeys
	closeSegment := func() {
		for range 3 {
			closing++
			raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, closing), Value: make([]byte, 15_000)}).Build()
			if err != nil {
				t.Fatal(err)
			}
			w.latest[fmt.Sprint(closing)] = int64(len(w.all))
			w.all = append(w.all, keyed{fmt.Sprint(closing), string(make([]byte, 15_000))})
			mustPut(t, w.s.Log(w.topic, 0), raw)
		}
		if err := w.s.FlushNow(); err != nil {
			t.Fatal(err)
		}
	}
	compact := func(when string) {
		t.Helper()
		for pass := range 20 {
			if err := w.s.CompactNow(); err != nil {
				t.Fatalf("%s, pass %d: %v", when, pass, err)
			}
			w.look(fmt.Sprintf("%s, pass %d", when, pass))
			if w.s.Cleaned(w.topic, 0) == w.s.Closed(w.topic, 0) {
				break
			}
			if pass == 19 {
				t.Fatalf("%s: cleaned to %d of %d", when, w.s.Cleaned(w.topic, 0), w.s.Closed(w.topic, 0))
			}
		}
		if records, keys := w.look(when); records != keys {
			t.Fatalf("%s: %d records of %d keys are left", when, records, keys)
		}
	}
	spread()
	closeSegment()
	compact("at the head")
	for i := range wideKeys {
		w.put(i, i, i)
	}
	spread()
	spread()
	w.put(1, -2, 3)
	closeSegment()
	killed := fs.Clone()
	compact("behind others")
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	// Once more, with the power cut at one operation after the other.
	for after := 1; ; after += 2 {
		left := killed.Clone()
		if w.s, err = local.Open(wideOptions(left)); err != nil {
			t.Fatal(err)
		}
		cut := cutAt(left, after)
		_ = w.s.CompactNow() // of a crashed file system it fails
		_ = w.s.CompactNow()
		crashed := cut()
		_ = w.s.Close()
		if crashed == nil {
			if after < 60 {
				t.Fatalf("only %d operations", after)
			}
			break
		}
		if w.s, err = local.Open(wideOptions(crashed)); err != nil {
			t.Fatal(err)
		}
		when := fmt.Sprintf("power cut at operation %d", after)
		w.look(when)
		compact(when)
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err := local.CheckFS(crashed, "/data"); err != nil || len(r.Problems) > 0 {
			t.Fatalf("%s: check: %+v, %v", when, r, err)
		}
	}
}

// TestAbortedWideBatch: an aborted batch of more keys than the table holds goes as a whole, and a committed one takes its
// place.
func TestAbortedWideBatch(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(wideOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "20000")
	l := s.Log(topic, 0)
	defer l.Release()
	const aborted, committed = 1 << 40, 1<<40 + 1
	for i, id := range []int64{aborted, committed} {
		b := batch.NewBuilder().Producer(id, 0, 0).Transactional()
		for k := range wideKeys {
			b.Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, k), Value: fmt.Append(nil, id)})
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
		if raw, err = (batch.Marker{Commit: i == 1, ProducerID: id, Timestamp: 1}).Build(); err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	for i := range 3 {
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, "last", i), Value: make([]byte, 15_000)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.CompactNow(); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := readKeyed(t, l, false)
	n := 0
	for _, k := range got {
		if k.value == fmt.Sprint(aborted) {
			t.Fatalf("an aborted record is left: %v", k)
		}
		if k.value == fmt.Sprint(committed) {
			n++
		}
	}
	if n != wideKeys {
		t.Errorf("%d of %d committed records are left", n, wideKeys)
	}
	r, err := l.Read(context.Background(), span.ReadRequest{Offset: 0, Committed: true})
	if err != nil || len(r.Aborted) != 0 {
		t.Fatalf("aborted %v, %v", r.Aborted, err)
	}
	r.Release()
}

// cutAt cuts the power at the after-th operation from now on. What it returns tells what that left, nil where there were
// not so many.
func cutAt(fs *vfs.Mem, after int) (left func() *vfs.Mem) {
	var mu sync.Mutex
	var crashed *vfs.Mem
	n := 0
	fs.SetFault(func(vfs.Op, string) error {
		mu.Lock()
		defer mu.Unlock()
		if n++; n == after {
			crashed = fs.Crash(rand.New(rand.NewPCG(uint64(after), 5)))
		}
		return nil
	})
	return func() *vfs.Mem {
		fs.SetFault(nil)
		mu.Lock()
		defer mu.Unlock()
		return crashed
	}
}
