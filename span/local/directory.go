package local

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/braidstream/braid/span/local/vfs"
)

// Names in a data directory.
const (
	markerName = "BRAID"
	lockName   = "LOCK"
	walDir     = "log"
	dataDir    = "data"
)

const (
	markerFormat = "braid-local"
	dirVersion   = 1
	maxMarker    = 4096
)

// Errors of Open; what they mean is for the operator to act on.
var (
	// ErrLocked: another process has the directory.
	ErrLocked = errors.New("data directory is in use")
	// ErrForeign: the directory holds something else, or another cluster.
	ErrForeign = errors.New("not a data directory of this cluster")
	// ErrNewer: a newer release wrote the directory.
	ErrNewer = errNewer
)

// enter makes the directory what it has to be, and locks it. It returns its id.
// Nothing is changed in a directory that is not ours.
func enter(o Options) (id [16]byte, lock interface{ Close() error }, err error) {
	if st, err := o.FS.Stat(o.Dir); err == nil && !st.Dir && !st.Symlink {
		return id, nil, fmt.Errorf("%s: %w: it is a file", o.Dir, ErrForeign)
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return id, nil, fmt.Errorf("make the data directory: %w", err)
	}
	names, err := o.FS.List(o.Dir)
	if err != nil {
		return id, nil, fmt.Errorf("data directory: %w", err)
	}
	marked, foreign := false, ""
	for _, n := range names {
		switch n {
		case markerName:
			marked = true
		// What a first start that was cut short may have left, and what file systems put there.
		case lockName, markerName + ".tmp", "lost+found":
		default:
			foreign = n
		}
	}
	if !marked && foreign != "" {
		return id, nil, fmt.Errorf("%s: %w: it holds %q and no %s file; give an empty directory", o.Dir, ErrForeign, foreign, markerName)
	}
	l, err := o.FS.Lock(filepath.Join(o.Dir, lockName), fmt.Sprintf("pid %d", os.Getpid()))
	if err != nil {
		var held *vfs.LockedError
		if errors.As(err, &held) {
			return id, nil, fmt.Errorf("%s: %w by %s; stop that process first", o.Dir, ErrLocked, orUnknown(held.Text))
		}
		if errors.Is(err, fs.ErrPermission) {
			return id, nil, fmt.Errorf("data directory %s cannot be written by this user: %w", o.Dir, err)
		}
		return id, nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if marked {
		id, err = readMarker(o)
	} else {
		id, err = writeMarker(o)
	}
	if err != nil {
		return id, nil, errors.Join(err, l.Close())
	}
	return id, l, nil
}

// noLink refuses a link in the place of a directory of ours: what is behind it may be somebody else's,
// and left-over files are removed.
func (s *Store) noLink(dir string) error {
	st, err := s.opt.FS.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("data directory: %w", err)
	case st.Symlink || !st.Dir:
		return fmt.Errorf("%s: %w: it is a link or a file; put the directory itself there, or link the whole data directory", dir, ErrForeign)
	}
	return nil
}

func orUnknown(s string) string {
	if s == "" {
		return "another process"
	}
	return s
}

// The marker is text: a line with the format and its version, then key=value lines,
// the last with a CRC-32C of all before it.
func writeMarker(o Options) (id [16]byte, err error) {
	if _, err := rand.Read(id[:]); err != nil {
		return id, fmt.Errorf("draw a directory id: %w", err)
	}
	body := fmt.Sprintf("%s %d\nid=%x\nname=%s\n", markerFormat, dirVersion, id, hex.EncodeToString([]byte(o.Name)))
	body += fmt.Sprintf("crc=%08x\n", checksum([]byte(body)))
	name := filepath.Join(o.Dir, markerName)
	f, err := o.FS.Create(name + ".tmp")
	if err != nil {
		return id, fmt.Errorf("make the data directory: %w", err)
	}
	if _, err = f.WriteAt([]byte(body), 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = o.FS.Rename(name+".tmp", name); err == nil {
			err = o.FS.SyncDir(o.Dir)
		}
	}
	if err != nil {
		return id, fmt.Errorf("make the data directory: %w", err)
	}
	return id, nil
}

func readMarker(o Options) (id [16]byte, err error) {
	name := filepath.Join(o.Dir, markerName)
	b, err := readFile(o.FS, name, maxMarker)
	if err != nil {
		return id, fmt.Errorf("data directory: %w", err)
	}
	id, cluster, err := parseMarker(string(b))
	if err != nil {
		return id, fmt.Errorf("%s: %w", name, err)
	}
	if cluster != o.Name {
		return id, fmt.Errorf("%s: %w: it belongs to cluster %q, not %q", o.Dir, ErrForeign, cluster, o.Name)
	}
	return id, nil
}

func parseMarker(s string) (id [16]byte, cluster string, err error) {
	var version int
	if n, err := fmt.Sscanf(s, markerFormat+" %d\n", &version); n != 1 || err != nil {
		return id, "", fmt.Errorf("%w: no %s file", ErrForeign, markerFormat)
	}
	if version > dirVersion {
		return id, "", fmt.Errorf("directory format %d, this release knows %d: %w; start that release or a newer one", version, dirVersion, errNewer)
	}
	body, crc, ok := strings.Cut(s, "crc=")
	if !ok || strings.TrimSpace(crc) != fmt.Sprintf("%08x", checksum([]byte(body))) {
		return id, "", fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	for _, line := range strings.Split(body, "\n") {
		k, v, _ := strings.Cut(line, "=")
		var err error
		var raw []byte
		switch k {
		case "id":
			raw, err = hex.DecodeString(v)
			if len(raw) != len(id) {
				err = errMalformed
			}
			copy(id[:], raw)
		case "name":
			raw, err = hex.DecodeString(v)
			cluster = string(raw)
		}
		if err != nil {
			return id, "", fmt.Errorf("%w: %s", errDamaged, k)
		}
	}
	return id, cluster, nil
}
