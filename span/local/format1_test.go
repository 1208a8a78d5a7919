package local_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

// TestFirstDirectories opens directories that the first builds of format 1 wrote: one that was closed, and one whose
// process was killed. In both, topic plain has 64 records in two partitions, of a producer whose last batches are
// remembered, some in segments and some in the log, and begins at 3; topic sealed is sealed; topic compacted was.
func TestFirstDirectories(t *testing.T) {
	for _, name := range []string{"closed", "killed"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, filepath.Join("testdata", "format1", name+".tar.gz"), dir)
			if r, err := local.Check(dir); err != nil || len(r.Problems) > 0 || r.Topics != 3 {
				t.Fatalf("%+v, %v", r, err)
			}
			for range 2 { // as it was, and as this build leaves it
				s := open(t, dir, func(o *local.Options) { o.LogFileBytes = 64 << 10 })
				if h, err := s.Health(t.Context()); err != nil || !h.Writable {
					t.Fatalf("%+v, %v", h, err)
				}
				list, err := s.Topics(t.Context(), "")
				if err != nil || len(list) != 3 {
					t.Fatal(list, err)
				}
				for p, from := range []int64{3, 0} {
					l := s.Log(list[1], int32(p))
					o, err := l.Offsets(t.Context())
					if err != nil || o.Start != from || o.End != 32 {
						t.Fatalf("partition %d: %+v, %v", p, o, err)
					}
					for i, got := range readAll(t, l, o.Start) {
						n := o.Start + int64(i)
						if want := fmt.Sprintf("%d=%d/%0500d", n, 2*n+int64(p), 0); got != want {
							t.Fatalf("partition %d: %.20q, want %.20q", p, got, want)
						}
					}
					known, err := l.Producers(t.Context())
					if err != nil || len(known) != 1 || known[0].ID != 7 || len(known[0].Batches) != 5 {
						t.Fatalf("partition %d: %+v, %v", p, known, err)
					}
				}
				if a := put(s.Log(list[2], 0), made(t, 1, "late")); !errors.Is(a.Err, span.ErrSealed) {
					t.Fatal(a.Err)
				}
				keyed, _ := readKeyed(t, s.Log(list[0], 0), false)
				offsets := slices.Sorted(maps.Keys(keyed))
				if len(offsets) < 5 || !slices.Equal(offsets[len(offsets)-3:], []int64{21, 22, 23}) {
					t.Fatal(offsets)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// unpack lays the files of an archive into dir.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
