package batch

import (
	"bytes"
	"errors"
	"testing"
)

func kindOf(err error) bool {
	for _, kind := range []error{ErrTruncated, ErrCorrupt, ErrMagic, ErrInvalid, ErrTooLarge, ErrCodec} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return err == nil
}

func FuzzParse(f *testing.F) {
	b := simple(f, 9, 3)
	f.Add(b)
	f.Add(b[:70])
	f.Add(append(bytes.Clone(b), b[:80]...))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, size, err := Parse(in)
		if !kindOf(err) {
			t.Fatal(err)
		}
		if err == nil {
			var again [HeaderSize]byte
			h.put(again[:])
			if !bytes.Equal(again[:], in[:HeaderSize]) || size < HeaderSize {
				t.Fatalf("header %+v, size %d", h, size)
			}
		}
		if _, err := Validate(in, Limits{MaxBytes: 1 << 20}); !kindOf(err) {
			t.Fatal(err)
		}
		run, err := PatchRun(in, 7, 3)
		if !kindOf(err) || run.Bytes > len(in) || run.Batches*HeaderSize > run.Bytes {
			t.Fatalf("%+v, %v", run, err)
		}
	})
}

func FuzzRecords(f *testing.F) {
	for _, codec := range codecs {
		b := simple(f, 9, 3, func(b *Builder) { b.Codec(codec) })
		f.Add(int8(codec), int32(3), b[HeaderSize:])
	}
	f.Add(int8(0), int32(1), []byte{0x10, 0, 0, 0, 1, 1, 2, 0, 0})
	like := simple(f, 9, 3)
	const budget = 1 << 20
	f.Fuzz(func(t *testing.T, codec int8, n int32, in []byte) {
		b := append(bytes.Clone(like[:HeaderSize]), in...)
		h, _, err := Parse(like)
		if err != nil {
			t.Fatal(err)
		}
		h.Attributes = int16(codec & attrCodec)
		h.NumRecords = max(n, 0)
		h.LastOffsetDelta = max(n-1, 0)
		h.Length = int32(len(b) - prefixSize)
		h.put(b)
		bytesSeen := 0
		for r, err := range Records(b, budget) {
			if !kindOf(err) {
				t.Fatal(err)
			}
			bytesSeen += len(r.Key) + len(r.Value)
			if r.Offset < h.BaseOffset && err == nil || bytesSeen > budget {
				t.Fatalf("record at %d, %d bytes", r.Offset, bytesSeen)
			}
		}
		if _, err := ParseMarker(b); !kindOf(err) {
			t.Fatal(err)
		}
	})
}
