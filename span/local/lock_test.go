package local_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/braidstream/braid/span/local"
)

// TestLockTaken: where the lock file was removed another process gets the directory. The one that had it notices,
// whatever has the name by then.
func TestLockTaken(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	defer s.Close()
	topic := create(t, s, "t", 1)
	mustPut(t, s.Log(topic, 0), made(t, 1, "x"))
	if err := s.WatchFilesNow(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s.Log(topic, 0), made(t, 1, "y"))
	if err := os.Remove(filepath.Join(dir, "LOCK")); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Check(dir); err != nil { // takes the name
		t.Fatal(err)
	}
	if err := s.WatchFilesNow(); err != nil {
		t.Fatal(err)
	}
	if h, err := s.Health(t.Context()); err != nil || h.Writable || !strings.Contains(h.Detail, "LOCK") {
		t.Errorf("%+v, %v", h, err)
	}
}
