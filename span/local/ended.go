package local

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/braidstream/braid/span"
)

// A directory whose log has lost synced bytes takes no appends: every start finds that anew. So it can be
// left as any cluster can: a seal needs no record in the log, of which nobody knows where it ends. But a
// start may find the log whole again, since what was damaged was how it was read, or since somebody puts a
// copy back; and a seal has no way back. So the first seal makes a file which says that the directory has ended, before it is
// answered: no start takes appends while it is there, whatever it holds. Each sealed topic has a line in it.
const (
	endedName    = "ended"
	endedFormat  = "braid-ended 1\n"
	endedLine    = len("sealed=") + 32 + len(" crc=") + 8 + 1
	maxEnded     = 64 << 20
	endedComment = "its log had lost bytes, and topics were moved away from it since"
)

// ended is that file.
type ended struct {
	mu   sync.Mutex // one writes at a time, and none after the directory's lock was given back
	size int64      // of what is whole and synced in it, 0: there is none
}

// errEnded: a former start found bytes of the log missing.
var errEnded = fmt.Errorf("%w: %s", errHole, endedComment)

// ends makes the store read-only for good, since synced bytes of its log are gone.
func (s *Store) ends(err error) {
	s.stop(fmt.Errorf("data directory %s takes no appends any more, now or after a restart; what is whole is served, the last records of any partition may be missing: "+
		"move the topics to other clusters, and remove this one: %w", s.opt.Dir, err))
}

// hole is why the store has ended; nil if it takes appends, or a start may do so again.
func (s *Store) hole() error {
	if err := s.failure(); errors.Is(err, errHole) {
		return err
	}
	return nil
}

// readEnded looks at start whether the directory has ended, and which topics were sealed then.
func (s *Store) readEnded() error {
	b, err := readFile(s.opt.FS, filepath.Join(s.opt.Dir, endedName), maxEnded)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", endedName, err)
	}
	if s.failure() == nil && !s.hollow {
		s.damagedLog(errEnded)
	}
	rest, ok := strings.CutPrefix(string(b), endedFormat)
	if !ok {
		return nil // cut short before anybody was answered, or damaged: no appends all the same
	}
	s.ended.size = int64(len(endedFormat))
	for len(rest) >= endedLine {
		id, ok := parseEnded(rest[:endedLine])
		if !ok {
			break
		}
		if t := s.byID[id]; t != nil {
			t.sealed.Store(true)
		}
		rest = rest[endedLine:]
		s.ended.size += int64(endedLine)
	}
	return nil
}

func putEnded(id [16]byte) string {
	body := "sealed=" + hex.EncodeToString(id[:])
	return fmt.Sprintf("%s crc=%08x\n", body, checksum([]byte(body)))
}

func parseEnded(line string) (id [16]byte, ok bool) {
	raw, err := hex.DecodeString(line[len("sealed="):][:32])
	if err != nil {
		return id, false
	}
	copy(id[:], raw)
	return id, putEnded(id) == line
}

// hideTopic is Delete where nothing can be written down: the files stay, and a start finds the topic again.
func (s *Store) hideTopic(pub span.Topic) error {
	t, err := s.topic(pub)
	if err != nil {
		return nil
	}
	t.gone.Store(true)
	s.mu.Lock()
	if s.byName[t.name] == t {
		delete(s.byName, t.name)
	}
	s.mu.Unlock()
	for _, p := range t.partitions() {
		p.mu.Lock()
		p.notify()
		p.mu.Unlock()
	}
	return nil
}

// hide is DeleteBefore there.
func (p *partition) hide(offset int64) (start int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset > p.hw || offset < 0 {
		return 0, pastEnd(offset, p.hw)
	}
	p.trim(offset)
	return p.start, nil
}

// end seals a topic of a directory that has ended.
func (s *Store) end(t *topic) error {
	e := &s.ended
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-s.done:
		return errClosed
	default:
	}
	if t.sealed.Load() {
		return nil
	}
	name := filepath.Join(s.opt.Dir, endedName)
	line, open := putEnded(t.id), s.opt.FS.OpenWrite
	if e.size == 0 {
		line, open = endedFormat+line, s.opt.FS.Create
	}
	f, err := open(name)
	if err == nil {
		if _, err = f.WriteAt([]byte(line), e.size); err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil && e.size == 0 {
		err = s.opt.FS.SyncDir(s.opt.Dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w: %w", name, span.ErrStorage, err)
	}
	e.size += int64(len(line))
	t.sealed.Store(true)
	return nil
}
