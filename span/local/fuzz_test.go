package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// The fuzz targets feed each format's parser with whatever comes; it must neither
// panic nor take more memory than the input accounts for. Checksums are put
// right where they would hide everything behind them.

func FuzzFrameHeader(f *testing.F) {
	b := make([]byte, frameSize(3))
	fr := frame{Length: 3, LSN: 64, Kind: kindMark}
	fr.put(b, 7)
	f.Add(b, uint64(64), uint32(7))
	f.Fuzz(func(t *testing.T, b []byte, lsn uint64, salt uint32) {
		got, err := parseFrame(b, lsn, salt)
		if err != nil {
			return
		}
		again := make([]byte, frameSize(0))
		got.Length = 0
		got.put(again, salt)
	})
}

func FuzzLogHeader(f *testing.F) {
	b := make([]byte, walHeaderUsed)
	putWalHeader(b, 4096, 1, [16]byte{1})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if lsn, salt, err := parseWalHeader(b, [16]byte{1}); err == nil {
			again := make([]byte, walHeaderUsed)
			putWalHeader(again, lsn, salt, [16]byte{1})
			if l, s, err := parseWalHeader(again, [16]byte{1}); err != nil || l != lsn || s != salt {
				t.Fatal("does not encode to what it was")
			}
		}
	})
}

func FuzzTopicRecord(f *testing.F) {
	cfg, err := parseConfig(nil)
	if err != nil {
		f.Fatal(err)
	}
	t := newTopic(1, "t", [16]byte{2}, 1, map[string]string{"a": "b"}, cfg)
	f.Add(appendTopicRecord(nil, t, 3, map[string]string{"retention.ms": "1"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseTopicRecord(b)
		if err == nil {
			if _, err := parseConfig(r.config); err != nil {
				var rejected *span.RejectedError
				if !errors.As(err, &rejected) {
					t.Fatal(err)
				}
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	fs := vfs.NewMem()
	s, err := Open(Options{Dir: "/d", Name: "n", FS: fs, LogFileBytes: 64 << 10, MinSpace: -1, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.encodeCheckpoint(firstLSN, 0, doubt{}))
	if _, err := s.Create(f.Context(), span.Spec{Name: "t", Partitions: 2}); err != nil {
		f.Fatal(err)
	}
	f.Add(s.encodeCheckpoint(firstLSN, 9999, doubt{}))
	f.Add(s.encodeCheckpoint(firstLSN, 9999, doubt{spent: time.Hour, at: 1, ahead: 2}))
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > checkpointHeader+4 {
			b = bytes.Clone(b)
			sum := checksum(b[:len(b)-4])
			b[len(b)-4], b[len(b)-3], b[len(b)-2], b[len(b)-1] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		st, err := parseCheckpoint(b)
		if err != nil {
			return
		}
		parts := 0
		for _, top := range st.topics {
			parts += len(top.partitions())
		}
		// A partition takes at least a byte.
		if parts > len(b) {
			t.Fatalf("%d partitions of %d bytes", parts, len(b))
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add("braid-local 1\nid=00\nname=\ncrc=00000000\n")
	f.Add("braid-local 9\n")
	f.Add("braid-local 1\nid=00112233445566778899aabbccddeeff\nname=61\nfleet=62\ncrc=00000000\n")
	f.Fuzz(func(t *testing.T, s string) {
		_, err := parseMarker(s)
		if err != nil && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) && !errors.Is(err, errDamaged) {
			t.Fatal(err)
		}
	})
}

func FuzzSegmentIndex(f *testing.F) {
	x := &segIndex{end: segHeaderSize}
	x.add(5, segHeaderSize, 100, 7)
	f.Add(x.encode(6, 7), x.end)
	f.Fuzz(func(t *testing.T, b []byte, pos int64) {
		if len(b) >= segTrailerSize {
			b = bytes.Clone(b)
			body := b[:len(b)-segTrailerSize]
			trailer := b[len(b)-segTrailerSize:]
			sum := checksum(append(bytes.Clone(body), trailer[:atEndCRC]...))
			trailer[60], trailer[61], trailer[62], trailer[63] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
		}
		x, err := parseIndex(b, pos)
		if err != nil {
			return
		}
		at := x.find(3)
		if at < segHeaderSize {
			t.Fatal("points into the header")
		}
		x.findTime(1)
	})
}

// FuzzSegment reads a segment of arbitrary bytes.
func FuzzSegment(f *testing.F) {
	cfg, err := parseConfig(nil)
	if err != nil {
		f.Fatal(err)
	}
	p := newTopic(1, "t", [16]byte{2}, 1, nil, cfg).partitions()[0]
	raw, err := batch.NewBuilder().Add(batch.Record{Value: []byte("v")}).Build()
	if err != nil {
		f.Fatal(err)
	}
	place(1, 0, raw)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		// The header's own checksum would hide what is behind it.
		if len(b) >= batch.HeaderSize {
			b = bytes.Clone(b)
			place(1, 0, b)
		}
		n := 0
		err := scanHeaders(p, bytes.NewReader(b), make([]byte, 4096), 0, int64(len(b)), func(h batch.Header, _ []byte, pos int64) (bool, error) {
			n += h.Size()
			return true, nil
		})
		if err == nil && n != len(b) {
			t.Fatalf("%d of %d bytes accounted for", n, len(b))
		}
		s := &Store{}
		from, end, _, _, err := s.cut(p, bytes.Clone(b), 0, 1<<40, 1<<20, 0)
		if err == nil && (from < 0 || end < from) {
			t.Fatalf("cut [%d, %d)", from, end)
		}
	})
}

func FuzzProof(f *testing.F) {
	b := make([]byte, proofSize)
	putProof(b, 4096, [16]byte{1})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= proofSize {
			binary.BigEndian.PutUint32(b[atProofCRC:], checksum(b[:atProofCRC]))
		}
		if lsn, err := parseProof(b, [16]byte{1}); err == nil {
			again := make([]byte, proofSize)
			putProof(again, lsn, [16]byte{1})
			if l, err := parseProof(again, [16]byte{1}); err != nil || l != lsn {
				t.Fatal("does not encode to what it was")
			}
		}
	})
}
