package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// once lets f run at the first operation of the kind on a segment, in its midst: whoever waits for the operation is
// overtaken by f.
func once(fs *vfs.Mem, kind vfs.Op, f func()) (ran func() bool) {
	var done atomic.Bool
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == kind && strings.HasSuffix(name, ".seg") && done.CompareAndSwap(false, true) {
			f()
		}
		return nil
	})
	return done.Load
}

// meetFS calls hook when somebody asks what the page cache holds.
type meetFS struct {
	*vfs.Mem
	hook *atomic.Pointer[func()]
}

type meetFile struct {
	vfs.File
	hook *atomic.Pointer[func()]
}

func (f meetFS) OpenWrite(name string) (vfs.File, error) {
	file, err := f.Mem.OpenWrite(name)
	if err != nil {
		return nil, err
	}
	return meetFile{file, f.hook}, nil
}

func (f meetFile) Cached(pos, n int64) (all, known bool) {
	if h := f.hook.Swap(nil); h != nil {
		(*h)()
	}
	return f.File.Cached(pos, n)
}

// A reader whose offset is trimmed away after it has seen where the log begins is told so. The segment that it finds in
// the place of what it looked for is not damaged, and goes on to be read.
func TestReaderOvertakenByTrim(t *testing.T) {
	for _, tc := range []struct {
		name  string
		apart bool
	}{{"before its segment is opened", false}, {"before it takes the way of copies", true}} {
		t.Run(tc.name, func(t *testing.T) {
			fs, hook := vfs.NewMem(), new(atomic.Pointer[func()])
			o := memOptions(fs)
			o.FS = meetFS{fs, hook}
			s, err := local.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			topic := create(t, s, "t", 1, "retention.ms", "-1", "segment.bytes", "20000")
			l := s.Log(topic, 0)
			for i := range 100 {
				mustPut(t, l, made(t, 1, fmt.Sprintf("%0500d", i)))
			}
			l.Release()
			if err := s.FlushNow(); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = local.Open(o); err != nil { // with nothing in memory
				t.Fatal(err)
			}
			l = s.Log(topic, 0)
			defer l.Release()
			trim := func() {
				// All of the first segment, and some of the next; the file goes away too.
				if start, err := l.DeleteBefore(context.Background(), 50); err != nil || start != 50 {
					t.Errorf("trimmed to %d, %v", start, err)
				}
				if err := s.FlushNow(); err != nil {
					t.Error(err)
				}
			}
			ran := func() bool { return hook.Load() == nil }
			if tc.apart {
				hook.Store(&trim)
			} else {
				ran = once(fs, vfs.OpOpen, trim)
			}
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: 0, MaxBytes: 10_000, Apart: tc.apart})
			r.Release()
			if !ran() {
				t.Fatal("nobody came by")
			}
			if !errors.Is(err, span.ErrOffsetOutOfRange) || r.Start != 50 {
				t.Errorf("overtaken: log starts at %d, %v", r.Start, err)
			}
			if got := readAll(t, l, 50); len(got) != 50 {
				t.Errorf("%d records behind the trim, want 50", len(got))
			}
		})
	}
}

// transactional is a compacted topic on disk alone: records of an aborted transaction, and others behind them.
func transactional(t *testing.T) (fs *vfs.Mem, s *local.Store, l span.Log) {
	t.Helper()
	fs = vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "4096")
	l = s.Log(topic, 0)
	write := func(b *batch.Builder, key int, value string) {
		raw, err := b.Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, key), Value: []byte(value)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	for i := range 6 {
		write(batch.NewBuilder().Producer(9, 0, int32(i)).Transactional(), i, "aborted"+strings.Repeat("x", 500))
	}
	raw, err := batch.Marker{ProducerID: 9, Timestamp: 1}.Build()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, l, raw)
	for i := range 20 {
		write(batch.NewBuilder(), i%3, fmt.Sprintf("%0500d", i))
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
	l = s.Log(topic, 0)
	t.Cleanup(func() {
		l.Release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return fs, s, l
}

// Who reads committed records never gets those of an aborted transaction without being told of it, not when they, and
// with them the transaction, are taken away while they are read.
func TestAbortedAreToldBesideWhatTakesThemAway(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(s *local.Store, l span.Log) error
		gone bool
	}{
		{"a compaction", func(s *local.Store, _ span.Log) error { return s.CompactNow() }, false},
		{"a trim", func(_ *local.Store, l span.Log) error { _, err := l.DeleteBefore(context.Background(), 8); return err }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs, s, l := transactional(t)
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: 0, MaxBytes: 2000, Committed: true})
			if err != nil || !bytes.Contains(r.Batches, []byte("aborted")) || len(r.Aborted) != 1 {
				t.Fatalf("before: %d bytes, aborted %v, %v", len(r.Batches), r.Aborted, err)
			}
			r.Release()
			ran := once(fs, vfs.OpRead, func() {
				if err := tc.do(s, l); err != nil {
					t.Error(err)
				}
			})
			r, err = l.Read(context.Background(), span.ReadRequest{Offset: 0, MaxBytes: 2000, Committed: true})
			defer r.Release()
			if !ran() {
				t.Fatal("nothing was read")
			}
			if gone := errors.Is(err, span.ErrOffsetOutOfRange); gone != tc.gone || err != nil && !gone {
				t.Fatalf("beside it: %v", err)
			}
			if bytes.Contains(r.Batches, []byte("aborted")) && len(r.Aborted) == 0 {
				t.Error("records of an aborted transaction are served, and nothing tells so")
			}
		})
	}
}

// A reader that finds nothing up to its limit but what a compaction left of it does not miss what moves the limit
// meanwhile.
func TestReaderAtAGapIsWoken(t *testing.T) {
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
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "segment.bytes", "4096", "delete.retention.ms", "0")
	l := s.Log(topic, 0)
	defer l.Release()
	write := func(b *batch.Builder, key string, value []byte) int64 {
		raw, err := b.Add(batch.Record{Timestamp: c.now().UnixMilli(), Key: []byte(key), Value: value}).Build()
		if err != nil {
			t.Fatal(err)
		}
		return mustPut(t, l, raw).BaseOffset
	}
	write(batch.NewBuilder(), "stays", make([]byte, 900))
	for range 2 {
		write(batch.NewBuilder(), "k", make([]byte, 900))
	}
	stone := write(batch.NewBuilder(), "k", nil)
	// What is not decided begins another segment, and is where readers of committed records stop.
	undecided := write(batch.NewBuilder().Producer(9, 0, 0).Transactional(), "other", make([]byte, 2000))
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first gives tombstones their time, the next takes them away
		if err := s.CompactNow(); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Minute)
	}
	ran := once(fs, vfs.OpRead, func() {
		raw, err := batch.Marker{ProducerID: 9, Commit: true, Timestamp: 1}.Build()
		if err != nil {
			t.Error(err)
		}
		if a := put(l, raw); a.Err != nil {
			t.Error(a.Err)
		}
	})
	r, err := l.Read(context.Background(), span.ReadRequest{Offset: stone, MaxBytes: 10_000, MaxWait: time.Minute, Committed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !ran() {
		t.Fatal("nothing was read")
	}
	if len(r.Batches) == 0 || batch.BaseOffset(r.Batches) != undecided {
		t.Fatalf("read %d bytes, want the batch at %d", len(r.Batches), undecided)
	}
}

// What a reader finds of a topic that is deleted meanwhile is no error of the disk.
func TestReaderOvertakenByDeletion(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	topic := create(t, s, "t", 1, "segment.bytes", "4096")
	l := s.Log(topic, 0)
	for i := range 20 {
		mustPut(t, l, made(t, int64(i+1), fmt.Sprintf("%0500d", i)))
	}
	l.Release()
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, read := range []func(l span.Log) error{
		func(l span.Log) error {
			r, err := l.Read(context.Background(), span.ReadRequest{Offset: 0, MaxBytes: 1000})
			r.Release()
			return err
		},
		func(l span.Log) error {
			_, _, err := l.OffsetFor(context.Background(), 5)
			return err
		},
	} {
		fs := fs.Clone()
		said := new(bytes.Buffer)
		o := memOptions(fs)
		o.Logger = slog.New(slog.NewTextHandler(said, nil))
		s, err := local.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		l := s.Log(topic, 0)
		ran := once(fs, vfs.OpOpen, func() {
			if err := s.Delete(context.Background(), topic); err != nil {
				t.Error(err)
			}
			// As the keeper will do.
			if err := fs.RemoveAll("/data/data/1"); err != nil {
				t.Error(err)
			}
		})
		if err := read(l); !errors.Is(err, span.ErrGone) {
			t.Errorf("a read beside the deletion: %v", err)
		}
		if !ran() {
			t.Error("no segment was opened")
		}
		l.Release()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if said.Len() > 0 {
			t.Errorf("said: %s", said)
		}
	}
}
