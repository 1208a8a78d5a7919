package local_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// unsynced is a directory whose process was killed when it had written what start submits and was about to
// sync it: what it says of one topic, t with an acknowledged record, is in the page cache only.
func unsynced(t *testing.T, start func(s *local.Store, topic span.Topic)) (*vfs.Mem, span.Topic) {
	t.Helper()
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	mustPut(t, s.Log(topic, 0), made(t, 1, "first"))
	var once sync.Once
	killed := make(chan *vfs.Mem, 1)
	fs.SetFault(func(op vfs.Op, _ string) error {
		if op == vfs.OpSync {
			once.Do(func() { killed <- fs.Kill() })
		}
		return nil
	})
	start(s, topic)
	left := <-killed
	_ = s.Close() // nothing is left of its file system
	return left, topic
}

// cuts are power cuts with all, nothing and something of what was not synced.
func cuts(fs *vfs.Mem) (out []*vfs.Mem) {
	for i := range uint64(16) {
		out = append(out, fs.Clone().Crash(rand.New(rand.NewPCG(i, 5))))
	}
	return out
}

// TestKillThenPowerCut: what a start finds counts, so it has to be on the disk: the repeated batch that is told
// to be there, the records that are read, and all that is appended behind them.
func TestKillThenPowerCut(t *testing.T) {
	raw, err := batch.NewBuilder().Producer(7, 0, 0).Add(batch.Record{Timestamp: 1, Value: []byte("repeated")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	left, topic := unsynced(t, func(s *local.Store, topic span.Topic) { put(s.Log(topic, 0), bytes.Clone(raw)) })
	s, err := local.Open(memOptions(left))
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(topic, 0)
	if a := mustPut(t, l, bytes.Clone(raw)); a.BaseOffset != 1 || !a.Duplicate {
		t.Fatalf("the repeated batch: %+v", a)
	}
	early := cuts(left)
	mustPut(t, l, made(t, 1, "later"))
	want := readAll(t, l, 0)
	after := cuts(left)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, fs := range slices.Concat(early, after) {
		s, err := local.Open(memOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		n := 3
		if i < len(early) {
			n = 2
		}
		if h, err := s.Health(context.Background()); err != nil || !h.Writable {
			t.Errorf("cut %d: %+v, %v", i, h, err)
		}
		if got := readAll(t, s.Log(topic, 0), 0); !slices.Equal(got, want[:n]) {
			t.Errorf("cut %d: %v, want %v", i, got, want[:n])
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillThenPowerCutSeal: a seal that a start found is not taken back by a power cut.
func TestKillThenPowerCutSeal(t *testing.T) {
	left, topic := unsynced(t, func(s *local.Store, topic span.Topic) {
		_, _ = s.Seal(context.Background(), topic) // the process ends
	})
	s, err := local.Open(memOptions(left))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ends, err := s.Seal(context.Background(), topic)
	if err != nil || ends[0].End != 1 {
		t.Fatal(ends, err)
	}
	for i, fs := range cuts(left) {
		s, err := local.Open(memOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		if a := put(s.Log(topic, 0), made(t, 1, "late")); !errors.Is(a.Err, span.ErrSealed) {
			t.Errorf("cut %d: an append to the sealed topic: offset %d, %v", i, a.BaseOffset, a.Err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailedSyncThenRestart: after a sync that failed the system calls pages clean that are not on the disk. The
// next process does not take its own sync for theirs.
func TestFailedSyncThenRestart(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	mustPut(t, s.Log(topic, 0), made(t, 1, "first"))
	fs.SetFault(func(op vfs.Op, _ string) error {
		if op == vfs.OpSync {
			return errors.New("the disk says no")
		}
		return nil
	})
	if a := put(s.Log(topic, 0), made(t, 1, "in doubt")); !errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Fatal(a.Err)
	}
	left := fs.Kill()
	_ = s.Close() // its file system is gone
	if s, err = local.Open(memOptions(left)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := readAll(t, s.Log(topic, 0), 0)
	if len(want) != 2 {
		t.Fatal(want)
	}
	for i, cut := range cuts(left) {
		s, err := local.Open(memOptions(cut))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, s.Log(topic, 0), 0); !slices.Equal(got, want) {
			t.Errorf("cut %d: %v, want %v", i, got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGivenUpFlushThenPowerCut: the directory of a topic outlives a power cut also where a flush that was given
// up had made it.
func TestGivenUpFlushThenPowerCut(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	l := s.Log(topic, 0)
	mustPut(t, l, made(t, 1, "a"))
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasSuffix(name, ".seg") {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := s.FlushNow(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	fs.SetFault(nil)
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	want := readAll(t, l, 0)
	for i, cut := range cuts(fs) {
		s, err := local.Open(memOptions(cut))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, s.Log(topic, 0), 0); !slices.Equal(got, want) {
			t.Errorf("cut %d: %v, want %v", i, got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
