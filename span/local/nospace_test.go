package local_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestNoSpaceInLog: where a write to the log itself says that there is no room (nothing could be reserved, or it was
// given away since), what came before waits for room, and all else is answered.
func TestNoSpaceInLog(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	l := s.Log(topic, 0)
	mustPut(t, l, made(t, 1, "x"))
	var full atomic.Bool
	full.Store(true)
	stuck := make(chan struct{}, 1)
	fs.SetFault(func(op vfs.Op, name string) error {
		if full.Load() && op == vfs.OpWrite && strings.HasSuffix(name, ".log") {
			select {
			case stuck <- struct{}{}:
			default:
			}
			return syscall.ENOSPC
		}
		return nil
	})
	first := make(chan error, 1)
	l.Append(&span.Append{Batch: made(t, 1, "first"), Done: func(a *span.Append) { first <- a.Err }})
	<-stuck
	// Each of these returns while there is no room.
	if a := put(l, made(t, 1, "second")); !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Errorf("append: %v", a.Err)
	}
	if err := l.Probe(context.Background()); err != nil {
		t.Errorf("probe: %v", err)
	}
	if _, err := s.Seal(context.Background(), topic); !errors.Is(err, span.ErrStorage) {
		t.Errorf("seal: %v", err)
	}
	if _, err := l.Producers(context.Background()); !errors.Is(err, span.ErrStorage) {
		t.Errorf("producers: %v", err)
	}
	_ = s.RetainNow()
	_ = s.FlushNow()
	if h, err := s.Health(context.Background()); err != nil || h.Writable || !h.Full {
		t.Errorf("%+v, %v", h, err)
	}
	full.Store(false)
	if err := <-first; err != nil {
		t.Errorf("the first append: %v", err)
	}
	if got := readAll(t, l, 0); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
