package local_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// acknowledged appends n records of half a KiB to a new topic.
func acknowledged(t *testing.T, s *local.Store, n int) span.Topic {
	t.Helper()
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	l := s.Log(topic, 0)
	defer l.Release()
	for i := range n {
		mustPut(t, l, made(t, 1, fmt.Sprint(i, strings.Repeat("x", 500))))
	}
	return topic
}

// said opens a directory that had n acknowledged records and was damaged, and demands that a loss is said: the
// check finds it, and what is opened takes no appends, or nothing is opened. It tells whether all is there.
func said(t *testing.T, fs *vfs.Mem, topic span.Topic, n int64, what string) (whole bool) {
	t.Helper()
	report, checkErr := local.CheckFS(fs.Clone(), "/data")
	found := checkErr != nil || len(report.Problems) > 0
	s, err := local.Open(memOptions(fs))
	if err != nil {
		if !found {
			t.Errorf("%s: check finds nothing, open fails: %v", what, err)
		}
		return false
	}
	defer s.Close()
	h, err := s.Health(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var end int64
	l := s.Log(topic, 0)
	defer l.Release()
	if o, err := l.Offsets(context.Background()); err == nil {
		end = o.End
	}
	if end < n && (h.Writable || !found) {
		t.Errorf("%s: %d of %d acknowledged records, takes appends: %v, check: %+v, %v", what, end, n, h.Writable, report, checkErr)
	}
	return end >= n
}

func logFiles(fs *vfs.Mem) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(fs.Sizes())) {
		if strings.HasSuffix(name, ".log") {
			names = append(names, name)
		}
	}
	return names
}

// TestFlippedAfterKill damages the log of a process that was killed, at places of every frame up to the last. It
// was acknowledged, so it is no torn tail.
func TestFlippedAfterKill(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := acknowledged(t, s, 10)
	left := fs.Kill()
	_ = s.Close() // its file system is gone
	lost := 0
	for at := int64(0); at < 11_000; at += 17 {
		fs := left.Clone()
		fs.Flip("/data/log/000001.log", at, 1<<(at%8))
		if !said(t, fs, topic, 10, fmt.Sprint("flip at ", at)) {
			lost++
		}
	}
	if lost < 30 {
		t.Errorf("only %d flips hit anything", lost)
	}
}

// TestLogFilesGoAfterKill: what a killed process had acknowledged is missed, whatever happened to the files that
// had it; and after a power cut, once the keeper has come by.
func TestLogFilesGoAfterKill(t *testing.T) {
	zero := func(fs *vfs.Mem, name string) error {
		f, err := fs.OpenWrite(name)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(make([]byte, 4096), 0)
		return err
	}
	cut := func(fs *vfs.Mem, name string) error {
		f, err := fs.OpenWrite(name)
		if err != nil {
			return err
		}
		return f.Truncate(0)
	}
	for _, c := range []struct {
		what  string
		spoil func(fs *vfs.Mem, files []string) error
		whole bool
	}{
		{"nothing", func(*vfs.Mem, []string) error { return nil }, true},
		{"headers are zeros", func(fs *vfs.Mem, files []string) error { return zero(fs, files[len(files)-1]) }, false},
		{"truncated", func(fs *vfs.Mem, files []string) error { return cut(fs, files[len(files)-1]) }, false},
		{"removed", func(fs *vfs.Mem, files []string) error { return fs.Remove(files[len(files)-1]) }, false},
		{"all headers are zeros", func(fs *vfs.Mem, files []string) error {
			var err error
			for _, name := range files {
				err = errors.Join(err, zero(fs, name))
			}
			return err
		}, false},
		{"all removed", func(fs *vfs.Mem, files []string) error {
			var err error
			for _, name := range files {
				err = errors.Join(err, fs.Remove(name))
			}
			return err
		}, false},
		{"the proof is removed", func(fs *vfs.Mem, _ []string) error { return fs.Remove("/data/synced") }, true},
		{"the proof is damaged", func(fs *vfs.Mem, _ []string) error {
			fs.Flip("/data/synced", 20, 1)
			return nil
		}, true},
	} {
		for _, power := range []bool{false, true} {
			fs := vfs.NewMem()
			s, err := local.Open(memOptions(fs))
			if err != nil {
				t.Fatal(err)
			}
			topic := acknowledged(t, s, 200) // in two files
			left := fs.Kill
			if power {
				if err := s.TendProofNow(); err != nil {
					t.Fatal(err)
				}
				left = func() *vfs.Mem { return fs.Crash(rand.New(rand.NewPCG(1, 6))) }
			}
			after := left()
			_ = s.Close() // its file system is gone
			files := logFiles(after)
			if len(files) < 2 {
				t.Fatal(files)
			}
			if err := c.spoil(after, files); err != nil {
				t.Fatal(err)
			}
			what := fmt.Sprintf("%s, power cut %v", c.what, power)
			if whole := said(t, after, topic, 200, what); whole != c.whole {
				t.Errorf("%s: whole: %v", what, whole)
			}
		}
	}
}

// TestReplacedWhileInUse: another file under the name of one of the log takes nothing of what is appended. The
// store notices, and so does a start that comes first.
func TestReplacedWhileInUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	l := s.Log(acknowledged(t, s, 2), 0)
	name := filepath.Join(dir, "log", "000001.log")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(name+".new", b, 0o600), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
	late := put(l, made(t, 1, "late")) // unless the keeper was faster
	left := t.TempDir()
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.WatchFilesNow(); err != nil {
		t.Fatal(err)
	}
	if a := put(l, made(t, 1, "later")); !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Errorf("append: %v", a.Err)
	}
	if h, err := s.Health(t.Context()); err != nil || h.Writable || !strings.Contains(h.Detail, name) || !strings.Contains(h.Detail, "replaced") {
		t.Errorf("%+v, %v", h, err)
	}
	_ = s.Close() // nothing can be written any more
	s = open(t, left)
	defer s.Close()
	if h, err := s.Health(t.Context()); err != nil || h.Writable && late.Err == nil {
		t.Errorf("the next start: %+v, %v", h, err)
	}
}

// TestWithoutProof: a disk that is full, or a file that goes away, keeps nobody from appending, and the file is
// there again when it can be.
func TestWithoutProof(t *testing.T) {
	fs := vfs.NewMem()
	full := func(op vfs.Op, name string) error {
		if name == "/data/synced" && (op == vfs.OpCreate || op == vfs.OpWrite) {
			return syscall.ENOSPC
		}
		return nil
	}
	fs.SetFault(full)
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := acknowledged(t, s, 3)
	l := s.Log(topic, 0)
	is := func(there bool) {
		t.Helper()
		if err := s.TendProofNow(); err != nil {
			t.Fatal(err)
		}
		left := fs.Clone()
		if size := left.Sizes()["/data/synced"]; (size > 0) != there {
			t.Errorf("there: %v, want %v", size > 0, there)
		}
		if err := left.Remove(logFiles(left)[0]); err != nil {
			t.Fatal(err)
		}
		if there {
			said(t, left, topic, 3, "proved again")
		}
	}
	is(false)
	fs.SetFault(nil)
	is(true)
	mustPut(t, l, made(t, 1, "x"))
	if err := fs.Remove("/data/synced"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, l, made(t, 1, "y"))
	is(true)
	fs.SetFault(full)
	mustPut(t, l, made(t, 1, "z"))
	fs.SetFault(nil)
	is(true)
	if h, err := s.Health(t.Context()); err != nil || !h.Writable {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestNewerProof: a file of a newer release is not guessed at.
func TestNewerProof(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fs.Flip("/data/synced", 8, 1)
	if _, err := local.Open(memOptions(fs)); !errors.Is(err, local.ErrNewer) || !strings.Contains(err.Error(), "synced") {
		t.Fatal(err)
	}
}
