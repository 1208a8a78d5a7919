package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/span/local/vfs"
)

// A file of the shared log: a header in a page of its own, then frames. Files
// are used again under the same name once nothing in them is needed: writing
// over blocks that were written before needs no change of metadata, so
// fdatasync is one write.
const (
	walHeaderSize = 4096
	walHeaderUsed = 64
	walHeaderCopy = 2048 // where the header stands once more
	walVersion    = 1
	firstLSN      = uint64(4096) // never 0: zeros are no frame

	atWalVersion = 8
	atWalLSN     = 16
	atWalDir     = 24
	atWalSalt    = 40
	atWalCRC     = 60
)

const walMagic = "braidlog"

// walFile is one file of the log.
type walFile struct {
	f    vfs.File
	name string
	node vfs.Node      // which file that is, zero if unknown
	lsn  uint64        // of its first frame
	salt uint32        // of the checksums of its frames, drawn at each use
	end  atomic.Uint64 // first LSN past it once it is full, 0 before
	pins atomic.Int32  // readers
}

func (w *walFile) at(lsn uint64) int64 { return walHeaderSize + int64(lsn-w.lsn) }

func putWalHeader(b []byte, lsn uint64, salt uint32, dir [16]byte) {
	clear(b[:walHeaderUsed])
	copy(b, walMagic)
	binary.BigEndian.PutUint16(b[atWalVersion:], walVersion)
	binary.BigEndian.PutUint64(b[atWalLSN:], lsn)
	copy(b[atWalDir:], dir[:])
	binary.BigEndian.PutUint32(b[atWalSalt:], salt)
	binary.BigEndian.PutUint32(b[atWalCRC:], crc32.Checksum(b[:atWalCRC], castagnoli))
}

var (
	errWalHeader = errors.New("no header of a log file")
	errNewer     = errors.New("written by a newer release")
)

// parseWalHeader returns the LSN of the file's first frame and its salt.
func parseWalHeader(b []byte, dir [16]byte) (lsn uint64, salt uint32, err error) {
	if len(b) < walHeaderUsed || string(b[:8]) != walMagic {
		return 0, 0, errWalHeader
	}
	if v := binary.BigEndian.Uint16(b[atWalVersion:]); v > walVersion {
		return 0, 0, fmt.Errorf("format %d: %w", v, errNewer)
	}
	if crc32.Checksum(b[:atWalCRC], castagnoli) != binary.BigEndian.Uint32(b[atWalCRC:]) {
		return 0, 0, fmt.Errorf("%w: wrong checksum", errWalHeader)
	}
	if [16]byte(b[atWalDir:atWalDir+16]) != dir {
		return 0, 0, fmt.Errorf("log file of another directory: %w", ErrForeign)
	}
	return binary.BigEndian.Uint64(b[atWalLSN:]), binary.BigEndian.Uint32(b[atWalSalt:]), nil
}

// wal is the shared log. reserve and flush belong to the sequencer; durable is
// moved by the syncer; release belongs to the keeper; the rest may be called by
// anyone.
type wal struct {
	fs       vfs.FS
	dir      string
	id       [16]byte
	fileSize int64
	tail     *tail

	// Sequencer only.
	cur     *walFile
	chunk   *chunk
	written int // bytes of chunk that are in the file
	touched []*walFile
	header  bool // the header of cur is not written yet

	next    atomic.Uint64 // LSN of the next frame
	durable atomic.Uint64 // everything before it is synced
	// What lies before it was answered: high watermarks have moved.
	committed atomic.Uint64
	// From where the last checkpoint is replayed, but for the last frame that it keeps.
	replayed atomic.Uint64

	mu    sync.Mutex
	live  []*walFile // by LSN
	free  []*walFile
	slots int // names given so far
}

// reserve makes room for a frame of size bytes and returns it with its LSN.
// The room belongs to the caller until flush.
func (w *wal) reserve(size int) ([]byte, uint64, error) {
	lsn := w.next.Load()
	if w.cur == nil || w.cur.at(lsn)+int64(size) > w.fileSize {
		if err := w.flush(); err != nil {
			return nil, 0, err
		}
		if err := w.rotate(lsn); err != nil {
			return nil, 0, err
		}
	}
	if w.chunk == nil || w.chunk.n+size > len(w.chunk.buf) {
		if err := w.flush(); err != nil {
			return nil, 0, err
		}
		// It begins with the bytes that share its first block of the file, so that
		// blocks can be written whole.
		pad := int(w.cur.at(lsn) % vfs.Block)
		next := w.tail.add(lsn-uint64(pad), pad, size)
		if w.chunk != nil {
			copy(next.buf[:pad], w.chunk.buf[w.chunk.n-pad:w.chunk.n])
			w.chunk.unpin()
		}
		w.tail.show(next)
		w.chunk, w.written = next, pad
	}
	b := w.chunk.buf[w.chunk.n : w.chunk.n+size]
	w.chunk.n += size
	w.next.Store(lsn + uint64(size))
	return b, lsn, nil
}

// flush writes what was reserved since the last flush. After an error it may be
// called again: it writes the same bytes to the same place.
func (w *wal) flush() error {
	if w.chunk == nil || w.written == w.chunk.n {
		return nil
	}
	if w.header {
		var h [walHeaderSize]byte
		putWalHeader(h[:], w.cur.lsn, w.cur.salt, w.id)
		copy(h[walHeaderCopy:], h[:walHeaderUsed])
		if _, err := w.cur.f.WriteAt(h[:], 0); err != nil {
			return fmt.Errorf("write the header of %s: %w", w.cur.name, err)
		}
		w.header = false
	}
	// Whole blocks: the system needs to read none of them first, whether the file is
	// in its cache or not. What was there before is written again as it is, and zeros
	// are no frame.
	c := w.chunk
	from, to := w.written-w.written%vfs.Block, c.n
	pos := w.cur.at(c.lsn + uint64(from))
	write := w.cur.f.WriteAt
	if full := from + (to-from+vfs.Block-1)/vfs.Block*vfs.Block; pos+int64(full-from) <= w.fileSize {
		clear(c.buf[to:full])
		if to-w.written >= w.directFrom() {
			write = w.cur.f.WriteDirect
		}
		to = full
	}
	if _, err := write(c.buf[from:to], pos); err != nil {
		return fmt.Errorf("write to %s: %w", w.cur.name, err)
	}
	w.written = c.n
	if n := len(w.touched); n == 0 || w.touched[n-1] != w.cur {
		w.touched = append(w.touched, w.cur)
	}
	return nil
}

// directFrom is how many bytes at once go past the page cache; less where the log is as
// small as in tests, which then see it.
func (w *wal) directFrom() int { return int(min(directFrom, w.fileSize/16)) }

// rotate goes on in another file, from lsn.
func (w *wal) rotate(lsn uint64) error {
	f, err := w.take()
	if err != nil {
		return err
	}
	f.lsn, f.salt = lsn, rand.Uint32()
	f.end.Store(0)
	if w.cur != nil {
		w.cur.end.Store(lsn)
	}
	// A chunk lies in one file.
	if w.chunk != nil {
		w.chunk.unpin()
		w.chunk = nil
	}
	w.cur, w.header = f, true
	w.mu.Lock()
	w.live = append(w.live, f)
	w.mu.Unlock()
	return nil
}

// take returns a free file, or makes one.
func (w *wal) take() (*walFile, error) {
	w.mu.Lock()
	if n := len(w.free); n > 0 {
		f := w.free[n-1]
		w.free = w.free[:n-1]
		w.mu.Unlock()
		return f, nil
	}
	slot := w.slots + 1
	w.mu.Unlock()
	name := filepath.Join(w.dir, fmt.Sprintf("%06d.log", slot))
	f, err := w.fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	if err := f.Allocate(w.fileSize); err != nil {
		// Half a file would keep the room that is missing.
		return nil, errors.Join(fmt.Errorf("create %s: %w", name, err), f.Close(), w.fs.Remove(name))
	}
	if err := w.fs.SyncDir(w.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("sync %s: %w", w.dir, err), f.Close())
	}
	w.mu.Lock()
	w.slots = slot
	w.mu.Unlock()
	made := &walFile{f: f, name: name}
	// Unknown, it is only not known when another file takes its name.
	if st, err := w.fs.Stat(name); err == nil {
		made.node = st.Node
	}
	return made, nil
}

// read fills b from the log at lsn. The caller made sure that the bytes were written
// and are not recycled meanwhile: errRecycled tells that they were.
func (w *wal) read(b []byte, lsn uint64) error {
	f := w.pin(lsn)
	if f == nil {
		return errRecycled
	}
	_, err := f.f.ReadAt(b, f.at(lsn))
	f.pins.Add(-1)
	if err != nil {
		return fmt.Errorf("read %d bytes at %d of %s: %w", len(b), f.at(lsn), f.name, err)
	}
	return nil
}

var errRecycled = errors.New("log file was recycled")

func (w *wal) pin(lsn uint64) *walFile {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.live) - 1; i >= 0; i-- {
		if f := w.live[i]; f.lsn <= lsn {
			f.pins.Add(1)
			return f
		}
	}
	return nil
}

// release frees the files that lie wholly below lsn. It keeps as many for
// another use as the log had, and removes the others.
func (w *wal) release(lsn uint64) error {
	w.mu.Lock()
	var drop []*walFile
	n := 0
	for n < len(w.live) {
		f := w.live[n]
		if end := f.end.Load(); end == 0 || end > lsn || f.pins.Load() > 0 {
			break
		}
		n++
	}
	for _, f := range w.live[:n] {
		if len(w.free) <= len(w.live)-n+1 {
			w.free = append(w.free, f)
		} else {
			drop = append(drop, f)
		}
	}
	w.live = append([]*walFile(nil), w.live[n:]...)
	w.mu.Unlock()
	var err error
	for _, f := range drop {
		err = errors.Join(err, f.f.Close(), w.fs.Remove(f.name))
	}
	return err
}

// leastFiles is how many files of the log may lie around with little in them.
const leastFiles = 4

// sparse tells whether the log has many more files than what it holds needs. Each start goes on in another
// file, so those of starts between which little was appended pile up: flushes wait for bytes.
func (w *wal) sparse() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.live) == 0 {
		return false
	}
	// A batch that did not fit may have left half of a file empty.
	return int64(len(w.live)) > leastFiles+2*w.liveBytes(w.live[0].lsn)/w.fileSize
}

// liveBytes is the size of the log from lsn to its end.
func (w *wal) liveBytes(lsn uint64) int64 { return int64(w.next.Load() - lsn) }

// close ends the log; the sequencer has ended.
func (w *wal) close() error {
	if w.chunk != nil {
		w.chunk.unpin()
		w.chunk = nil
	}
	w.tail.close()
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	for _, f := range append(w.live, w.free...) {
		err = errors.Join(err, f.f.Close())
	}
	w.live, w.free = nil, nil
	return err
}
