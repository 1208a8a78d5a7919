package local

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// watchFiles looks whether what the next start needs still has its name, the lock with it: another process would have the directory. A file that was removed below us
// takes writes and syncs as before, and nobody would find what was acknowledged; so does one that another file took the name of. Only the keeper takes files
// of the log away, and this is the keeper.
func (k *keeper) watchFiles() {
	s := k.s
	if s.failure() != nil {
		return
	}
	watched := append(s.log.named(), named{name: filepath.Join(s.opt.Dir, markerName)})
	if s.locked.name != "" {
		watched = append(watched, s.locked)
	}
	for _, f := range watched {
		what := "removed"
		// Other errors say nothing about the file.
		st, err := s.opt.FS.Stat(f.name)
		if err == nil && f.node != (vfs.Node{}) && st.Node != f.node {
			what, err = "replaced by another file", errReplaced
		} else if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		s.stop(fmt.Errorf("%s was %s while it is in use: data directory %s is read-only, and a restart will not find what was appended since; "+
			"read what is needed before: %w: %w", f.name, what, s.opt.Dir, span.ErrStorage, err))
		return
	}
}

var errReplaced = errors.New("another file has its name")

// named is a file and its name.
type named struct {
	name string
	node vfs.Node // zero: any
}

// named are the files whose frames a start would read.
func (w *wal) named() []named {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]named, 0, len(w.live)+1)
	for _, f := range w.live {
		out = append(out, named{f.name, f.node})
	}
	return out
}

// errNoCheckpoint: there was one, since the shared log has been used again.
var errNoCheckpoint = fmt.Errorf("%s is missing, without which nobody knows what the segments hold; restore it from a copy of the directory: %w",
	checkpointName, span.ErrStorage)

// neverSaved tells whether a directory without a checkpoint may be one that never had any: its log begins
// with its first file, or it has neither log nor segments.
func (r *replay) neverSaved() (bool, error) {
	used := false
	for _, f := range r.files {
		if f.lsn == firstLSN {
			return true, nil
		}
		used = used || f.lsn != 0
	}
	if used {
		return false, nil
	}
	root := filepath.Join(r.s.opt.Dir, dataDir)
	topics, err := r.s.opt.FS.List(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, t := range topics {
		dir := filepath.Join(root, t)
		if st, err := r.s.opt.FS.Stat(dir); err != nil || !st.Dir {
			continue // nothing of ours
		}
		segments, err := r.s.opt.FS.List(dir)
		if err != nil {
			return false, err
		}
		if len(segments) > 0 {
			return false, nil
		}
	}
	return true, nil
}
