package local_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// keyed is one record as a reader of a compacted log sees it.
type keyed struct {
	key   string
	value string // "" for a tombstone
}

// readKeyed reads the whole log; control batches are left out.
func readKeyed(t interface{ Fatal(...any) }, l span.Log, committed bool) (map[int64]keyed, []batch.Header) {
	out := map[int64]keyed{}
	var headers []batch.Header
	o, err := l.Offsets(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	offset := o.Start
	for {
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: offset, MaxBytes: 2000, Committed: committed})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Batches) == 0 {
			r.Release()
			return out, headers
		}
		for h, b := range batch.Walk(r.Batches) {
			if err := batch.Verify(b); err != nil {
				t.Fatal(err)
			}
			headers = append(headers, h)
			offset = h.NextOffset()
			if h.IsControl() {
				continue
			}
			for rec, err := range batch.Records(b, 1<<24) {
				if err != nil {
					t.Fatal(err)
				}
				out[rec.Offset] = keyed{string(rec.Key), string(rec.Value)}
			}
		}
		r.Release()
	}
}

// TestCompactionModel writes random keys, compacts, crashes and compares what is left
// with what Kafka's rules leave: every key's last value, at its own offset, in order.
func TestCompactionModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewMem()
		opt := memOptions(fs)
		opt.CompactionMemory = int64(rapid.SampledFrom([]int{4096, 1 << 20}).Draw(rt, "memory"))
		// With the small table the keys of one segment may be more than fit.
		segment := rapid.SampledFrom([]string{"4096", "20000"}).Draw(rt, "segment")
		keys := rapid.SampledFrom([]int{30, 300}).Draw(rt, "keys")
		open := func() *local.Store {
			s, err := local.Open(opt)
			if err != nil {
				rt.Fatal(err)
			}
			return s
		}
		s := open()
		defer func() { _ = s.Close() }()
		topic, err := s.Create(context.Background(), span.Spec{Name: "t", Partitions: 1, Config: map[string]string{
			"cleanup.policy": "compact", "segment.bytes": segment, "delete.retention.ms": "3600000",
		}})
		if err != nil {
			rt.Fatal(err)
		}
		all := map[int64]keyed{}
		next := int64(0)
		latest := map[string]int64{}
		compacted := false
		check := func() {
			l := s.Log(topic, 0)
			defer l.Release()
			got, _ := readKeyed(rt, l, false)
			last := map[string]int64{}
			for offset, k := range got {
				if all[offset] != k {
					rt.Fatalf("offset %d holds %v, was written as %v", offset, k, all[offset])
				}
				last[k.key] = max(last[k.key], offset)
			}
			// Tombstones are younger than delete.retention.ms: they stay.
			if !maps.Equal(last, latest) {
				rt.Fatalf("last offsets %v, want %v", last, latest)
			}
			if compacted && len(got) == len(all) && len(all) > 400 {
				rt.Fatal("compaction removed nothing")
			}
			o, err := l.Offsets(context.Background())
			if err != nil || o.End != next {
				rt.Fatalf("%+v, %v, want end %d", o, err, next)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) {},
			"write": func(rt *rapid.T) {
				l := s.Log(topic, 0)
				defer l.Release()
				codec := batch.Codec(rapid.SampledFrom([]int{0, 0, 1, 4}).Draw(rt, "codec"))
				for range 20 {
					b := batch.NewBuilder().Codec(codec)
					n := rapid.IntRange(1, 5).Draw(rt, "records")
					for i := range n {
						k := keyed{key: fmt.Sprint("key", rapid.IntRange(0, keys).Draw(rt, "key"))}
						r := batch.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(k.key)}
						if rapid.IntRange(0, 5).Draw(rt, "tombstone") > 0 {
							k.value = fmt.Sprintf("%d-%050d", next+int64(i), 0)
							r.Value = []byte(k.value)
						}
						b.Add(r)
						all[next+int64(i)] = k
						latest[k.key] = next + int64(i)
					}
					raw, err := b.Build()
					if err != nil {
						rt.Fatal(err)
					}
					if a := put(l, raw); a.Err != nil || a.BaseOffset != next {
						rt.Fatalf("%+v, want offset %d", a, next)
					}
					next += int64(n)
				}
			},
			"flush": func(rt *rapid.T) {
				if err := s.FlushNow(); err != nil {
					rt.Fatal(err)
				}
			},
			"compact": func(rt *rapid.T) {
				if err := s.FlushNow(); err != nil {
					rt.Fatal(err)
				}
				if err := s.CompactNow(); err != nil {
					rt.Fatal(err)
				}
				// With fewer records there may be no closed segment with two values of a key.
				compacted = compacted || len(all) > 400 && keys == 30 && segment == "4096"
				check()
			},
			"check": func(*rapid.T) { check() },
			"restart": func(rt *rapid.T) {
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = open()
				check()
			},
			"crash": func(rt *rapid.T) {
				seed := rapid.Uint64().Draw(rt, "seed")
				left := int64(rapid.IntRange(1, 40).Draw(rt, "operations"))
				var after atomic.Pointer[vfs.Mem]
				was := fs
				was.SetFault(func(vfs.Op, string) error {
					if atomic.AddInt64(&left, -1) == 0 {
						after.Store(was.Crash(rand.New(rand.NewPCG(seed, 1))))
					}
					return nil
				})
				_ = s.FlushNow() // whatever comes of them
				_ = s.CompactNow()
				_ = s.Close()
				was.SetFault(nil)
				fs = after.Load()
				if fs == nil {
					fs = was.Crash(rand.New(rand.NewPCG(seed, 1)))
				}
				opt.FS = fs
				s = open()
				check()
			},
		})
		check()
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
		if r, err := local.CheckFS(fs, "/data"); err != nil || len(r.Problems) > 0 {
			rt.Fatalf("check: %+v, %v", r, err)
		}
	})
}

// clock is a settable one.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// TestTombstones: they outlive the values that they delete by delete.retention.ms.
func TestTombstones(t *testing.T) {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	opt := memOptions(vfs.NewMem())
	opt.Now = c.now
	s, err := local.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "4096", "delete.retention.ms", "60000")
	l := s.Log(topic, 0)
	defer l.Release()
	write := func(key, value string) int64 {
		r := batch.Record{Timestamp: c.now().UnixMilli(), Key: []byte(key)}
		if value != "" {
			r.Value = []byte(value)
		}
		raw, err := batch.NewBuilder().Add(r).Build()
		if err != nil {
			t.Fatal(err)
		}
		return mustPut(t, l, raw).BaseOffset
	}
	compact := func() map[int64]keyed {
		if err := s.FlushNow(); err != nil {
			t.Fatal(err)
		}
		if err := s.CompactNow(); err != nil {
			t.Fatal(err)
		}
		got, _ := readKeyed(t, l, false)
		return got
	}
	fill := func() {
		for i := range 60 {
			write("filler", fmt.Sprintf("%0100d", i))
		}
	}
	value := write("a", "1")
	fill()
	stone := write("a", "")
	fill()
	got := compact()
	if _, ok := got[value]; ok {
		t.Fatal("the value is still there")
	}
	if k, ok := got[stone]; !ok || k.value != "" {
		t.Fatalf("the tombstone went too early: %v", k)
	}
	c.advance(50 * time.Second)
	fill()
	if _, ok := compact()[stone]; !ok {
		t.Fatal("the tombstone went before delete.retention.ms")
	}
	c.advance(11 * time.Second)
	fill()
	if _, ok := compact()[stone]; ok {
		t.Fatal("the tombstone is still there")
	}
}

// TestCompactedTransactions: aborted records go, committed ones are compacted, the
// last batch of a producer keeps its state in the log.
func TestCompactedTransactions(t *testing.T) {
	s, err := local.Open(memOptions(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "4096")
	l := s.Log(topic, 0)
	defer l.Release()
	write := func(b *batch.Builder, key, value string) int64 {
		raw, err := b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(key), Value: []byte(value)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		return mustPut(t, l, raw).BaseOffset
	}
	end := func(id int64, commit bool) {
		raw, err := batch.Marker{Commit: commit, ProducerID: id, Timestamp: time.Now().UnixMilli()}.Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	const a, b, idle, open = 1 << 40, 1<<40 + 1, 1<<40 + 2, 1<<40 + 3
	first := write(batch.NewBuilder(), "x", "old")
	write(batch.NewBuilder().Producer(a, 0, 0).Transactional(), "x", "aborted")
	last := write(batch.NewBuilder().Producer(idle, 3, 7), "y", "overwritten")
	end(a, false)
	committed := write(batch.NewBuilder().Producer(b, 0, 0).Transactional(), "y", "committed")
	end(b, true)
	for i := range 60 {
		write(batch.NewBuilder(), "filler", fmt.Sprintf("%0100d", i))
	}
	undecided := write(batch.NewBuilder().Producer(open, 0, 0).Transactional(), "x", "undecided")
	for i := range 60 {
		write(batch.NewBuilder(), "filler", fmt.Sprintf("%0100d", i))
	}
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.CompactNow(); err != nil {
		t.Fatal(err)
	}
	got, headers := readKeyed(t, l, false)
	if got[first].value != "old" || got[committed].value != "committed" || got[undecided].value != "undecided" {
		t.Fatalf("left: %v", got)
	}
	for offset, k := range got {
		if k.value == "aborted" || k.value == "overwritten" {
			t.Fatalf("offset %d still holds %v", offset, k)
		}
	}
	// An empty batch stands for the last one of the idle producer.
	i := slices.IndexFunc(headers, func(h batch.Header) bool { return h.ProducerID == idle })
	if i < 0 || headers[i].NumRecords != 0 || headers[i].LastOffset() != last || headers[i].LastSequence() != 7 {
		t.Fatalf("the idle producer's batch is gone: %d", i)
	}
	r, err := l.Read(context.Background(), span.ReadRequest{Offset: 0, Committed: true})
	if err != nil || len(r.Aborted) != 0 {
		t.Fatalf("aborted %v, %v", r.Aborted, err)
	}
	r.Release()
	if err := l.Probe(context.Background()); err != nil && !errors.Is(err, span.ErrSealed) {
		t.Fatal(err)
	}
}

// TestRetention: whole segments go by age and by size, and never what is young.
func TestRetention(t *testing.T) {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	opt := memOptions(vfs.NewMem())
	opt.Now = c.now
	s, err := local.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "retention.ms", "60000", "segment.bytes", "4096")
	l := s.Log(topic, 0)
	defer l.Release()
	fill := func(n int) {
		for i := range n {
			mustPut(t, l, made(t, c.now().UnixMilli(), fmt.Sprintf("%0500d", i)))
		}
		if err := s.FlushNow(); err != nil {
			t.Fatal(err)
		}
	}
	start := func() int64 {
		if err := s.RetainNow(); err != nil {
			t.Fatal(err)
		}
		o, err := l.Offsets(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return o.Start
	}
	fill(30)
	if n := start(); n != 0 {
		t.Fatalf("young records went: start %d", n)
	}
	c.advance(50 * time.Second)
	fill(10)
	c.advance(11 * time.Second)
	n := start()
	if n == 0 || n > 30 {
		t.Fatalf("start %d, want some of the first 30 gone", n)
	}
	if err := s.Configure(context.Background(), topic, map[string]string{"retention.ms": "-1", "retention.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	if again := start(); again <= n {
		t.Fatalf("start %d, %d before retention by size", again, n)
	}
	if left := len(readAll(t, l, start())); left < 4 {
		t.Fatalf("%d records left of 2000 bytes", left)
	}
	// Nothing remains on disk of what went.
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if n := s.SegmentFiles(topic, 0); n > 3 {
		t.Fatalf("%d segments", n)
	}
}
