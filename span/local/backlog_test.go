package local_test

import (
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestBacklogIsBounded appends faster than a slow disk takes segments: what a start would
// have to replay stays within a few times what a flush waits for.
func TestBacklogIsBounded(t *testing.T) {
	fs := vfs.NewMem()
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasSuffix(name, ".seg") {
			time.Sleep(15 * time.Millisecond) // as long as that disk takes for what a flush writes
		}
		return nil
	})
	opt := memOptions(fs)
	opt.LogFileBytes, opt.FlushBytes = 1<<20, 1<<20
	s, err := local.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	l := s.Log(create(t, s, "t", 1), 0)
	defer l.Release()
	raw := made(t, time.Now().UnixMilli(), strings.Repeat("x", 32<<10))
	const total, inFlight = 32 << 20, 64
	free := make(chan *span.Append, inFlight)
	for range inFlight {
		free <- &span.Append{Batch: raw, Done: func(a *span.Append) { free <- a }}
	}
	failed, most := 0, int64(0)
	for sent := 0; sent < total; sent += len(raw) {
		a := <-free
		if a.Err != nil {
			failed++
		}
		l.Append(a)
		most = max(most, s.Stats().Backlog)
	}
	for range inFlight {
		if a := <-free; a.Err != nil {
			failed++
		}
	}
	if failed > 0 {
		t.Fatalf("%d appends failed", failed)
	}
	if most > 12*opt.FlushBytes {
		t.Fatalf("%d bytes were in no segment, of %d", most, total)
	}
	t.Logf("at most %d bytes were in no segment", most)
}

// Segments are written with pauses, but not while the log runs away from them.
func TestSegmentsAreWrittenWithPauses(t *testing.T) {
	fs := vfs.NewMem()
	write := make(chan struct{})
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasSuffix(name, ".seg") {
			<-write
		}
		return nil
	})
	opt := memOptions(fs)
	opt.LogFileBytes, opt.FlushBytes = 1<<20, 1<<20
	s, err := local.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}()
	defer close(write)
	if began := time.Now(); !s.Calm() {
		t.Fatal("an empty log is behind")
	} else if s.Pace(20 * time.Millisecond); time.Since(began) < 20*time.Millisecond {
		t.Fatalf("a pause of %s after a write of 20 ms", time.Since(began))
	}
	l := s.Log(create(t, s, "t", 1), 0)
	defer l.Release()
	for range 7 {
		mustPut(t, l, made(t, time.Now().UnixMilli(), strings.Repeat("x", 256<<10)))
	}
	if s.Calm() {
		t.Fatal("the log holds much more than a flush waits for")
	}
}
