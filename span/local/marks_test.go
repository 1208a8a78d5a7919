package local_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestSpaceMarks: below the first mark retention is hurried, but drops nothing that it would
// not drop at its own time; below the second appends are refused with the error that clients retry,
// reads and trims go on; with room again appends do, without a restart.
func TestSpaceMarks(t *testing.T) {
	c := new(clocks)
	c.wall.Store(time.Now().UnixNano())
	mem := vfs.NewMem()
	o := c.options(mem)
	o.Maintenance = 24 * time.Hour // retention comes by when it is hurried only
	o.LowSpace, o.MinSpace = 1<<20, 512<<10
	mem.SetCapacity(64 << 20)
	s, err := local.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	aged := create(t, s, "aged", 1, "retention.ms", "60000", "segment.bytes", "4096")
	kept := create(t, s, "kept", 1, "retention.ms", "-1", "segment.bytes", "4096")
	fill := func(topic span.Topic) {
		l := s.Log(topic, 0)
		defer l.Release()
		for range 20 {
			mustPut(t, l, made(t, c.wall.Load()/1e6, strings.Repeat("x", 2000)))
		}
	}
	fill(aged)
	fill(kept)
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	starts := func() (a, k int64) {
		for i, topic := range []span.Topic{aged, kept} {
			l := s.Log(topic, 0)
			off, err := l.Offsets(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			l.Release()
			if i == 0 {
				a = off.Start
			} else {
				k = off.Start
			}
		}
		return a, k
	}
	watch := func(free int64) {
		t.Helper()
		mem.SetCapacity(mem.Used() + free)
		if err := s.WatchSpaceNow(); err != nil {
			t.Fatal(err)
		}
	}
	c.advance(30 * time.Second)
	watch(900 << 10)
	if a, k := starts(); a != 0 || k != 0 {
		t.Fatalf("young records went for lack of space: %d, %d", a, k)
	}
	c.advance(40 * time.Second)
	watch(8 << 20)
	if a, _ := starts(); a != 0 {
		t.Fatalf("retention came by with room on the disk: start %d", a)
	}
	watch(900 << 10)
	if a, k := starts(); a != 20 || k != 0 {
		t.Fatalf("log starts %d, %d below the first mark, want 20, 0", a, k)
	}
	watch(100 << 10)
	l := s.Log(kept, 0)
	defer l.Release()
	if a := put(l, made(t, 1, "x")); !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Fatalf("append below the second mark: %v", a.Err)
	}
	if h, err := s.Health(context.Background()); err != nil || h.Writable || h.Detail == "" {
		t.Fatalf("health %+v, %v", h, err)
	}
	if got := readAll(t, l, 0); len(got) != 20 {
		t.Fatalf("%d records can be read", len(got))
	}
	if start, err := l.DeleteBefore(context.Background(), 3); err != nil || start != 3 {
		t.Fatalf("trim below the second mark: %d, %v", start, err)
	}
	watch(8 << 20)
	if a := put(l, made(t, 1, "x")); a.Err != nil || a.BaseOffset != 20 {
		t.Fatalf("append with room again: %+v", a)
	}
}

// TestNoPermission: a directory that may not be written is refused with what the
// system said, and stays as it is. Root may write everything, so the system's answer is given by the double.
func TestNoPermission(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpMkdir, vfs.OpOpen, vfs.OpRead} {
		mem := vfs.NewMem()
		s, err := local.Open(memOptions(mem))
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, s.Log(create(t, s, "t", 1), 0), made(t, 1, "x"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		before := mem.Tree()
		mem.SetFault(func(asked vfs.Op, _ string) error {
			if asked == op {
				return fs.ErrPermission
			}
			return nil
		})
		if _, err := local.Open(memOptions(mem)); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "/data") {
			t.Errorf("%s not permitted: %v", op, err)
		}
		if after := mem.Tree(); sorted(after) != sorted(before) {
			t.Errorf("%s not permitted: changed from\n%s\nto\n%s", op, before, after)
		}
		mem.SetFault(nil)
		s, err = local.Open(memOptions(mem))
		if err != nil {
			t.Fatalf("%s: afterwards: %v", op, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLinksOut: links in the place of our directories and files lead nowhere that we write.
func TestLinksOut(t *testing.T) {
	for _, what := range []string{"log", "data"} {
		dir, outside := t.TempDir(), t.TempDir()
		if err := open(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, what)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, filepath.Join(dir, what)); err != nil {
			t.Fatal(err)
		}
		s, err := local.Open(quiet(dir))
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, local.ErrForeign) {
			t.Errorf("%s is a link out of the directory: %v", what, err)
		}
		left, err := os.ReadDir(outside)
		if err != nil || len(left) > 0 {
			t.Errorf("%s: written outside: %v, %v", what, left, err)
		}
	}
}
