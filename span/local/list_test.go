package local_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// A time that a damaged segment may hold is not answered from behind it, not the first time and not later; what is
// before it, and what only comes behind it, is.
func TestTimeOverDamage(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1", "segment.bytes", "4096")
	l := s.Log(topic, 0)
	for i := range 30 {
		mustPut(t, l, made(t, int64(1000+i), fmt.Sprintf("%0500d", i)))
	}
	l.Release()
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Seven records to a segment: the second has those from 7 to 13.
	for at := int64(64); at < 3900; at += 300 {
		fs.Flip("/data/data/1/0-00000000000000000007.seg", at, 1)
	}
	if s, err = local.Open(memOptions(fs)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	l = s.Log(topic, 0)
	defer l.Release()
	for round := range 3 {
		for _, tc := range []struct {
			ms   int64
			want int64 // -1: an error of the storage
		}{{1003, 3}, {1006, 6}, {1007, -1}, {1010, -1}, {1014, 14}, {1029, 29}, {span.MaxTimestamp, 29}} {
			at, found, err := l.OffsetFor(context.Background(), tc.ms)
			if tc.want < 0 {
				if !errors.Is(err, span.ErrStorage) {
					t.Errorf("round %d: time %d: %+v, %v, want an error", round, tc.ms, at, err)
				}
			} else if err != nil || !found || at.Offset != tc.want {
				t.Errorf("round %d: time %d: %+v, %v, %v, want offset %d", round, tc.ms, at, found, err, tc.want)
			}
		}
		// By then a reader has come by, too.
		r, err := l.Read(context.Background(), span.ReadRequest{Offset: 7, MaxBytes: 1000})
		r.Release()
		if !errors.Is(err, span.ErrStorage) {
			t.Errorf("read of the damaged segment: %v", err)
		}
	}
}

// The record with the largest time is one that is there: not one below the log start, in the log or in a segment with others, and not one
// of which a compaction left but an empty batch.
func TestLargestTimeOfWhatIsThere(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		s, err := local.Open(memOptions(vfs.NewMem()))
		if err != nil {
			t.Fatal(err)
		}
		topic := create(t, s, "t", 1, "retention.ms", "-1")
		l := s.Log(topic, 0)
		is := func(what string, want span.Position) {
			t.Helper()
			if at, found, err := l.OffsetFor(context.Background(), span.MaxTimestamp); err != nil || found != (want.Offset >= 0) || found && at != want {
				t.Errorf("flushed %v: %s: %+v, %v, %v, want %+v", flushed, what, at, found, err, want)
			}
		}
		is("nothing was written", span.Position{Offset: -1})
		for _, times := range [][]int64{{900, 100, 800}, {700, 600}, {650}} {
			b := batch.NewBuilder()
			for _, ts := range times {
				b.Add(batch.Record{Timestamp: ts, Value: []byte("v")})
			}
			raw, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			mustPut(t, l, raw)
		}
		if flushed {
			if err := s.FlushNow(); err != nil {
				t.Fatal(err)
			}
		}
		is("everything is there", span.Position{Offset: 0, Timestamp: 900})
		for start, want := range []span.Position{{Offset: 2, Timestamp: 800}, {Offset: 2, Timestamp: 800}, {Offset: 3, Timestamp: 700}, {Offset: 5, Timestamp: 650}, {Offset: 5, Timestamp: 650}, {Offset: -1}} {
			if _, err := l.DeleteBefore(context.Background(), int64(start+1)); err != nil {
				t.Fatal(err)
			}
			is(fmt.Sprint("trimmed to ", start+1), want)
		}
		l.Release()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// An idle producer's last batch, empty after a compaction.
	s, err := local.Open(memOptions(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "4096", "retention.ms", "-1")
	l := s.Log(topic, 0)
	defer l.Release()
	raw, err := batch.NewBuilder().Producer(7, 0, 0).Add(batch.Record{Timestamp: 9000, Key: []byte("0"), Value: []byte("v")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, l, raw)
	putKeyed(t, l, 40, 3)
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.CompactNow(); err != nil {
		t.Fatal(err)
	}
	at, found, err := l.OffsetFor(context.Background(), span.MaxTimestamp)
	if err != nil || !found || at.Timestamp != 1 {
		t.Errorf("%+v, %v, %v, want a record of 1", at, found, err)
	}
}
