// Package summary gathers what tests have found, for who reads the end of `make test`: go test
// shows nothing of what a package that passes prints.
package summary

import (
	"fmt"
	"os"
	"testing"
)

// File is the variable of the environment that names the file to which lines are added.
const File = "BRAID_TEST_SUMMARY"

// Line logs a line, and adds it to the file of the environment if there is one; of a test that has
// failed it says so, for nobody to quote what is not so. A write of so
// few bytes to a file that is opened for appending is whole, whoever else writes.
func Line(t testing.TB, format string, args ...any) {
	t.Helper()
	line := fmt.Sprintf(format, args...)
	t.Log(line)
	if t.Failed() {
		line = "FAILED: " + t.Name() + ": " + line
	}
	path := os.Getenv(File)
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		t.Errorf("summary: %v", err)
		return
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Errorf("summary: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("summary: %v", err)
	}
}
