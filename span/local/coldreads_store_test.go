package local_test

import (
	"context"
	"errors"
	"testing"

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
