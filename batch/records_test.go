package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// packed makes a batch around records that something else compressed.
func packed(t testing.TB, like []byte, codec Codec, records []byte) []byte {
	t.Helper()
	h, _, err := Parse(like)
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(like[:HeaderSize]), records...)
	h.Attributes = h.Attributes&^attrCodec | int16(codec)
	h.Length = int32(len(out) - prefixSize)
	h.put(out)
	seal(out)
	return out
}

func count(b []byte, budget int) (int, error) {
	n := 0
	for _, err := range Records(b, budget) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// The codecs of the client library, in both directions.
func TestCodecsAgainstClientLibrary(t *testing.T) {
	kinds := map[Codec]kgo.CompressionCodecType{Gzip: kgo.CodecGzip, Snappy: kgo.CodecSnappy, LZ4: kgo.CodecLz4, Zstd: kgo.CodecZstd}
	options := map[Codec]kgo.CompressionCodec{Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression()}
	plain := simple(t, 7, 2000)
	payload := plain[HeaderSize:]
	for _, codec := range codecs[1:] {
		comp, err := kgo.DefaultCompressor(options[codec])
		if err != nil {
			t.Fatal(err)
		}
		theirs, _ := comp.Compress(new(bytes.Buffer), payload)
		if n, err := count(packed(t, plain, codec, theirs), len(payload)); err != nil || n != 2000 {
			t.Errorf("%v: their compression: %d records, %v", codec, n, err)
		}
		ours := simple(t, 7, 2000, func(b *Builder) { b.Codec(codec) })
		if len(ours) >= len(plain) {
			t.Errorf("%v: %d bytes, plain %d", codec, len(ours), len(plain))
		}
		got, err := kgo.DefaultDecompressor().Decompress(ours[HeaderSize:], kinds[codec])
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%v: our compression: %d bytes of %d, %v", codec, len(got), len(payload), err)
		}
	}
}

// Snappy comes as one bare block from librdkafka, and as a stream of blocks from Java.
func TestSnappyBothFramings(t *testing.T) {
	plain := simple(t, 0, 500)
	payload := plain[HeaderSize:]
	bare := snappy.Encode(nil, payload)
	stream := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for rest := payload; len(rest) > 0; {
		n := min(len(rest), 1000)
		block := snappy.Encode(nil, rest[:n])
		stream = append(binary.BigEndian.AppendUint32(stream, uint32(len(block))), block...)
		rest = rest[n:]
	}
	for name, records := range map[string][]byte{"bare": bare, "stream": stream} {
		b := packed(t, plain, Snappy, records)
		if n, err := count(b, len(payload)); err != nil || n != 500 {
			t.Errorf("%s: %d records, %v", name, n, err)
		}
		if _, err := count(b, len(payload)-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: over the budget: %v", name, err)
		}
		if _, err := count(packed(t, plain, Snappy, records[:len(records)-3]), 1<<20); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: cut: %v", name, err)
		}
	}
	lies := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff)
	if _, err := count(packed(t, plain, Snappy, lies), 1<<30); !errors.Is(err, ErrCorrupt) {
		t.Errorf("block longer than the batch: %v", err)
	}
	huge := append(binary.AppendUvarint(nil, 1<<31), 0)
	if _, err := count(packed(t, plain, Snappy, huge), 1<<30); !errors.Is(err, ErrCorrupt) {
		t.Errorf("block that claims 2 GiB: %v", err)
	}
}

// bombs are a few kilobytes that unpack to 64 MiB, one per codec.
func bombs(t testing.TB) map[Codec][]byte {
	t.Helper()
	zeros := make([]byte, 64<<20)
	out := map[Codec][]byte{Snappy: snappy.Encode(nil, zeros)}
	var buf bytes.Buffer
	gw := gzip.NewWriter(&buf)
	lw := lz4.NewWriter(new(bytes.Buffer))
	for _, step := range []func() error{
		func() error { _, err := gw.Write(zeros); return err }, gw.Close,
		func() error { out[Gzip] = bytes.Clone(buf.Bytes()); buf.Reset(); lw.Reset(&buf); return nil },
		func() error { _, err := lw.Write(zeros); return err }, lw.Close,
		func() error { out[LZ4] = bytes.Clone(buf.Bytes()); return nil },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	out[Zstd] = enc.EncodeAll(zeros, nil)
	return out
}

func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// Memory follows the budget, not what the compressed bytes unpack to.
func TestDecompressionStaysWithinTheBudget(t *testing.T) {
	plain := simple(t, 0, 1)
	const budget = 1 << 20
	for codec, records := range bombs(t) {
		b := packed(t, plain, codec, records)
		// Codecs set up their tables once; that is not part of the budget.
		if _, err := count(b, budget); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v", codec, err)
		}
		var err error
		got := allocated(func() { _, err = count(b, budget) })
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v", codec, err)
		}
		// Growing by doubling sums up to twice the end; lz4 takes blocks of 4 MiB.
		if limit := 4*budget + 8<<20; got > limit {
			t.Errorf("%v: %d bytes allocated for a budget of %d", codec, got, budget)
		}
	}
}

func TestZstdFrameThatLiesAboutItsSize(t *testing.T) {
	// Magic, a single-segment frame that claims 1 GiB, then one raw block of 1 byte.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 0x09, 0, 0, 'x'}
	b := packed(t, simple(t, 0, 1), Zstd, frame)
	var err error
	got := allocated(func() { _, err = count(b, 64<<20) })
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	t.Logf("%d bytes allocated: %v", got, err)
}

func TestRecordsRefuse(t *testing.T) {
	plain := simple(t, 0, 3)
	first := HeaderSize
	edit := func(f func(b []byte) []byte) []byte {
		b := f(bytes.Clone(plain))
		return packed(t, b, None, b[HeaderSize:])
	}
	cases := map[string]struct {
		b      []byte
		budget int
		want   error
	}{
		"cut batch":              {plain[:len(plain)-1], 1 << 20, ErrTruncated},
		"bytes behind":           {edit(func(b []byte) []byte { return append(b, 0) }), 1 << 20, ErrCorrupt},
		"record cut":             {edit(func(b []byte) []byte { return b[:len(b)-1] }), 1 << 20, ErrCorrupt},
		"record longer than all": {edit(func(b []byte) []byte { b[first] = 0x7e; return b }), 1 << 20, ErrCorrupt},
		"record of length -1":    {edit(func(b []byte) []byte { b[first] = 0x01; return b }), 1 << 20, ErrCorrupt},
		"offset delta negative":  {edit(func(b []byte) []byte { b[first+3] = 0x01; return b }), 1 << 20, ErrCorrupt},
		"offset delta too large": {edit(func(b []byte) []byte { b[first+3] = 0x0c; return b }), 1 << 20, ErrCorrupt},
		"key of length -2":       {edit(func(b []byte) []byte { b[first+4] = 0x03; return b }), 1 << 20, ErrCorrupt},
		"headers -1":             {edit(func(b []byte) []byte { b[first+5+1+1+7] = 0x01; return b }), 1 << 20, ErrCorrupt},
		"over the budget":        {plain, 10, ErrTooLarge},
		"unknown codec":          {packed(t, plain, 5, plain[HeaderSize:]), 1 << 20, ErrCodec},
		"not gzip":               {packed(t, plain, Gzip, plain[HeaderSize:]), 1 << 20, ErrCorrupt},
		"not lz4":                {packed(t, plain, LZ4, plain[HeaderSize:]), 1 << 20, ErrCorrupt},
		"not zstd":               {packed(t, plain, Zstd, plain[HeaderSize:]), 1 << 20, ErrCorrupt},
		"empty gzip":             {packed(t, plain, Gzip, nil), 1 << 20, ErrCorrupt},
		"good":                   {plain, 1 << 20, nil},
	}
	for name, c := range cases {
		if _, err := count(c.b, c.budget); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// A count that the bytes cannot hold is refused before the first record.
func TestRecordCountBeyondTheBytes(t *testing.T) {
	b := simple(t, 0, 3)
	binary.BigEndian.PutUint32(b[atNumRecords:], 100)
	if _, err := OpenRecords(b, 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestHeadersCountAgainstTheBudget(t *testing.T) {
	r := Record{}
	for range 10_000 {
		r.Headers = append(r.Headers, RecordHeader{})
	}
	b, err := NewBuilder().Add(r).Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := count(b, len(b)+10_000*headerCost); err != nil {
		t.Fatal(err)
	}
	if _, err := count(b, len(b)+9_000*headerCost); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
}

func TestCheckRecordsRefusesGaps(t *testing.T) {
	b := NewBuilder().AddAt(Record{Offset: 0}).AddAt(Record{Offset: 2}).AddAt(Record{Offset: 3})
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckRecords(raw, 1<<20); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	h, _, err := Parse(raw)
	if err != nil || h.NumRecords != 3 || h.LastOffset() != 3 {
		t.Fatal(h, err)
	}
}

// A cleaner's batch keeps offsets, producer and codec of the one it stands for.
func TestLikeKeepsWhatACleanerMust(t *testing.T) {
	raw := simple(t, 100, 5, func(b *Builder) { b.Codec(Zstd).Producer(8, 2, 40).LeaderEpoch(6) })
	h, _, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var kept []Record
	for r, err := range Records(raw, 1<<20) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset%2 == 0 {
			kept = append(kept, Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)})
		}
	}
	b := Like(h)
	for _, r := range kept[:2] {
		b.AddAt(r)
	}
	less, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Parse(less)
	if err != nil || Verify(less) != nil {
		t.Fatal(err)
	}
	if got.BaseOffset != 100 || got.LastOffset() != 104 || got.NumRecords != 2 || got.LastSequence() != 44 ||
		got.ProducerID != 8 || got.PartitionLeaderEpoch != 6 || got.Codec() != Zstd || got.MaxTimestamp != 1002 {
		t.Fatalf("%+v", got)
	}
	i := 0
	for r, err := range Records(less, 1<<20) {
		if err != nil || r.Offset != kept[i].Offset || r.Timestamp != kept[i].Timestamp {
			t.Fatalf("record %+v, %v", r, err)
		}
		i++
	}
	none, err := Like(h).DeleteHorizon(5000).Build()
	if err != nil {
		t.Fatal(err)
	}
	got, _, err = Parse(none)
	if err != nil || got.NumRecords != 0 || got.LastOffset() != 104 || got.LastSequence() != 44 || got.MaxTimestamp != h.MaxTimestamp {
		t.Fatalf("%+v, %v", got, err)
	}
	if ms, ok := got.DeleteHorizon(); !ok || ms != 5000 {
		t.Fatal(ms, ok)
	}
	if n, err := count(none, 1<<20); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

func TestBuilderRefuses(t *testing.T) {
	cases := map[string]*Builder{
		"empty":             NewBuilder(),
		"offset goes back":  NewBuilder().AddAt(Record{Offset: 5}).AddAt(Record{Offset: 5}),
		"offset below base": NewBuilder().BaseOffset(10).AddAt(Record{Offset: 9}),
		"offset far off":    NewBuilder().AddAt(Record{Offset: 1 << 31}),
		"late horizon":      NewBuilder().Add(Record{}).DeleteHorizon(1),
	}
	for name, b := range cases {
		if out, err := b.AppendTo([]byte("x")); err == nil || string(out) != "x" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	if _, err := NewBuilder().Codec(6).Add(Record{}).Build(); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
}

func TestBuilderIsReusable(t *testing.T) {
	b := NewBuilder().Producer(1, 1, 1).Transactional().LogAppendTime(5).Add(Record{Value: []byte("a")})
	first, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(first)
	b.Reset()
	second, err := b.Add(Record{Value: []byte("b")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, before) {
		t.Fatal("a built batch changed")
	}
	h, _, err := Parse(second)
	if err != nil || h.HasProducer() || h.IsTransactional() || h.LogAppendTime() || h.NumRecords != 1 {
		t.Fatal(h, err)
	}
}

func TestMarkers(t *testing.T) {
	for _, commit := range []bool{true, false} {
		want := Marker{Commit: commit, CoordinatorEpoch: 4, ProducerID: 1 << 41, ProducerEpoch: 9, Offset: 55, Timestamp: 777, LeaderEpoch: 2}
		raw, err := want.Build()
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := Parse(raw)
		if err != nil || !h.IsControl() || !h.IsTransactional() || h.BaseSequence != NoSequence || h.NumRecords != 1 || Verify(raw) != nil {
			t.Fatal(h, err)
		}
		got, err := ParseMarker(raw)
		if err != nil || got != want {
			t.Fatal(got, err)
		}
		// The key and value as another library reads them.
		for r, err := range Records(raw, 1<<10) {
			if err != nil {
				t.Fatal(err)
			}
			var key kmsg.ControlRecordKey
			var value kmsg.EndTxnMarker
			if err := errors.Join(key.ReadFrom(r.Key), value.ReadFrom(r.Value)); err != nil {
				t.Fatal(err)
			}
			if (key.Type == kmsg.ControlRecordKeyTypeCommit) != commit || value.CoordinatorEpoch != 4 {
				t.Fatal(key, value)
			}
		}
		for n := range raw {
			if _, err := ParseMarker(raw[:n]); err == nil {
				t.Fatalf("took %d of %d bytes", n, len(raw))
			}
		}
	}
	if _, err := ParseMarker(simple(t, 0, 1)); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
