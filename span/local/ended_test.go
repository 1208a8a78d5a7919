package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// flipIn damages the place in the log where a text stands.
func flipIn(t testing.TB, fs *vfs.Mem, text string) {
	t.Helper()
	sizes := fs.Sizes()
	for _, name := range logFiles(fs) {
		f, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, sizes[name])
		_, err = f.ReadAt(b, 0)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(b, []byte(text)); at >= 0 {
			fs.Flip(name, int64(at), 1)
			return
		}
	}
	t.Fatalf("%q is not in the log", text)
}

// TestHoleWithOpenTransaction: no marker can end what is open, so the seal does not wait for it. Its readers are told.
func TestHoleWithOpenTransaction(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	mustPut(t, s.Log(topic, 0), made(t, 1, "before"))
	raw, err := batch.NewBuilder().Producer(1<<40, 0, 0).Transactional().Add(batch.Record{Timestamp: 1, Value: []byte("open")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s.Log(topic, 0), raw)
	mustPut(t, s.Log(topic, 0), made(t, 1, "lost"))
	killed := fs.Kill()
	_ = s.Close()
	flipIn(t, killed, "lost")
	if s, err = local.Open(memOptions(killed)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if ends, err := s.Seal(t.Context(), topic); err != nil || ends[0].End != 2 {
		t.Fatalf("seal: %+v, %v", ends, err)
	}
	l := s.Log(topic, 0)
	defer l.Release()
	for at, want := range []error{nil, span.ErrStorage} {
		r, err := l.Read(t.Context(), span.ReadRequest{Offset: int64(at), MaxBytes: 1, Committed: true})
		if !errors.Is(err, want) {
			t.Errorf("committed read at %d: %v", at, err)
		}
		r.Release()
	}
	r, err := l.Read(t.Context(), span.ReadRequest{Offset: 1, MaxBytes: 1})
	if err != nil || len(r.Batches) == 0 {
		t.Errorf("read: %v", err)
	}
	r.Release()
}

// TestHoleCanBeLeft: a directory whose log has a hole takes nothing, and what lay past the ends of its partitions is
// not known. It can be left all the same: it is sealed for good, whether a later start finds the hole or not.
func TestHoleCanBeLeft(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic, other := create(t, s, "t", 1, "retention.ms", "-1"), create(t, s, "other", 1, "retention.ms", "-1")
	for i := range 10 {
		mustPut(t, s.Log(topic, 0), made(t, 1, fmt.Sprint("ours-", i)))
	}
	for i := range 10 {
		mustPut(t, s.Log(other, 0), made(t, 1, fmt.Sprint("theirs-", i)))
	}
	killed := fs.Kill()
	_ = s.Close()
	flipIn(t, killed, "ours-9")

	report, err := local.CheckFS(killed.Clone(), "/data")
	if err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0].Detail, "last records of any partition") {
		t.Errorf("check: %+v, %v", report, err)
	}
	last := local.Dumped{}
	if err := local.DumpFS(killed.Clone(), "/data", "t", 0, func(d local.Dumped) error { last = d; return nil }); err != nil || last.Problem == "" || last.Header.BaseOffset != 9 {
		t.Errorf("dump ends with %+v, %v", last, err)
	}

	// refused is what a start with the hole has for everybody.
	refused := func(s *local.Store, want error) {
		t.Helper()
		if h, err := s.Health(t.Context()); err != nil || h.Writable || !strings.Contains(h.Detail, "takes no appends any more") || strings.Contains(h.Detail, "write failed") {
			t.Errorf("health: %+v, %v", h, err)
		}
		l := s.Log(topic, 0)
		defer l.Release()
		if a := put(l, made(t, 1, "late")); !errors.Is(a.Err, want) {
			t.Errorf("append: %v", a.Err)
		}
		if err := l.Probe(t.Context()); !errors.Is(err, want) {
			t.Errorf("probe: %v", err)
		}
		if _, err := s.Create(t.Context(), span.Spec{Name: "new", Partitions: 1}); !errors.Is(err, span.ErrStorage) {
			t.Errorf("create: %v", err)
		}
	}
	seal := func(s *local.Store, topic span.Topic, end int64) {
		t.Helper()
		ends, err := s.Seal(t.Context(), topic)
		if err != nil || len(ends) != 1 || ends[0].End != end || !ends[0].Lossy {
			t.Errorf("seal: %+v, %v", ends, err)
		}
	}
	for round, fs := range []*vfs.Mem{killed, killed.Clone()} {
		if s, err = local.Open(memOptions(fs)); err != nil {
			t.Fatal(err)
		}
		refused(s, span.ErrStorage)
		l := s.Log(topic, 0)
		for at := range int64(13) {
			r, err := l.Read(t.Context(), span.ReadRequest{Offset: at, MaxBytes: 1})
			if at < 9 && (err != nil || len(r.Batches) == 0) || at >= 9 && (!errors.Is(err, span.ErrStorage) || errors.Is(err, span.ErrOffsetOutOfRange)) {
				t.Errorf("read at %d: %d bytes, %v", at, len(r.Batches), err)
			}
			r.Release()
		}
		if _, err := l.Read(t.Context(), span.ReadRequest{Offset: -1}); !errors.Is(err, span.ErrOffsetOutOfRange) {
			t.Errorf("read below the start: %v", err)
		}
		for range 2 {
			seal(s, topic, 9)
		}
		seal(s, other, 10)
		refused(s, span.ErrSealed)
		if _, err := l.Producers(t.Context()); err != nil {
			t.Error(err)
		}
		next := fs.Kill()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		end := int64(9)
		if round == 1 {
			flipIn(t, next, "nurs-9") // back to what it was
			end = 10
		}
		if s, err = local.Open(memOptions(next)); err != nil {
			t.Fatal(err)
		}
		refused(s, span.ErrSealed)
		seal(s, topic, end)
		if report, err := local.CheckFS(next.Clone(), "/data"); err != nil || len(report.Problems) == 0 {
			t.Errorf("check: %+v, %v", report, err)
		}
		l = s.Log(topic, 0)
		if start, err := l.DeleteBefore(t.Context(), 3); err != nil || start != 3 {
			t.Errorf("delete before: %d, %v", start, err)
		}
		if _, err := l.DeleteBefore(t.Context(), 11); !errors.Is(err, span.ErrOffsetOutOfRange) {
			t.Errorf("delete past the end: %v", err)
		}
		for range 2 {
			if err := s.Delete(t.Context(), topic); err != nil {
				t.Error(err)
			}
		}
		if err := l.Probe(t.Context()); !errors.Is(err, span.ErrGone) {
			t.Errorf("probe of a deleted topic: %v", err)
		}
		if list, err := s.Topics(t.Context(), ""); err != nil || len(list) != 1 {
			t.Errorf("topics: %v, %v", list, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Seal(t.Context(), other); !errors.Is(err, span.ErrUnavailable) {
			t.Errorf("seal of a closed store: %v", err)
		}
	}
}
