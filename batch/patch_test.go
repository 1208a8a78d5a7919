package batch

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestPatchesOutsideTheChecksum(t *testing.T) {
	b := simple(t, 5, 3)
	before := bytes.Clone(b)
	SetBaseOffset(b, 1<<40)
	SetLeaderEpoch(b, 12)
	if err := Verify(b); err != nil {
		t.Fatal(err)
	}
	h, _, err := Parse(b)
	if err != nil || h.BaseOffset != 1<<40 || BaseOffset(b) != 1<<40 || h.PartitionLeaderEpoch != 12 {
		t.Fatal(h, err)
	}
	SetBaseOffset(b, 5)
	SetLeaderEpoch(b, NoLeaderEpoch)
	if !bytes.Equal(b, before) {
		t.Fatal("something else was changed")
	}
}

func TestPatchesInsideTheChecksum(t *testing.T) {
	b := simple(t, 5, 3)
	tail := []byte("the batch behind")
	both := append(bytes.Clone(b), tail...)
	if err := SetProducer(both, 77, 3, 100); err != nil {
		t.Fatal(err)
	}
	if err := SetMaxTimestampLogAppend(both, 999_999); err != nil {
		t.Fatal(err)
	}
	if err := Verify(both); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(both, tail) {
		t.Fatal("wrote behind the batch")
	}
	h, _, err := Parse(both)
	if err != nil || h.ProducerID != 77 || h.ProducerEpoch != 3 || h.BaseSequence != 100 || h.LastSequence() != 102 ||
		!h.LogAppendTime() || h.MaxTimestamp != 999_999 || !h.HasProducer() {
		t.Fatal(h, err)
	}
	for r, err := range Records(both, 1<<20) {
		if err != nil || r.Timestamp != 999_999 {
			t.Fatalf("record %+v, %v", r, err)
		}
	}
	for name, short := range map[string][]byte{"cut": b[:len(b)-1], "header only": b[:HeaderSize], "nothing": nil} {
		if err := SetProducer(short, 1, 1, 1); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v", name, err)
		}
		if err := SetMaxTimestampLogAppend(short, 1); !errors.Is(err, ErrTruncated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A model: the run cut anywhere has the batches that lie whole before the cut,
// shifted, and the rest as it was.
func TestPatchRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var run []byte
		var ends []int
		type want struct{ base, next, ts int64 }
		var all []want
		next := rapid.Int64Range(0, 1000).Draw(t, "start")
		for range rapid.IntRange(0, 6).Draw(t, "batches") {
			n := rapid.IntRange(1, 5).Draw(t, "records")
			b := NewBuilder().BaseOffset(next).LeaderEpoch(3)
			for i := range n {
				b.Add(Record{Timestamp: rapid.Int64Range(0, 1000).Draw(t, "ts"), Value: make([]byte, i*10)})
			}
			raw, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			h, _, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, want{next, next + int64(n), h.MaxTimestamp})
			run = append(run, raw...)
			ends = append(ends, len(run))
			next += int64(n) + rapid.Int64Range(0, 4).Draw(t, "gap")
		}
		cut := rapid.IntRange(0, len(run)).Draw(t, "cut")
		whole, bytesWhole := 0, 0
		for i, end := range ends {
			if end <= cut {
				whole, bytesWhole = i+1, end
			}
		}
		original := bytes.Clone(run)
		delta := rapid.Int64Range(-500, 1<<40).Draw(t, "delta")
		seen, err := Inspect(run[:cut])
		if err != nil {
			t.Fatal(err)
		}
		got, err := PatchRun(run[:cut], delta, 9)
		if err != nil {
			t.Fatal(err)
		}
		expect := Run{Bytes: bytesWhole, Batches: whole, First: -1, Next: -1, MaxTimestamp: -1}
		if whole > 0 {
			expect.First, expect.Next = all[0].base+delta, all[whole-1].next+delta
			for _, w := range all[:whole] {
				expect.MaxTimestamp = max(expect.MaxTimestamp, w.ts)
			}
		}
		if got != expect {
			t.Fatalf("got %+v, want %+v", got, expect)
		}
		if whole > 0 {
			seen.First += delta
			seen.Next += delta
		}
		if seen != expect {
			t.Fatalf("inspected %+v, want %+v", seen, expect)
		}
		i := 0
		for h, b := range Walk(run[:cut]) {
			if h.BaseOffset != all[i].base+delta || h.PartitionLeaderEpoch != 9 || Verify(b) != nil {
				t.Fatalf("batch %d: %+v", i, h)
			}
			i++
		}
		if i != whole {
			t.Fatalf("walked over %d batches, want %d", i, whole)
		}
		if !bytes.Equal(run[bytesWhole:], original[bytesWhole:]) {
			t.Fatal("bytes behind the whole batches were changed")
		}
	})
}

func TestIterStopsAtWhatIsNoBatch(t *testing.T) {
	b := simple(t, 0, 2)
	old := bytes.Clone(b)
	old[atMagic] = 1
	short := bytes.Clone(b)
	copy(short[atLength:], []byte{0, 0, 0, 3})
	for name, c := range map[string]struct {
		second []byte
		want   error
	}{"magic": {old, ErrMagic}, "length": {short, ErrCorrupt}, "partial": {b[:len(b)-1], nil}, "partial header": {b[:20], nil}} {
		run := append(bytes.Clone(b), c.second...)
		it := NewIter(run)
		n := 0
		for it.Next() {
			n++
		}
		if n != 1 || !errors.Is(it.Err(), c.want) || !bytes.Equal(it.Rest(), c.second) {
			t.Errorf("%s: %d batches, rest %d bytes, %v", name, n, len(it.Rest()), it.Err())
		}
		got, err := PatchRun(run, 10, 1)
		if got.Batches != 1 || got.Next != 12 || !errors.Is(err, c.want) {
			t.Errorf("%s: patched %+v, %v", name, got, err)
		}
	}
}

func TestHeaderWorkAllocatesNothing(t *testing.T) {
	var run []byte
	for i := range 50 {
		run = append(run, simple(t, int64(i*10), 10)...)
	}
	one := run[:len(simple(t, 0, 10))]
	head, _, err := Parse(one)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(){
		"parse": func() {
			if _, _, err := Parse(one); err != nil {
				t.Fatal(err)
			}
		},
		"validate": func() {
			if _, err := Validate(one, Limits{MaxBytes: 1 << 20}); err != nil {
				t.Fatal(err)
			}
		},
		"patch run": func() {
			if r, err := PatchRun(run, 1, 4); err != nil || r.Batches != 50 {
				t.Fatal(r, err)
			}
		},
		"iterate": func() {
			it := NewIter(run)
			for it.Next() {
				if it.Header.NumRecords != 10 {
					t.Fatal(it.Header)
				}
			}
		},
		"walk": func() {
			for h := range Walk(run) {
				if h.NumRecords != 10 {
					t.Fatal(h)
				}
			}
		},
		"set producer": func() {
			if err := SetProducer(one, 1, 1, 1); err != nil {
				t.Fatal(err)
			}
		},
		"admission": func() {
			if err := (Admission{Keys: true, Before: -1, After: -1}).Check("", one, &head); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, f := range cases {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	raw := simple(b, 0, 10)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPatchRun(b *testing.B) {
	var run []byte
	for i := range 64 {
		raw, err := NewBuilder().BaseOffset(int64(i)).Add(Record{Value: make([]byte, 16<<10)}).Build()
		if err != nil {
			b.Fatal(err)
		}
		run = append(run, raw...)
	}
	b.SetBytes(int64(len(run)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := PatchRun(run, 1, 3); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			raw, err := NewBuilder().Add(Record{Value: make([]byte, size)}).Build()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Validate(raw, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
