package batch

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

func drawBytes(t *rapid.T, label string) []byte {
	if rapid.IntRange(0, 3).Draw(t, label+" is null") == 0 {
		return nil
	}
	b := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, label)
	if b == nil {
		b = []byte{}
	}
	return b
}

func drawRecords(t *rapid.T) []Record {
	var out []Record
	for i := range rapid.IntRange(1, 12).Draw(t, "records") {
		r := Record{
			Offset:    int64(i),
			Timestamp: rapid.Int64Range(0, 1<<45).Draw(t, "timestamp"),
			Key:       drawBytes(t, "key"),
			Value:     drawBytes(t, "value"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			r.Headers = append(r.Headers, RecordHeader{
				Key:   []byte(rapid.StringN(0, 8, 32).Draw(t, "header key")),
				Value: drawBytes(t, "header value"),
			})
		}
		out = append(out, r)
	}
	return out
}

func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func TestBuilderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawRecords(t)
		base := rapid.Int64Range(0, 1<<50).Draw(t, "base")
		codec := rapid.SampledFrom(codecs).Draw(t, "codec")
		b := NewBuilder().BaseOffset(base).LeaderEpoch(7).Codec(codec).Producer(1<<40, 3, math.MaxInt32)
		maxTS := int64(0)
		for _, r := range in {
			b.Add(r)
			maxTS = max(maxTS, r.Timestamp)
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		h, err := Validate(raw, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if h.BaseOffset != base || h.NextOffset() != base+int64(len(in)) || h.MaxTimestamp != maxTS ||
			h.PartitionLeaderEpoch != 7 || h.Codec() != codec || h.BaseTimestamp != in[0].Timestamp {
			t.Fatalf("header %+v", h)
		}
		if want := int32(len(in)) - 2; len(in) > 1 && h.LastSequence() != want {
			t.Fatalf("last sequence %d, want %d", h.LastSequence(), want)
		}
		n := 0
		for r, err := range Records(raw, 1<<20) {
			if err != nil {
				t.Fatal(err)
			}
			want := in[n]
			if r.Offset != base+want.Offset || r.Timestamp != want.Timestamp ||
				!sameBytes(r.Key, want.Key) || !sameBytes(r.Value, want.Value) || len(r.Headers) != len(want.Headers) {
				t.Fatalf("record %d: %+v, want %+v", n, r, want)
			}
			for i, rh := range r.Headers {
				if !bytes.Equal(rh.Key, want.Headers[i].Key) || !sameBytes(rh.Value, want.Headers[i].Value) {
					t.Fatalf("header %d of record %d: %q, want %q", i, n, rh, want.Headers[i])
				}
			}
			n++
		}
		if n != len(in) {
			t.Fatalf("%d records, want %d", n, len(in))
		}
		if ts, err := CheckRecords(raw, 1<<20); err != nil || ts != maxTS {
			t.Fatalf("check: %d, %v, want %d", ts, err, maxTS)
		}
	})
}

// What the builder writes is what an independent decoder reads.
func TestBuilderAgainstKmsg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawRecords(t)
		b := NewBuilder().BaseOffset(40).LeaderEpoch(2).Producer(9, 1, 5).Transactional()
		for _, r := range in {
			b.Add(r)
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		var kb kmsg.RecordBatch
		if err := kb.ReadFrom(raw); err != nil {
			t.Fatal(err)
		}
		h, size, err := Parse(raw)
		if err != nil || size != len(raw) {
			t.Fatal(size, err)
		}
		want := Header{
			BaseOffset: kb.FirstOffset, Length: kb.Length, PartitionLeaderEpoch: kb.PartitionLeaderEpoch,
			Magic: kb.Magic, CRC: uint32(kb.CRC), Attributes: kb.Attributes, LastOffsetDelta: kb.LastOffsetDelta,
			BaseTimestamp: kb.FirstTimestamp, MaxTimestamp: kb.MaxTimestamp, ProducerID: kb.ProducerID,
			ProducerEpoch: kb.ProducerEpoch, BaseSequence: kb.FirstSequence, NumRecords: kb.NumRecords,
		}
		if h != want {
			t.Fatalf("header %+v, want %+v", h, want)
		}
		if !bytes.Equal(kb.AppendTo(nil), raw) {
			t.Fatal("encoded anew, the batch differs")
		}
		rest := kb.Records
		for i := range in {
			var kr kmsg.Record
			if err := kr.ReadFrom(rest); err != nil {
				t.Fatalf("record %d: %v", i, err)
			}
			if !sameBytes(kr.Key, in[i].Key) || !sameBytes(kr.Value, in[i].Value) ||
				kb.FirstTimestamp+kr.TimestampDelta64 != in[i].Timestamp || len(kr.Headers) != len(in[i].Headers) {
				t.Fatalf("record %d: %+v, want %+v", i, kr, in[i])
			}
			rest = rest[len(kr.AppendTo(nil)):]
		}
		if len(rest) > 0 {
			t.Fatalf("%d bytes behind the records", len(rest))
		}
	})
}

func simple(t testing.TB, base int64, n int, edit ...func(*Builder)) []byte {
	t.Helper()
	b := NewBuilder().BaseOffset(base)
	for _, e := range edit {
		e(b)
	}
	for i := range n {
		b.Add(Record{Timestamp: 1000 + int64(i), Key: []byte("k"), Value: fmt.Appendf(nil, "value %d", i)})
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestValidateRefuses(t *testing.T) {
	good := func() []byte { return simple(t, 0, 3) }
	reseal := func(b []byte, at int, v ...byte) []byte {
		copy(b[at:], v)
		seal(b)
		return b
	}
	marker, err := Marker{Commit: true, ProducerID: 1}.Build()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		b    []byte
		lim  Limits
		want error
	}{
		{"nothing", nil, Limits{}, ErrTruncated},
		{"half a header", good()[:40], Limits{}, ErrTruncated},
		{"cut", good()[:80], Limits{}, ErrTruncated},
		{"old magic", append(good()[:16], 1), Limits{}, ErrMagic},
		{"message of magic 0", append(make([]byte, 16), make([]byte, 10)...), Limits{}, ErrMagic},
		{"two batches", append(good(), good()...), Limits{}, ErrInvalid},
		{"bytes behind", append(good(), 0), Limits{}, ErrInvalid},
		{"size before checksum", append(good()[:len(good())-1], 99), Limits{MaxBytes: 70}, ErrTooLarge},
		{"checksum", append(good()[:len(good())-1], 99), Limits{}, ErrCorrupt},
		{"control batch", marker, Limits{}, ErrInvalid},
		{"control bit", reseal(good(), atAttributes+1, attrControl), Limits{}, ErrInvalid},
		{"no records", reseal(good(), atNumRecords, 0, 0, 0, 0), Limits{}, ErrInvalid},
		{"negative records", reseal(good(), atNumRecords, 255, 255, 255, 255), Limits{}, ErrCorrupt},
		{"gap in offsets", reseal(good(), atLastOffsetDelta, 0, 0, 0, 9), Limits{}, ErrInvalid},
		{"more records than bytes", reseal(reseal(good(), atNumRecords, 0, 1, 0, 0), atLastOffsetDelta, 0, 0, 255, 255), Limits{}, ErrInvalid},
		{"unknown codec", reseal(good(), atAttributes+1, 5), Limits{}, ErrCodec},
		{"zstd too early", simple(t, 0, 1, func(b *Builder) { b.Codec(Zstd) }), Limits{NoZstd: true}, ErrCodec},
		{"producer without sequence", simple(t, 0, 1, func(b *Builder) { b.Producer(5, 0, -1) }), Limits{}, ErrInvalid},
		{"producer without epoch", simple(t, 0, 1, func(b *Builder) { b.Producer(5, -1, 0) }), Limits{}, ErrInvalid},
		{"transaction without producer", simple(t, 0, 1, func(b *Builder) { b.Transactional() }), Limits{}, ErrInvalid},
		{"length 0", reseal(good(), atLength, 0, 0, 0, 0), Limits{}, ErrCorrupt},
		{"length negative", reseal(good(), atLength, 255, 255, 255, 255), Limits{}, ErrCorrupt},
		{"length huge", reseal(good(), atLength, 127, 255, 255, 255), Limits{}, ErrCorrupt},
		{"good", good(), Limits{MaxBytes: 1 << 20}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Validate(c.b, c.lim); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestSequenceWrapsAround(t *testing.T) {
	cases := []struct{ seq, n, want int32 }{
		{0, 0, 0}, {0, 5, 5}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0},
		{math.MaxInt32 - 1, 3, 1}, {5, math.MaxInt32, 4},
	}
	for _, c := range cases {
		if got := IncrementSequence(c.seq, c.n); got != c.want {
			t.Errorf("increment %d by %d: %d, want %d", c.seq, c.n, got, c.want)
		}
		if got := DecrementSequence(c.want, c.n); got != c.seq {
			t.Errorf("decrement %d by %d: %d, want %d", c.want, c.n, got, c.seq)
		}
	}
	if h := (Header{BaseSequence: NoSequence, LastOffsetDelta: 4}); h.LastSequence() != NoSequence {
		t.Error("a batch without sequence has a last one")
	}
}
