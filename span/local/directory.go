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
	if _, err := o.FS.Stat(filepath.Join(o.Dir, markerName)); o.ID != "" && errors.Is(err, fs.ErrNotExist) {
		return id, nil, fmt.Errorf("%s: %w: the catalog knows cluster %q by the directory with id %s, and there is none; put it back, or start without this cluster if it is lost",
			o.Dir, ErrForeign, o.Name, o.ID)
	}
	if err := makeDir(o.FS, o.Dir); err != nil {
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
	} else if _, err = rand.Read(id[:]); err != nil {
		err = fmt.Errorf("draw a directory id: %w", err)
	} else {
		err = marker{id: id, name: o.Name, fleet: o.Fleet}.write(o)
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

// marker is what the directory says of itself.
type marker struct {
	id    [16]byte
	name  string // of the cluster
	fleet string // whose it is, "" unknown: a release before that was noted made it
}

// write writes the marker as text: a line with the format and its version, then key=value lines,
// the last with a CRC-32C of all before it.
func (m marker) write(o Options) error {
	body := fmt.Sprintf("%s %d\nid=%x\nname=%s\n", markerFormat, dirVersion, m.id, hex.EncodeToString([]byte(m.name)))
	if m.fleet != "" {
		body += fmt.Sprintf("fleet=%s\n", hex.EncodeToString([]byte(m.fleet)))
	}
	body += fmt.Sprintf("crc=%08x\n", checksum([]byte(body)))
	name := filepath.Join(o.Dir, markerName)
	f, err := o.FS.Create(name + ".tmp")
	if err != nil {
		return fmt.Errorf("make the data directory: %w", err)
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
		return fmt.Errorf("make the data directory: %w", err)
	}
	return nil
}

// readMarker returns the directory's id if it is the one that is asked for.
func readMarker(o Options) (id [16]byte, err error) {
	name := filepath.Join(o.Dir, markerName)
	b, err := readFile(o.FS, name, maxMarker)
	if err != nil {
		return id, fmt.Errorf("data directory: %w", err)
	}
	m, err := parseMarker(string(b))
	if err != nil {
		return id, fmt.Errorf("%s: %w", name, err)
	}
	switch have := hex.EncodeToString(m.id[:]); {
	case m.name != o.Name:
		return id, fmt.Errorf("%s: %w: it belongs to cluster %q, not %q", o.Dir, ErrForeign, m.name, o.Name)
	case o.Fleet != "" && m.fleet != "" && m.fleet != o.Fleet:
		return id, fmt.Errorf("%s: %w: it belongs to cluster %q of another installation, %s, and this one is %s; give it to that one, or give this one an empty directory",
			o.Dir, ErrForeign, m.name, m.fleet, o.Fleet)
	case o.ID != "" && have != o.ID:
		return id, fmt.Errorf("%s: %w: its id is %s, and the catalog knows cluster %q by the directory with id %s; put that one back",
			o.Dir, ErrForeign, have, m.name, o.ID)
	case o.Fleet != "" && m.fleet == "" && o.ID == "":
		return id, fmt.Errorf("%s: %w: an earlier release made it, and the catalog of this installation, %s, knows no cluster %q (it was removed, or the directory is another's); give an empty directory, or leave it out of --local-clusters",
			o.Dir, ErrForeign, o.Fleet, m.name)
	}
	if o.Fleet != "" && m.fleet == "" {
		m.fleet = o.Fleet
		return m.id, m.write(o)
	}
	return m.id, nil
}

func parseMarker(s string) (m marker, err error) {
	var version int
	if n, err := fmt.Sscanf(s, markerFormat+" %d\n", &version); n != 1 || err != nil {
		return m, fmt.Errorf("%w: no %s file", ErrForeign, markerFormat)
	}
	if version > dirVersion {
		return m, fmt.Errorf("directory format %d, this release knows %d: %w; start that release or a newer one", version, dirVersion, errNewer)
	}
	body, crc, ok := strings.Cut(s, "crc=")
	if !ok || strings.TrimSpace(crc) != fmt.Sprintf("%08x", checksum([]byte(body))) {
		return m, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	for _, line := range strings.Split(body, "\n") {
		k, v, _ := strings.Cut(line, "=")
		var err error
		var raw []byte
		switch k {
		case "id":
			raw, err = hex.DecodeString(v)
			if len(raw) != len(m.id) {
				err = errMalformed
			}
			copy(m.id[:], raw)
		case "name":
			raw, err = hex.DecodeString(v)
			m.name = string(raw)
		case "fleet":
			raw, err = hex.DecodeString(v)
			m.fleet = string(raw)
		}
		if err != nil {
			return m, fmt.Errorf("%w: %s", errDamaged, k)
		}
	}
	return m, nil
}
