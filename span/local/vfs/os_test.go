package vfs

import (
	"os"
	"path/filepath"
	"testing"
)

// TestModes: records are nobody's but the owner's to read.
func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	if err := (OS{}).MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "data")
	f, err := (OS{}).Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, name: 0o600} {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, st.Mode().Perm(), err, want)
		}
	}
}
