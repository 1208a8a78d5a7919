package local_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// A read of the disk whose request is over leaves the line, with that for an error: nothing is wrong with the storage.
func TestReadThatIsOverLeavesTheLine(t *testing.T) {
	o := memOptions(vfs.NewMem())
	o.LogFileBytes = 1 << 20
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	s = inSegments(t, s, o, topic)
	defer s.Close()
	l := s.Log(topic, 0)
	defer l.Release()
	s.HoldColdReads()
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	go func() {
		r, err := l.Read(ctx, span.ReadRequest{MaxBytes: 250_000})
		r.Release()
		answer <- err
	}()
	cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) || errors.Is(err, span.ErrStorage) {
		t.Errorf("a read whose request is over: %v", err)
	}
}

// inSegments appends three batches of 100 kB, and opens the store anew with them in a segment.
func inSegments(t *testing.T, s *local.Store, o local.Options, topic span.Topic) *local.Store {
	t.Helper()
	l := s.Log(topic, 0)
	for range 3 {
		raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Value: make([]byte, 100_000)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, raw)
	}
	l.Release()
	if err := s.Close(); err != nil { // everything goes to the segment
		t.Fatal(err)
	}
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	return s
}

// slowFS keeps reads of segments waiting while it has a step for them.
type slowFS struct {
	*vfs.Mem
	slow *slowReads
}

type slowReads struct {
	step         atomic.Pointer[chan struct{}]
	inside, most atomic.Int64
}

func (s *slowReads) read(read func([]byte, int64) (int, error), b []byte, at int64) (int, error) {
	if step := s.step.Load(); step != nil {
		n := s.inside.Add(1)
		for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
		}
		<-*step
		s.inside.Add(-1)
	}
	return read(b, at)
}

type slowFile struct {
	vfs.File
	slow *slowReads
}

func (f slowFile) ReadAt(b []byte, at int64) (int, error) { return f.slow.read(f.File.ReadAt, b, at) }
func (f slowFile) ReadDirect(b []byte, at int64) (int, error) {
	return f.slow.read(f.File.ReadDirect, b, at)
}

func (f slowFS) OpenWrite(name string) (vfs.File, error) { return f.slowly(name, f.Mem.OpenWrite) }
func (f slowFS) Create(name string) (vfs.File, error)    { return f.slowly(name, f.Mem.Create) }

func (f slowFS) slowly(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	file, err := open(name)
	if err != nil || !strings.HasSuffix(name, ".seg") {
		return file, err
	}
	return slowFile{file, f.slow}, nil
}

// The disk is slow, and one owner has many cold consumers: another one's read waits for those under way, not for all.
func TestColdReadsOfAnotherOwner(t *testing.T) {
	o := memOptions(vfs.NewMem())
	slow := &slowReads{}
	o.FS, o.LogFileBytes = slowFS{o.FS.(*vfs.Mem), slow}, 1<<20
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	s = inSegments(t, s, o, topic)
	defer s.Close()
	l := s.Log(topic, 0)
	defer l.Release()
	read := func(owner string, bytes int) error {
		r, err := l.Read(t.Context(), span.ReadRequest{MaxBytes: bytes, Owner: owner})
		if err == nil && len(r.Batches) < 100_000 {
			err = fmt.Errorf("%d bytes were read", len(r.Batches))
		}
		r.Release()
		return err
	}
	if err := read("", 1000); err != nil { // where it lies is known from here on
		t.Fatal(err)
	}
	s.PatientColdReads()
	step := make(chan struct{})
	slow.step.Store(&step)
	const many = 60
	var noisy, before atomic.Int64
	ended := make(chan error)
	for i := range many {
		go func() {
			// Past the page cache, and through it.
			err := read("noisy", []int{250_000, 1000}[i%2])
			noisy.Add(1)
			ended <- err
		}()
	}
	waiting := func(n int) {
		for deadline := time.Now().Add(time.Minute); s.ColdReadsWaiting() < n; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d wait, not %d", s.ColdReadsWaiting(), n)
			}
		}
	}
	waiting(many - local.ColdPlaces)
	go func() {
		err := read("quiet", 250_000)
		before.Store(noisy.Load())
		ended <- err
	}()
	waiting(many - local.ColdPlaces + 1)
	go func() {
		for range many + 1 {
			step <- struct{}{}
		}
		slow.step.Store(nil) // what else there is to read
		close(step)
	}()
	for range many + 1 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := before.Load(); n > 4*local.ColdPlaces {
		t.Errorf("%d reads of another owner went before", n)
	}
	if n := slow.most.Load(); n > local.ColdPlaces {
		t.Errorf("%d reads at a time", n)
	}
}
