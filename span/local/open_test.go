package local_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// quiet options on the operating system's files.
func quiet(dir string) local.Options {
	return local.Options{Dir: dir, Name: "here", MinSpace: -1, LowSpace: -1, Logger: slog.New(slog.DiscardHandler)}
}

func TestRefusedDirectories(t *testing.T) {
	ours := t.TempDir()
	if err := open(t, ours).Close(); err != nil {
		t.Fatal(err)
	}
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "photo.jpg"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "BRAID"), []byte("braid-local 99\nwhat=ever\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := t.TempDir()
	if err := open(t, linked).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(linked, "log", "000009.log")); err != nil {
		t.Fatal(err)
	}
	claimed, id := t.TempDir(), ""
	o := quiet(claimed)
	o.Fleet = "red"
	if s, err := local.Open(o); err != nil {
		t.Fatal(err)
	} else {
		id = s.ID()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	other := strings.Repeat("0", len(id))
	for _, c := range []struct {
		what, dir, name string
		fleet, id       string
		want            error
	}{
		{"another cluster's", ours, "elsewhere", "", "", local.ErrForeign},
		{"something else", foreign, "here", "", "", local.ErrForeign},
		{"a file", file, "here", "", "", local.ErrForeign},
		{"a newer format", newer, "here", "", "", local.ErrNewer},
		{"a link out of it", linked, "here", "", "", local.ErrForeign},
		{"of another installation", claimed, "here", "blue", "", local.ErrForeign},
		{"of another installation, its id known there", claimed, "here", "blue", id, local.ErrForeign},
		{"another one of that name", claimed, "here", "red", other, local.ErrForeign},
		{"of nobody, the cluster not known", ours, "here", "red", "", local.ErrForeign},
		{"of nobody, another one of that name", ours, "here", "red", other, local.ErrForeign},
		{"empty, the cluster known", t.TempDir(), "here", "red", id, local.ErrForeign},
		{"not there, the cluster known", filepath.Join(t.TempDir(), "gone"), "here", "red", id, local.ErrForeign},
	} {
		o := quiet(c.dir)
		o.Name, o.Fleet, o.ID = c.name, c.fleet, c.id
		before := tree(t, c.dir)
		s, err := local.Open(o)
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		if after := tree(t, c.dir); after != before {
			t.Errorf("%s: changed from\n%s to\n%s", c.what, before, after)
		}
	}
	if _, err := local.Open(local.Options{}); err == nil {
		t.Error("opened without a directory")
	}
	if _, err := local.Open(local.Options{Dir: ours, Name: "here", MemoryBudget: 1}); err == nil {
		t.Error("opened with a memory budget of one byte")
	}
}

// TestDirectoryIsClaimed: a directory that a release before made for nobody belongs from its next start on to
// the installation whose catalog knows it.
func TestDirectoryIsClaimed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	id := s.ID()
	mustPut(t, s.Log(create(t, s, "t", 1), 0), made(t, 1, "x"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o := quiet(dir)
	for range 2 {
		o.Fleet, o.ID = "red", id
		s, err := local.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		list, err := s.Topics(context.Background(), "")
		if err != nil || len(list) != 1 || s.ID() != id {
			t.Fatalf("%v, %v, id %s, was %s", list, err, s.ID(), id)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err := local.Check(dir); err != nil || r.ID != id || len(r.Problems) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	o.Fleet = "blue"
	if _, err := local.Open(o); !errors.Is(err, local.ErrForeign) || !strings.Contains(err.Error(), "red") {
		t.Fatalf("another installation: %v", err)
	}
	o.Fleet, o.ID = "red", ""
	s, err := local.Open(o) // the catalog's record was never written, or removed
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// tree lists a directory with the sizes of its files; the lock file does not count.
func tree(t *testing.T, dir string) string {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return "none"
	}
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() == "LOCK" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size := info.Size()
		if d.IsDir() {
			size = 0
		}
		_, err = fmt.Fprintln(&out, path, size)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	_, err := local.Open(quiet(dir))
	if !errors.Is(err, local.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Fatalf("second open: %v", err)
	}
	if _, err := local.Check(dir); !errors.Is(err, local.ErrLocked) {
		t.Fatalf("check while it is open: %v", err)
	}
	mustPut(t, s.Log(create(t, s, "t", 1), 0), made(t, 1, "x"))
}

// TestFull: without space appends are refused and everything else goes on; with
// space they go on by themselves.
func TestFull(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	l := s.Log(topic, 0)
	defer l.Release()
	fs.SetCapacity(fs.Used() + 10_000)
	end := int64(0)
	for {
		a := put(l, made(t, 1, strings.Repeat("x", 5000)))
		if a.Err == nil {
			end = a.BaseOffset + 1
			continue
		}
		if !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome) {
			t.Fatalf("append without space: %v", a.Err)
		}
		break
	}
	if got := readAll(t, l, 0); int64(len(got)) != end {
		t.Fatalf("%d records, want %d", len(got), end)
	}
	if h, err := s.Health(context.Background()); err != nil || h.Writable {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := l.DeleteBefore(context.Background(), 1); err != nil && !errors.Is(err, span.ErrStorage) {
		t.Fatal(err)
	}
	fs.SetCapacity(1 << 40)
	for deadline := time.Now().Add(3 * time.Minute); ; {
		a := put(l, made(t, 1, "y"))
		if a.Err == nil {
			if a.BaseOffset != end {
				t.Fatalf("landed at %d, want %d", a.BaseOffset, end)
			}
			break
		}
		if !errors.Is(a.Err, span.ErrStorage) || time.Now().After(deadline) {
			t.Fatal(a.Err)
		}
	}
}

// TestStickySync: after a sync has failed nothing is acknowledged any more, even though
// the next would succeed; reads go on, and the next start has what was acknowledged.
func TestStickySync(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(create(t, s, "t", 1), 0)
	mustPut(t, l, made(t, 1, "a"))
	var once sync.Once
	fs.SetFault(func(op vfs.Op, _ string) (err error) {
		if op == vfs.OpSync {
			once.Do(func() { err = syscall.EIO })
		}
		return err
	})
	if a := put(l, made(t, 1, "b")); !errors.Is(a.Err, span.ErrUnknownOutcome) || !errors.Is(a.Err, span.ErrStorage) {
		t.Fatalf("append under the failing sync: %v", a.Err)
	}
	for range 3 {
		if a := put(l, made(t, 1, "c")); !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome) {
			t.Fatalf("append after it: %v", a.Err)
		}
	}
	if h, err := s.Health(context.Background()); err != nil || h.Writable || h.Detail == "" {
		t.Fatalf("%+v, %v", h, err)
	}
	if got := readAll(t, l, 0); len(got) != 1 {
		t.Fatalf("read %v", got)
	}
	after := fs.Crash(rand.New(rand.NewPCG(1, 2)))
	_ = s.Close() // nothing can be written any more
	s, err = local.Open(memOptions(after))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Topics(context.Background(), "")
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if got := readAll(t, s.Log(list[0], 0), 0); len(got) != 1 || got[0] != "0=a" {
		t.Fatalf("read %v", got)
	}
}

// TestDurability: an append to a topic with fsync waits for the disk, others do not;
// with an interval the disk is told in time.
func TestDurability(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	system := s.Log(create(t, s, "os", 1, "braid.durability", "os"), 0)
	timed := s.Log(create(t, s, "interval", 1, "braid.durability", "interval=20ms"), 0)
	synced := s.Log(create(t, s, "fsync", 1), 0)
	var syncs atomic.Int64
	told := make(chan struct{}, 100)
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, ".log") {
			syncs.Add(1)
			told <- struct{}{}
		}
		return nil
	})
	for range 5 {
		mustPut(t, system, made(t, 1, "x"))
	}
	if n := syncs.Load(); n != 0 {
		t.Fatalf("%d syncs for a topic that leaves it to the system", n)
	}
	mustPut(t, timed, made(t, 1, "y"))
	select {
	case <-told:
	case <-time.After(3 * time.Minute):
		t.Fatal("no sync within the interval")
	}
	before := syncs.Load()
	mustPut(t, synced, made(t, 1, "z"))
	if n := syncs.Load(); n == before {
		t.Fatal("acknowledged before the disk was told")
	}
	if _, err := s.Create(context.Background(), span.Spec{Name: "bad", Partitions: 1, Config: map[string]string{"braid.durability": "perhaps"}}); err == nil {
		t.Fatal("an unknown durability was taken")
	}
}

// TestTrimWhileFlushing: the head of a segment is trimmed away while more is being
// written to it; what is written must not go with it.
func TestTrimWhileFlushing(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	topic := create(t, s, "t", 1)
	l := s.Log(topic, 0)
	defer l.Release()
	mustPut(t, l, made(t, 1, "a"))
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, l, made(t, 1, "b"))
	// The flush stands between its write and its sync.
	at, on := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fs.SetFault(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, ".seg") {
			once.Do(func() {
				close(at)
				<-on
			})
		}
		return nil
	})
	flushed := make(chan error, 1)
	go func() { flushed <- s.FlushNow() }()
	<-at
	if _, err := l.DeleteBefore(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	close(on)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err = local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, s.Log(topic, 0), 1); len(got) != 1 || got[0] != "1=b" {
		t.Fatalf("read %v", got)
	}
}

// TestVanishedSegment: a file that goes away below us is said so, the rest goes on.
func TestVanishedSegment(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	topic := create(t, s, "t", 2)
	for p := range int32(2) {
		mustPut(t, s.Log(topic, p), made(t, 1, "x"))
	}
	if err := s.FlushNow(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "data", "*", "0-*.seg"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	if err := os.Remove(found[0]); err != nil {
		t.Fatal(err)
	}
	if r, err := local.Check(dir); err != nil || len(r.Problems) == 0 || r.Problems[0].Topic != "t" {
		t.Fatalf("%+v, %v", r, err)
	}
	s = open(t, dir)
	defer s.Close()
	if _, err := s.Log(topic, 0).Read(context.Background(), span.ReadRequest{Offset: 0}); !errors.Is(err, span.ErrStorage) {
		t.Fatalf("read of what is gone: %v", err)
	}
	if got := readAll(t, s.Log(topic, 1), 0); len(got) != 1 {
		t.Fatalf("read %v", got)
	}
}

// TestCheckpointBehindLog: a checkpoint must not hold what an append did before that append is
// durable. Here it is sequenced while segments are synced, and its own sync fails.
func TestCheckpointBehindLog(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, s, "t", 1)
	l := s.Log(topic, 0)
	mustPut(t, l, made(t, 1, "a"))
	wrote := make(chan struct{})
	var began atomic.Bool
	var once, written sync.Once
	answered := make(chan *span.Append, 1)
	late := &span.Append{Batch: made(t, 1, "b"), Done: func(a *span.Append) { answered <- a }}
	fs.SetFault(func(op vfs.Op, name string) error {
		switch {
		case op == vfs.OpSync && strings.HasSuffix(name, ".seg"):
			once.Do(func() {
				began.Store(true)
				l.Append(late)
				<-wrote
			})
		case op == vfs.OpWrite && strings.HasSuffix(name, ".log") && began.Load():
			written.Do(func() { close(wrote) })
		case op == vfs.OpSync && strings.HasSuffix(name, ".log") && began.Load():
			return syscall.EIO
		}
		return nil
	})
	if err := s.FlushNow(); err == nil {
		t.Fatal("a checkpoint was taken over a log that cannot be synced")
	}
	if a := <-answered; !errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Fatal(a.Err)
	}
	after := fs.Crash(rand.New(rand.NewPCG(1, 1)))
	_ = s.Close() // nothing can be written any more
	s, err = local.Open(memOptions(after))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o, err := s.Log(topic, 0).Offsets(context.Background())
	if err != nil || o.End != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := readAll(t, s.Log(topic, 0), 0); len(got) != 1 {
		t.Fatalf("read %v", got)
	}
}

// sorted sorts lines.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
