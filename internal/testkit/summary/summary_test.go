package summary

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLinesAreAdded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "summary")
	t.Setenv(File, path)
	Line(t, "%d states", 3)
	Line(t, "%d moves", 100)
	if b, err := os.ReadFile(path); err != nil || string(b) != "3 states\n100 moves\n" {
		t.Errorf("%q, %v", b, err)
	}
	t.Setenv(File, "")
	Line(t, "nobody asks")
	if b, err := os.ReadFile(path); err != nil || string(b) != "3 states\n100 moves\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// failed is a test that has failed.
type failed struct{ testing.TB }

func (failed) Failed() bool { return true }

func TestLinesOfTestsThatFailedSaySo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "summary")
	t.Setenv(File, path)
	Line(failed{t}, "%d records, 0 lost", 3)
	if b, err := os.ReadFile(path); err != nil || string(b) != "FAILED: TestLinesOfTestsThatFailedSaySo: 3 records, 0 lost\n" {
		t.Errorf("%q, %v", b, err)
	}
}
