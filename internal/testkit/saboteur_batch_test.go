package testkit

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// makeBatch is a batch as a producer sends it, made by the protocol library and not by the code
// under test.
func makeBatch(t testing.TB, codec kgo.CompressionCodec, sequence int32, values ...string) []byte {
	t.Helper()
	var records []byte
	for i, v := range values {
		r := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: int32(i), Key: []byte("k"), Value: []byte(v)}
		body := r.AppendTo(nil)[1:] // a length of 0, in one byte
		r.Length = int32(len(body))
		records = r.AppendTo(records)
	}
	compressor, err := kgo.DefaultCompressor(codec)
	if err != nil {
		t.Fatal(err)
	}
	attributes := int16(0)
	if compressor != nil {
		out, c := compressor.Compress(new(bytes.Buffer), records)
		records, attributes = slices.Clone(out), int16(c)
	}
	b := kmsg.RecordBatch{
		Magic: 2, Attributes: attributes, LastOffsetDelta: int32(len(values)) - 1, ProducerID: 7, ProducerEpoch: 3,
		FirstSequence: sequence, NumRecords: int32(len(values)), Records: records,
	}
	return seal(b.AppendTo(nil))
}

// readBatch says what a consumer would find.
func readBatch(t testing.TB, raw []byte) (batch kmsg.RecordBatch, values []string) {
	t.Helper()
	if err := batch.ReadFrom(raw); err != nil {
		t.Fatal(err)
	}
	if sum := crc32.Checksum(raw[batchAttributes:], crc32.MakeTable(crc32.Castagnoli)); uint32(batch.CRC) != sum {
		t.Fatalf("checksum %x, want %x", uint32(batch.CRC), sum)
	}
	in := batch.Records
	for i := range batch.NumRecords {
		_, n := binary.Varint(in)
		var r kmsg.Record
		if err := r.ReadFrom(in); err != nil {
			t.Fatal(err)
		}
		if r.OffsetDelta != i {
			t.Fatalf("record %d has offset delta %d", i, r.OffsetDelta)
		}
		values = append(values, string(r.Value))
		in = in[n+int(r.Length):]
	}
	if len(in) > 0 {
		t.Fatalf("%d bytes after the records", len(in))
	}
	return batch, values
}

func TestEditBatch(t *testing.T) {
	for name, codec := range map[string]kgo.CompressionCodec{
		"plain": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		t.Run(name, func(t *testing.T) {
			raw := makeBatch(t, codec, 40, "a", "b", "c")
			before := slices.Clone(raw)
			b, err := openBatch(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.edit(func(r [][]byte) [][]byte { return [][]byte{r[2], r[0], r[0], r[1]} }); err != nil {
				t.Fatal(err)
			}
			b.shiftSequence(-1)
			got, values := readBatch(t, b.bytes)
			if !slices.Equal(values, []string{"c", "a", "a", "b"}) || got.LastOffsetDelta != 3 || got.FirstSequence != 39 || got.Attributes != 0 {
				t.Fatalf("%q %+v", values, got)
			}
			if got.ProducerID != 7 || got.ProducerEpoch != 3 {
				t.Fatalf("producer %d epoch %d", got.ProducerID, got.ProducerEpoch)
			}
			if !bytes.Equal(raw, before) {
				t.Fatal("the client's bytes were written into")
			}
		})
	}
}

func TestSequencesWrap(t *testing.T) {
	for _, tc := range []struct{ from, by, to int32 }{{math.MaxInt32, 1, 0}, {0, -1, math.MaxInt32}, {5, 2, 7}} {
		b, err := openBatch(makeBatch(t, kgo.NoCompression(), tc.from, "a"))
		if err != nil {
			t.Fatal(err)
		}
		b.shiftSequence(tc.by)
		if got, _ := readBatch(t, b.bytes); got.FirstSequence != tc.to {
			t.Errorf("%d by %d is %d, want %d", tc.from, tc.by, got.FirstSequence, tc.to)
		}
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(makeBatch(f, kgo.NoCompression(), 1, "a", "b"))
	f.Add(makeBatch(f, kgo.ZstdCompression(), 1, "a", "b"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := openBatch(raw)
		if err != nil {
			return
		}
		if err := b.edit(func(r [][]byte) [][]byte { return r }); err != nil {
			return
		}
		if again, err := openBatch(b.bytes); err != nil || again.count() != b.count() {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	f.Add([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0, 1, 'c', 0, 0})
	f.Add([]byte{0, 18, 0, 4, 0, 0, 0, 1, 255, 255, 1, 0, 2, 9, 9})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if _, _, body, err := requestHeader(frame); err == nil && body > len(frame) {
			t.Fatalf("a body at %d of %d bytes", body, len(frame))
		}
		if at, err := skipTags(frame, min(4, len(frame))); err == nil && at > len(frame) {
			t.Fatalf("tags end at %d of %d bytes", at, len(frame))
		}
	})
}
