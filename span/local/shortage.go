package local

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/braidstream/braid/span"
)

// shortage tells an error that passes by itself: there was no descriptor, or no memory for one, to open a
// file with. Nothing was written by what failed so, and no sync was tried.
func shortage(err error) bool {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return true
	}
	var path *fs.PathError
	return errors.As(err, &path) && path.Op == "open" && errors.Is(path.Err, syscall.ENOMEM)
}

var errShort = fmt.Errorf("no descriptor for a file of the log: %w", span.ErrStorage)

const shortEvery = 10 * time.Second

// short says in the log, now and then, that files cannot be opened.
func (s *Store) short(err error) {
	now := int64(s.opt.Steady())
	if last := s.shortSaid.Load(); last > 0 && now-last < int64(shortEvery) || !s.shortSaid.CompareAndSwap(last, max(now, 1)) {
		return
	}
	s.opt.Logger.Error("no file can be opened, it is tried again: the process has used up its descriptors", "cluster", s.opt.Name, "error", err)
}
