package local_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestFilesGoAway takes each file away, empties it, halves it, or puts another one of its kind in its
// place, all of that while nobody has the directory, after a clean stop and after a kill. What is served then is what was written, and what is not
// served is said so; nothing that is left is removed.
func TestFilesGoAway(t *testing.T) {
	w := writeDirectory(t)
	for stop, left := range map[string]*vfs.Mem{"closed": w.fs, "killed": w.killed} {
		t.Run(stop, func(t *testing.T) { filesGoAway(t, w, left) })
	}
}

func filesGoAway(t *testing.T, w written, was *vfs.Mem) {
	sizes := was.Sizes()
	names := slices.Sorted(maps.Keys(sizes))
	kind := func(name string) string { return name[strings.LastIndexAny(name, "./")+1:] }
	cut := func(fs *vfs.Mem, name string, size int64) error {
		f, err := fs.OpenWrite(name)
		if err != nil {
			return err
		}
		return f.Truncate(size)
	}
	compacted := "/data/data/3/"
	outcomes := map[string]int{}
	for _, name := range names {
		for what, do := range map[string]func(fs *vfs.Mem) error{
			"gone":  func(fs *vfs.Mem) error { return fs.Remove(name) },
			"empty": func(fs *vfs.Mem) error { return cut(fs, name, 0) },
			"half":  func(fs *vfs.Mem) error { return cut(fs, name, sizes[name]/2) },
			"another's": func(fs *vfs.Mem) error {
				for _, other := range names {
					if other != name && kind(other) == kind(name) {
						return fs.Rename(other, name)
					}
				}
				return fs.Remove(name)
			},
		} {
			fs := was.Clone()
			if err := do(fs); err != nil {
				t.Fatal(err)
			}
			left := fs.Sizes()
			outcome := afterDamage(t, w, fs, fmt.Sprintf("%s is %s", name, what))
			outcomes[fmt.Sprintf("%s %s: %s", kind(name), what, outcome)]++
			now := fs.Sizes()
			for other := range left {
				// The compacted topic's are replaced by another compaction, and where the log has
				// everything there is no need for any.
				if outcome != "harmless" && kind(other) == "seg" && !strings.HasPrefix(other, compacted) && now[other] < left[other] {
					t.Errorf("%s is %s, and %s went with it", name, what, other)
				}
			}
		}
	}
	t.Logf("outcomes: %v", outcomes)
}

// TestCheckpointIsMissed: a directory whose log was used again has a checkpoint. Without it nobody knows what the
// segments hold, and an empty store in its place would write over them.
func TestCheckpointIsMissed(t *testing.T) {
	fs := vfs.NewMem()
	s, err := local.Open(memOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	topic := create(t, s, "t", 1, "retention.ms", "-1")
	l := s.Log(topic, 0)
	defer l.Release()
	n, refused := 0, 0
	for round := range 12 {
		for range 4 {
			mustPut(t, l, made(t, 1, fmt.Sprintf("%d/%05000d", n, 0)))
			n++
		}
		if err := s.FlushNow(); err != nil {
			t.Fatal(err)
		}
		for _, without := range []string{"/data/checkpoint", "/data/log"} {
			left := fs.Clone()
			if err := left.Remove("/data/checkpoint"); err != nil {
				t.Fatal(err)
			}
			if without == "/data/log" { // as well
				for name := range left.Sizes() {
					if strings.HasPrefix(name, "/data/log/") {
						if err := left.Remove(name); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			before := left.Tree()
			again, err := local.Open(memOptions(left))
			if err != nil {
				if refused++; !strings.Contains(err.Error(), "checkpoint") || !errors.Is(err, span.ErrStorage) {
					t.Errorf("round %d: error does not name what is missing: %v", round, err)
				}
				if after := left.Tree(); sorted(after) != sorted(before) {
					t.Errorf("round %d: changed from\n%s\nto\n%s", round, before, after)
				}
				if _, err := local.CheckFS(left, "/data"); err == nil {
					t.Errorf("round %d: check finds nothing", round)
				}
				continue
			}
			// The log has everything that was ever written, or says that it has not.
			h, err := again.Health(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if h.Writable {
				again2 := again.Log(topic, 0)
				if got := readAll(t, again2, 0); len(got) != n {
					t.Errorf("round %d, no %s: %d of %d records, and nothing is said", round, without, len(got), n)
				}
				again2.Release()
			}
			_ = again.Close()
		}
	}
	if refused < 12 {
		t.Errorf("refused %d times", refused)
	}
}

// TestRemovedWhileInUse: what is acknowledged must be found by the next start, which looks for names.
func TestRemovedWhileInUse(t *testing.T) {
	for _, what := range []string{"/data/BRAID", "/data/LOCK", "/data/log/000001.log"} {
		fs := vfs.NewMem()
		s, err := local.Open(memOptions(fs))
		if err != nil {
			t.Fatal(err)
		}
		l := s.Log(create(t, s, "t", 1), 0)
		mustPut(t, l, made(t, 1, "a"))
		if err := s.WatchFilesNow(); err != nil {
			t.Fatal(err)
		}
		mustPut(t, l, made(t, 1, "b"))
		if err := fs.Remove(what); err != nil {
			t.Fatal(err)
		}
		if err := s.WatchFilesNow(); err != nil {
			t.Fatal(err)
		}
		if a := put(l, made(t, 1, "c")); !errors.Is(a.Err, span.ErrStorage) || errors.Is(a.Err, span.ErrUnknownOutcome) {
			t.Errorf("without %s: append: %v", what, a.Err)
		}
		if h, err := s.Health(t.Context()); err != nil || h.Writable || !strings.Contains(h.Detail, what) {
			t.Errorf("without %s: %+v, %v", what, h, err)
		}
		if got := readAll(t, l, 0); len(got) != 2 {
			t.Errorf("without %s: %d records can be read", what, len(got))
		}
		l.Release()
		_ = s.Close() // nothing can be written any more
	}
}
