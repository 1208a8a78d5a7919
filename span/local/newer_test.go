package local_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
)

// TestNewerFiles: whichever file a newer release wrote, this one does not guess at it: nothing is opened, or, where a segment is newer,
// what that holds is not served; the error says what it is, and nothing is changed or removed.
func TestNewerFiles(t *testing.T) {
	w := writeDirectory(t)
	sizes := w.fs.Sizes()
	segment := ""
	for name := range sizes {
		if strings.HasPrefix(name, "/data/data/1/") && (segment == "" || name < segment) {
			segment = name
		}
	}
	index := int64(bytes.LastIndex(contentOf(t, w.fs, segment), []byte("braidend")))
	if index < 0 {
		t.Fatalf("%s is not closed", segment)
	}
	for _, c := range []struct {
		file string
		at   int64 // of the first byte of the version
	}{{"/data/checkpoint", 8}, {"/data/synced", 8}, {logFiles(w.fs)[0], 8}, {segment, 8}, {segment, index + 8}} {
		t.Run(fmt.Sprintf("%s at %d", c.file, c.at), func(t *testing.T) {
			fs := w.fs.Clone()
			fs.Flip(c.file, c.at, 1)
			if c.file == segment && c.at == 8 {
				// With the checksum that the header would have then.
				head := contentOf(t, fs, segment)[:64]
				was := binary.BigEndian.Uint32(head[60:])
				for i, sum := 0, crc32.Checksum(head[:60], crc32.MakeTable(crc32.Castagnoli))^was; i < 4; i++ {
					fs.Flip(segment, int64(60+i), byte(sum>>(24-8*i)))
				}
			}
			if strings.HasSuffix(c.file, ".log") {
				fs.Flip(c.file, c.at+2048, 1) // its copy
			}
			before := fs.Tree()
			s, err := local.Open(memOptions(fs))
			if c.file != segment {
				if !errors.Is(err, local.ErrNewer) || !strings.Contains(err.Error(), c.file[strings.LastIndex(c.file, "/")+1:]) {
					t.Fatalf("%v", err)
				}
				if after := fs.Tree(); sorted(after) != sorted(before) {
					t.Fatalf("changed from\n%s\nto\n%s", before, after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			l := s.Log(w.topics[0], 0)
			defer l.Release()
			for range 2 {
				_, err = l.Read(t.Context(), span.ReadRequest{Offset: 0, MaxBytes: 1})
				if !errors.Is(err, local.ErrNewer) || !errors.Is(err, span.ErrStorage) {
					t.Errorf("read of a newer segment: %v", err)
				}
			}
			if o, err := l.Offsets(t.Context()); err != nil || o.End != int64(len(w.values[0])) {
				t.Errorf("%+v, %v", o, err)
			}
			if got := readAll(t, l, 40); !slices.Equal(got, w.values[0][40:]) {
				t.Errorf("what lies behind it: %v", got)
			}
			if _, ok := fs.Sizes()[segment]; !ok {
				t.Errorf("%s is gone", segment)
			}
		})
	}
}

func contentOf(t *testing.T, fs *vfs.Mem, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, fs.Sizes()[name])
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}
