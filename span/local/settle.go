package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/braidstream/braid/span/local/vfs"
)

// settle makes durable what the replay found. A process that was killed may have left frames in the page
// cache only, and from here on they count: reads serve them, a repeated batch is told that it is there.
//
// What nothing proves to be synced is written once more. After a sync that failed the system calls pages
// clean which are not on the disk, and a sync alone would say that all is well.
func (r *replay) settle(end uint64) error {
	w := r.s.log
	for _, f := range r.files {
		if !r.live[f] || min(f.end.Load(), end) <= r.durable {
			continue
		}
		from := int64(0) // its header is as doubtful as its first frame
		if f.lsn < r.durable {
			from = f.at(r.durable)
		}
		if err := rewrite(f.f, from, f.at(min(f.end.Load(), end))); err != nil {
			return fmt.Errorf("write the end of %s again: %w", f.name, err)
		}
		if err := f.f.Sync(); err != nil {
			return fmt.Errorf("sync the log: %w", err)
		}
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return fmt.Errorf("sync %s: %w", w.dir, err)
	}
	return nil
}

// rewrite writes the bytes between two positions of a file as they are read from it.
func rewrite(f vfs.File, from, to int64) error {
	buf := getBuffer(writeBuffer)
	defer putBuffer(buf)
	for from < to {
		b := (*buf)[:min(int64(len(*buf)), to-from)]
		n, err := f.ReadAt(b, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return nil // it became shorter
		}
		if _, err := f.WriteAt(b[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// makeDir makes the data directory, a level at a time, so that each of them outlives a crash before there
// is anything in it.
func makeDir(files vfs.FS, dir string) error {
	var missing []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		if _, err := files.Stat(d); !errors.Is(err, fs.ErrNotExist) || d == filepath.Dir(d) {
			break
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := files.MkdirAll(missing[i]); err != nil {
			return err
		}
		if err := files.SyncDir(filepath.Dir(missing[i])); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return nil
	}
	if err := files.MkdirAll(dir); err != nil { // what is there may be no directory
		return err
	}
	// Whoever made it may have been killed before the sync. Not everybody may read what it lies in, and not
	// every file system that can be mounted on knows a sync: the directory was there all the same.
	if err := files.SyncDir(filepath.Dir(dir)); errors.Is(err, syscall.EIO) {
		return err
	}
	return nil
}
