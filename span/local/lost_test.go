package local_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// logFrame is a frame of the shared log as docs/formats/local.md has it.
type logFrame struct {
	file             string
	at               int64
	kind             byte
	topic, partition uint32
	offset           int64
}

// logFrames lists the frames of all log files, those that are not the log's any more too.
func logFrames(t *testing.T, fs *vfs.Mem) (out []logFrame) {
	t.Helper()
	be := binary.BigEndian
	sizes := fs.Sizes()
	for _, name := range logFiles(fs) {
		f, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, sizes[name])
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if len(b) < 4096 || string(b[:8]) != "braidlog" {
			continue
		}
		first := be.Uint64(b[16:])
		for at := int64(4096); at+56 <= int64(len(b)) && be.Uint64(b[at+8:]) == first+uint64(at-4096); {
			out = append(out, logFrame{name, at, b[at+48], be.Uint32(b[at+24:]), be.Uint32(b[at+28:]), int64(be.Uint64(b[at+32:]))})
			at += (56 + int64(be.Uint32(b[at+4:])) + 7) &^ 7
		}
	}
	return out
}

// flipFrame damages the only frame that is wanted.
func flipFrame(t *testing.T, fs *vfs.Mem, what string, wanted func(f logFrame) bool) {
	t.Helper()
	n := 0
	for _, f := range logFrames(t, fs) {
		if wanted(f) {
			fs.Flip(f.file, f.at+20, 1)
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d frames are %s", n, what)
	}
}

func openMem(t *testing.T, fs *vfs.Mem) *local.Store {
	t.Helper()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // of a file system that may be gone
	return s
}

// served reads one offset of a log.
func served(t *testing.T, s *local.Store, topic span.Topic, partition int32, offset int64) (string, error) {
	t.Helper()
	l := s.Log(topic, partition)
	defer l.Release()
	r, err := l.Read(t.Context(), span.ReadRequest{Offset: offset, MaxBytes: 1})
	defer r.Release()
	if err != nil {
		return "", err
	}
	return firstRecord(r.Batches)
}

// What a torn tail left behind it in its file never counts, also when a frame before it is damaged later: the log went on in
// another file from where it was torn.
func TestBehindATornTail(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, fs)
	safe := create(t, s, "safe", 1, "retention.ms", "-1")
	quick := create(t, s, "quick", 1, "retention.ms", "-1", "braid.durability", "os")
	put := func(topic span.Topic, value string) {
		t.Helper()
		l := s.Log(topic, 0)
		defer l.Release()
		mustPut(t, l, made(t, 1, value))
	}
	put(safe, "old-0")
	put(safe, "old-1")
	// Nothing proves that these were synced. The first is torn by a power cut, the second is whole in the file.
	put(quick, "torn-0"+strings.Repeat("x", 600))
	put(quick, "stale-1")
	left := fs.Kill()
	flipFrame(t, left, "torn", func(f logFrame) bool { return f.kind == 1 && f.topic == 2 && f.offset == 0 })
	s = openMem(t, left)
	for i := range 2 {
		put(quick, fmt.Sprint("fresh-", i))
	}
	for i := 2; i < 8; i++ {
		put(safe, fmt.Sprint("old-", i))
	}
	left = left.Kill()
	flipFrame(t, left, "the last before the torn one", func(f logFrame) bool { return f.kind == 1 && f.topic == 1 && f.offset == 1 })
	report, err := local.CheckFS(left.Clone(), "/data")
	if err != nil || !strings.Contains(fmt.Sprint(report.Problems), "[1, 2)") {
		t.Errorf("check: %+v, %v", report, err)
	}
	s = openMem(t, left)
	for i := range int64(2) {
		if got, err := served(t, s, quick, 0, i); err != nil || got != fmt.Sprintf("%d=fresh-%d", i, i) {
			t.Errorf("offset %d is served as %q, %v", i, got, err)
		}
	}
	for i := range int64(8) {
		got, err := served(t, s, safe, 0, i)
		if i == 1 && !errors.Is(err, span.ErrStorage) || i != 1 && (err != nil || got != fmt.Sprintf("%d=old-%d", i, i)) {
			t.Errorf("offset %d is served as %q, %v", i, got, err)
		}
	}
}

// One damaged frame that added partitions, or created a topic: everything else opens and is served, and what nobody can tell
// of is a storage error, not a topic that was deleted.
func TestLostFrameOfATopic(t *testing.T) {
	for _, c := range []struct {
		name string
		kind byte
		says string // check
	}{
		{"create", 2, "creation of topic number 2"},
		{"add partitions", 3, `topic "t" got its partition 2`},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := openMem(t, fs)
			put := func(topic span.Topic, partition int32, value string) {
				t.Helper()
				l := s.Log(topic, partition)
				defer l.Release()
				mustPut(t, l, made(t, 1, value))
			}
			other := create(t, s, "other", 1, "retention.ms", "-1")
			put(other, 0, "x")
			topic := create(t, s, "t", 1, "retention.ms", "-1")
			put(topic, 0, "a")
			gone := create(t, s, "gone", 1)
			put(gone, 0, "b")
			if err := s.AddPartitions(t.Context(), topic, 4); err != nil {
				t.Fatal(err)
			}
			put(topic, 2, "c")
			if err := s.Delete(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			put(other, 0, "y")
			left := fs.Kill()
			flipFrame(t, left, "that", func(f logFrame) bool { return f.kind == c.kind && f.topic == 2 })
			report, err := local.CheckFS(left.Clone(), "/data")
			if err != nil || !strings.Contains(fmt.Sprint(report.Problems), c.says) || strings.Contains(fmt.Sprint(report.Problems), "number 3") {
				t.Errorf("check: %+v, %v", report, err)
			}
			s = openMem(t, left)
			if h, err := s.Health(t.Context()); err != nil || h.Writable {
				t.Errorf("health: %+v, %v", h, err)
			}
			for i, want := range []string{"0=x", "1=y"} {
				if got, err := served(t, s, other, 0, int64(i)); err != nil || got != want {
					t.Errorf("offset %d of the other topic: %q, %v", i, got, err)
				}
			}
			for p, want := range []string{"0=a", "", "0=c", ""} {
				got, err := served(t, s, topic, int32(p), 0)
				switch {
				case errors.Is(err, span.ErrGone):
					t.Errorf("partition %d is taken for one that was deleted: %v", p, err)
				case c.kind == 2 || p == 3:
					if !errors.Is(err, span.ErrStorage) {
						t.Errorf("partition %d: %q, %v, want a storage error", p, got, err)
					}
				case want != "" && (err != nil || got != want):
					t.Errorf("partition %d: %q, %v, want %q", p, got, err, want)
				}
			}
			if gone, err := span.IsGone(t.Context(), s, topic); gone {
				t.Errorf("the topic is told to be gone, %v", err)
			}
			// Whoever leaves the cluster may delete it, known or not.
			if err := s.Delete(t.Context(), topic); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
	}
}

// Without a hole there is no doubt: what is not there was deleted, or never made.
func TestGoneIsGone(t *testing.T) {
	s := openMem(t, vfs.NewMem())
	topic := create(t, s, "t", 1)
	for range 2 {
		if err := s.Delete(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if gone, err := span.IsGone(t.Context(), s, topic); !gone || err != nil {
			t.Errorf("gone: %v, %v", gone, err)
		}
	}
}
