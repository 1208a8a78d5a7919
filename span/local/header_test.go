package local_test

import (
	"testing"

	"github.com/braidstream/braid/span/local"
)

// TestDamagedVersion: a flipped bit in the version of a log file's header is no newer release while the copy is whole.
func TestDamagedVersion(t *testing.T) {
	w := writeDirectory(t)
	for _, name := range logFiles(w.killed) {
		for at := range int64(2) {
			fs := w.killed.Clone()
			fs.Flip(name, 8+at, 4)
			s, err := local.Open(memOptions(fs))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			l := s.Log(w.topics[0], 0)
			if got := readAll(t, l, 0); len(got) != len(w.values[0]) {
				t.Errorf("%s: %d records of %d", name, len(got), len(w.values[0]))
			}
			l.Release()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
