package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestOutOfDescriptors: a process that has used up its descriptors for a while goes on when there are some again.
// What cannot be appended meanwhile is refused with the storage error that clients retry, and nothing is lost.
func TestOutOfDescriptors(t *testing.T) {
	for _, without := range []struct {
		what string
		ops  []vfs.Op
		err  error
	}{
		{"files", []vfs.Op{vfs.OpCreate, vfs.OpOpen, vfs.OpSyncDir}, syscall.EMFILE},
		{"directories", []vfs.Op{vfs.OpSyncDir}, syscall.ENFILE},
		{"memory", []vfs.Op{vfs.OpOpen}, syscall.ENOMEM},
	} {
		t.Run(without.what, func(t *testing.T) {
			fs := vfs.NewMem()
			s, err := local.Open(memOptions(fs))
			if err != nil {
				t.Fatal(err)
			}
			topic := create(t, s, "t", 1, "retention.ms", "-1", "segment.bytes", "20000")
			compacted := create(t, s, "c", 1, "cleanup.policy", "compact", "segment.bytes", "4096", "retention.ms", "-1")
			gone := create(t, s, "gone", 1)
			l, k := s.Log(topic, 0), s.Log(compacted, 0)
			var want []string
			n, refused := 0, 0
			add := func() {
				v := fmt.Sprint(n, strings.Repeat("x", 5000))
				n++
				switch a := put(l, made(t, 1, v)); {
				case a.Err == nil:
					want = append(want, fmt.Sprintf("%d=%s", a.BaseOffset, v))
				case !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome):
					t.Fatal(a.Err)
				default:
					refused++
				}
			}
			keyed := func() {
				for i := range 20 {
					raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: 1, Key: fmt.Append(nil, i%3), Value: bytes.Repeat([]byte("v"), 500)}).Build()
					if err != nil {
						t.Fatal(err)
					}
					mustPut(t, k, raw)
				}
			}
			add()
			mustPut(t, s.Log(gone, 0), made(t, 1, "x"))
			keyed()
			if err := s.FlushNow(); err != nil {
				t.Fatal(err)
			}
			keyed()
			fs.SetFault(func(op vfs.Op, _ string) error {
				if slices.Contains(without.ops, op) {
					return without.err
				}
				return nil
			})
			_ = s.Delete(context.Background(), gone) // it is removed when it can be
			for range 30 {                           // into further files of the log
				add()
			}
			_ = s.FlushNow()
			_ = s.CompactNow()
			if without.what != "memory" && refused == 0 {
				t.Error("nothing was refused")
			}
			fs.SetFault(nil)
			refused = 0
			for range 30 {
				add()
			}
			if refused > 0 {
				t.Errorf("%d appends were refused with descriptors again", refused)
			}
			if err := errors.Join(s.FlushNow(), s.CompactNow()); err != nil {
				t.Error(err)
			}
			if h, err := s.Health(context.Background()); err != nil || !h.Writable {
				t.Errorf("%+v, %v", h, err)
			}
			for range 2 {
				if got := readAll(t, l, 0); !slices.Equal(got, want) {
					t.Fatalf("%d records, want %d", len(got), len(want))
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if r, err := local.CheckFS(fs.Clone(), "/data"); err != nil || len(r.Problems) > 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				if s, err = local.Open(memOptions(fs)); err != nil {
					t.Fatal(err)
				}
				l = s.Log(topic, 0)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
