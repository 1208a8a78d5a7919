package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
	"github.com/braidstream/braid/wire"
)

func FuzzFrame(f *testing.F) {
	f.Add(append(appendPrefix(nil, 7, opRead, 3, 2), "headb"...))
	f.Add(appendPrefix(nil, 7, opPing, 0, 0))
	f.Add(appendPrefix(nil, 1, opAppend, maxHead, maxBody))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			m, release, err := readMessage(r, maxHead+maxBody)
			if err != nil {
				return
			}
			if len(m.head)+len(m.body) > len(b) {
				t.Fatal("more than was sent")
			}
			release()
		}
	})
}

// TestFrameBudget: a header that promises much costs nothing before it is sent.
func TestFrameBudget(t *testing.T) {
	b := appendPrefix(nil, 1, opAppend, maxHead, maxBody)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		_, _, err := readMessage(bufio.NewReader(bytes.NewReader(b)), maxHead+maxBody)
		if err == nil {
			t.Fatal("half a frame was taken")
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 100; n > 4<<20 {
		t.Fatalf("half a frame costs %d bytes", n)
	}
	if _, _, err := readMessage(bufio.NewReader(bytes.NewReader(b)), 1<<20); !errors.Is(err, errLarge) {
		t.Fatalf("a frame over the limit: %v", err)
	}
}

func FuzzHello(f *testing.F) {
	f.Add(encodeHello(&hello{name: "here", channel: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, peer, err := readHello(bytes.NewReader(b))
		if err == nil && peer == version {
			if !bytes.HasPrefix(b, encodeHello(&h)) {
				t.Fatalf("%+v does not encode to what it was", h)
			}
		}
	})
}

// FuzzOperations runs whatever comes against a store.
func FuzzOperations(f *testing.F) {
	var e encoder
	e.topic(span.Topic{Name: "t"})
	e.int(0)
	e.int(1)
	for o := opRead; o < opLast; o++ {
		f.Add(byte(o), e.b)
	}
	s, err := local.Open(local.Options{Dir: "/d", Name: "here", FS: vfs.NewMem(), LogFileBytes: 64 << 10, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Error(err)
		}
	})
	c := &serverConn{store: s}
	f.Fuzz(func(t *testing.T, o byte, head []byte) {
		// A read that waits is nothing to look at here.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		c.answer(ctx, message{op: op(o), head: head}).release()
	})
}

func FuzzAnswers(f *testing.F) {
	var e encoder
	encodeProducers(&e, []span.Producer{{ID: 1, Batches: []span.ProducedBatch{{FirstSequence: 1}}}})
	f.Add(e.b)
	e = encoder{}
	encodeError(&e, &span.RejectedError{Code: 45, Detail: "x"})
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{b: b}
		d.producers()
		d = decoder{b: b}
		if err := d.error(); err != nil {
			_ = err.Error()
		}
		d = decoder{b: b}
		d.config()
	})
}

func TestErrorsTravel(t *testing.T) {
	for _, err := range []error{
		span.ErrSealed, span.ErrGone, errors.Join(span.ErrUnknownOutcome, span.ErrStorage),
		&span.RejectedError{Code: wire.OutOfOrderSequenceNumber, Detail: "why"},
		&span.TruncatedError{Partition: 1, Acknowledged: 7, End: 5, LeaderEpoch: 3},
	} {
		var e encoder
		encodeError(&e, err)
		d := decoder{b: e.b}
		got := d.error()
		if d.end() != nil {
			t.Fatalf("%v does not decode", err)
		}
		for _, k := range kinds {
			if k != nil && errors.Is(err, k) != errors.Is(got, k) {
				t.Errorf("%v arrived as %v", err, got)
			}
		}
		if got.Error() != err.Error() {
			t.Errorf("%v arrived as %v", err, got)
		}
	}
}
