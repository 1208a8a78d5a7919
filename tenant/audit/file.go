package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// kept is how many files there are before the one that is written.
const kept = 8

// file is the log's, of mode 0600. One goroutine writes it.
type file struct {
	path string
	most int64
	f    *os.File
	w    *bufio.Writer
	size int64
}

func openFile(path string, most int64) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	f := &file{path: path, most: most}
	return f, f.open()
}

func (f *file) open() error {
	var err error
	if f.f, err = os.OpenFile(f.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	st, err := f.f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", f.path)
	}
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		err = f.f.Chmod(0o600)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("audit log: %w", err), f.f.Close())
	}
	f.size, f.w = st.Size(), bufio.NewWriterSize(f.f, 64<<10)
	return nil
}

func (f *file) write(line []byte) error {
	if f.f == nil || f.size > 0 && f.size+int64(len(line)) > f.most {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	n, err := f.w.Write(line)
	f.size += int64(n)
	if err != nil {
		f.drop()
	}
	return err
}

func (f *file) flush() error {
	if f.f == nil || f.w.Buffered() == 0 {
		return nil
	}
	err := f.w.Flush()
	if err != nil {
		f.drop()
	}
	return err
}

// drop leaves a file that failed; the next line opens it anew.
func (f *file) drop() {
	_ = f.f.Close() // what failed before is told
	f.f = nil
}

func (f *file) rotate() error {
	if f.f != nil {
		err := f.w.Flush()
		if err = errors.Join(err, f.f.Close()); err != nil {
			f.f = nil
			return err
		}
		f.f = nil
		for i := kept - 1; i >= 0; i-- {
			if err := os.Rename(numbered(f.path, i), numbered(f.path, i+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return f.open()
}

func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	return errors.Join(f.w.Flush(), f.f.Close())
}

// Read gives the events of a log's files that a query selects, oldest first. It may
// be called while the log is written. Lines that are none, as a torn one at the end
// of a file after a crash, are passed over.
func Read(path string, q Query) (Page, error) {
	found := NewNewest(q)
	for i := kept; i >= 0; i-- {
		f, err := os.Open(numbered(path, i))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Page{}, fmt.Errorf("audit log: %w", err)
		}
		err = readLines(f, found)
		if err = errors.Join(err, f.Close()); err != nil {
			return Page{}, fmt.Errorf("audit log: %w", err)
		}
	}
	return found.Page(), nil
}

// maxLine bounds a line: an event's texts are bounded, and each byte of them is at
// most six in JSON.
const maxLine = 64 << 10

func readLines(r io.Reader, found *Newest) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		if e, ok := Parse(lines.Bytes()); ok {
			found.Add(&e)
		}
	}
	return lines.Err()
}

// Parse reads a line; false for what is none.
func Parse(line []byte) (e Event, ok bool) {
	ok = len(line) <= maxLine && json.Unmarshal(line, &e) == nil && e.Kind != ""
	return e, ok
}
