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
	inside, past atomic.Int64
}

func (s *slowReads) read(read func([]byte, int64) (int, error), b []byte, at int64) (int, error) {
	if step := s.step.Load(); step != nil {
		s.inside.Add(1)
		<-*step
		s.inside.Add(-1)
		s.past.Add(1)
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
	var ended, before atomic.Int64
	failed := make(chan error, many+1)
	start := func(owner string, bytes int) {
		go func() {
			err := read(owner, bytes)
			if n := ended.Add(1); owner == "quiet" {
				before.Store(n)
			}
			failed <- err
		}()
	}
	wait := func(what string, until func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !until(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d read, %d wait, %d ended", what, slow.inside.Load(), s.ColdReadsWaiting(), ended.Load())
			}
		}
	}
	for i := range many {
		start("noisy", []int{250_000, 1000}[i%2]) // past the page cache, and through it
	}
	wait("noisy", func() bool {
		return s.ColdReadsWaiting() == many-local.ColdPlaces && slow.inside.Load() == local.ColdPlaces
	})
	start("quiet", 250_000)
	wait("quiet", func() bool { return s.ColdReadsWaiting() == many-local.ColdPlaces+1 })
	for i := int64(1); ended.Load() <= many; i++ {
		step <- struct{}{}
		wait("step", func() bool {
			return slow.past.Load() == i && slow.inside.Load() == min(local.ColdPlaces, many+1-ended.Load())
		})
	}
	for range many + 1 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if n := before.Load(); n > 3*local.ColdPlaces {
		t.Errorf("%d reads of another owner went before", n)
	}
}
