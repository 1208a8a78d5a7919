package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// replay reads the shared log at start.
//
// It ends at the first frame that is not whole. That is the torn tail of what nobody
// was told about, unless something proves that the log was durable past it: the
// checkpoint, the file that says how far the log was synced, or a later frame that names the position up to which the log was synced
// when it was written. Then bytes that were synced are gone: the hole is skipped,
// offsets missing after it are fenced, and since the lost frames may have been of
// any partition, the directory takes no appends (their offsets might be used twice).
type replay struct {
	s        *Store
	byNumber map[uint32]*topic
	files    []*walFile // by first LSN
	sizes    []int64
	live     map[*walFile]bool
	first    uint64 // of the first live file
	durable  uint64 // the log was synced up to here, as far as was proved
	clean    uint64 // where the log ended at a clean stop, 0 after any other
	broken   []brokenFile
	holed    bool           // something of the log is lost before where the replay is
	number   uint32         // of topics that were created after the checkpoint, from here on
	orphans  map[uint32]int // frames of topics that nothing tells of, by number
}

const replayWindow = 4 << 20

// run replays from LSN from and returns the end of the log.
func (r *replay) run(from uint64) (uint64, error) {
	r.live = make(map[*walFile]bool)
	r.first = from
	i := -1
	for j, f := range r.files {
		if f.lsn != 0 && f.lsn <= from {
			i = j
		}
	}
	if i < 0 || from-r.files[i].lsn > uint64(max(r.sizes[i]-walHeaderSize, 0)) {
		if r.durable > from {
			r.s.damagedLog(fmt.Errorf("%w: no file of the log holds position %d, from which the checkpoint goes on, and it was synced to %d", errHole, from, r.durable))
			return r.durable, nil
		}
		// Nothing was ever written after the checkpoint.
		return from, nil
	}
	lsn := from
	for {
		f := r.files[i]
		if len(r.live) == 0 {
			r.first = f.lsn
		}
		end, err := r.file(i, lsn)
		if err != nil {
			return 0, err
		}
		if end > f.lsn || i+1 == len(r.files) || r.files[i+1].lsn != end {
			// A file without one frame is not worth keeping, but for the current end.
			if end > f.lsn {
				r.live[f] = true
			}
		}
		lsn = end
		f.end.Store(end)
		if i+1 < len(r.files) && r.files[i+1].lsn == lsn {
			i++
			continue
		}
		if lsn == r.clean && lsn >= r.durable {
			return lsn, nil // nothing was written since
		}
		// The end, or a hole with more behind it.
		next, ok, err := r.evidence(i, lsn)
		if err != nil || !ok {
			if err == nil && lsn < r.durable {
				r.hole(f, lsn, r.durable)
				// Positions that were promised are not given again.
				return r.durable, nil
			}
			return lsn, err
		}
		r.hole(f, lsn, next.lsn)
		i, lsn = next.file, next.lsn
	}
}

// hole reports lost bytes and makes the store read-only.
func (r *replay) hole(f *walFile, from, to uint64) {
	r.holed = true
	r.s.damagedLog(fmt.Errorf("%w: %s lost synced bytes at %d (log positions %d to %d)", errHole, f.name, f.at(from), from, to))
}

// bound is where the next file of the log goes on. Frames of file i from there on never count: it was left where it was
// torn, and what stands behind that was whole, or became so, without anybody having been told of it.
func (r *replay) bound(i int) uint64 {
	for _, f := range r.files[i+1:] {
		if f.lsn > r.files[i].lsn {
			return f.lsn
		}
	}
	return math.MaxUint64
}

// file applies the frames of the i-th file from lsn on and returns where they end.
func (r *replay) file(i int, lsn uint64) (uint64, error) {
	f, size, bound := r.files[i], r.sizes[i], r.bound(i)
	buf := getBuffer(replayWindow)
	defer func() { putBuffer(buf) }()
	window, at := (*buf)[:0], int64(0)
	// need makes n bytes at pos available in window.
	need := func(pos int64, n int) ([]byte, bool, error) {
		if rel := pos - at; rel >= 0 && rel+int64(n) <= int64(len(window)) {
			return window[rel : rel+int64(n)], true, nil
		}
		if pos+int64(n) > size {
			return nil, false, nil
		}
		// A whole number of blocks, past the page cache unless it is there: nobody is
		// going to read it again.
		skip := int(pos % vfs.Block)
		if skip+n > len(*buf) {
			putBuffer(buf)
			buf = getBuffer(skip + n + vfs.Block)
			*buf = (*buf)[:len(*buf)/vfs.Block*vfs.Block]
		}
		read := f.f.ReadDirect
		if all, known := f.f.Cached(pos, int64(n)); all || !known {
			read = f.f.ReadAt
		}
		m, err := read(*buf, pos-int64(skip))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, fmt.Errorf("read %s at %d: %w: %w", f.name, pos, span.ErrStorage, err)
		}
		window, at = (*buf)[min(skip, m):m], pos
		if n > len(window) {
			return nil, false, nil // it became shorter
		}
		return window[:n], true, nil
	}
	for {
		pos := f.at(lsn)
		head, ok, err := need(pos, frameHeaderSize)
		if err != nil || !ok {
			return lsn, err
		}
		fr, err := parseFrame(head, lsn, f.salt)
		if err != nil {
			return lsn, nil
		}
		total := frameSize(int(fr.Length))
		if lsn+uint64(total) > bound {
			return lsn, nil
		}
		whole, ok, err := need(pos, total)
		if err != nil || !ok {
			return lsn, err
		}
		payload := whole[frameHeaderSize : frameHeaderSize+int(fr.Length)]
		if !intact(&fr, payload) {
			return lsn, nil
		}
		r.durable = max(r.durable, fr.Durable)
		if err := r.apply(&fr, payload); err != nil {
			return 0, fmt.Errorf("%s at %d: %w", f.name, pos, err)
		}
		r.s.lastFrame = lsn
		lsn += uint64(total)
	}
}

// intact tells whether the payload is what the frame's header was written for.
func intact(f *frame, payload []byte) bool {
	if f.Kind != kindBatch {
		return checksum(payload) == f.BatchCRC
	}
	return batch.Verify(payload) == nil && placed(f.Topic, f.Partition, payload) &&
		batch.BaseOffset(payload) == f.Offset && binary.BigEndian.Uint32(payload[atBatchCRC:]) == f.BatchCRC
}

// place in the log.
type spot struct {
	file int
	lsn  uint64
}

// evidence looks behind lsn, where file i holds no frame, for a frame that proves
// that the log had been synced past lsn. It returns the first whole frame behind the hole.
func (r *replay) evidence(i int, lsn uint64) (at spot, ok bool, err error) {
	proved := lsn < r.durable
	found := false
	for j := i; j < len(r.files); j++ {
		f := r.files[j]
		from := f.at(f.lsn)
		if j == i {
			// Past the frame that is not whole: its header may look well.
			from = f.at(lsn) + frameAlign
		} else if f.lsn <= lsn {
			continue
		}
		bound := r.bound(j)
		err := r.scan(f, r.sizes[j], from, func(fr *frame) bool {
			if fr.LSN >= bound {
				return false
			}
			if !found {
				at, found = spot{j, fr.LSN}, true
			}
			proved = proved || fr.Durable > lsn
			return !proved
		})
		if err != nil {
			return at, false, err
		}
		if proved && found {
			return at, true, nil
		}
	}
	return at, false, nil
}

// scan calls fn for frames of f from pos on, wherever they stand.
func (r *replay) scan(f *walFile, size, pos int64, fn func(*frame) (more bool)) error {
	buf := getBuffer(replayWindow)
	defer putBuffer(buf)
	pos = (pos + frameAlign - 1) &^ (frameAlign - 1)
	for pos+frameHeaderSize <= size {
		n := min(int64(len(*buf)), size-pos)
		if _, err := f.f.ReadAt((*buf)[:n], pos); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s at %d: %w: %w", f.name, pos, span.ErrStorage, err)
		}
		b := (*buf)[:n]
		at := int64(0)
		for ; at+frameHeaderSize <= n; at += frameAlign {
			lsn := f.lsn + uint64(pos+at-walHeaderSize)
			// Nearly all positions are told apart by these eight bytes.
			if binary.BigEndian.Uint64(b[at+atFrameLSN:]) != lsn {
				continue
			}
			fr, err := parseFrame(b[at:], lsn, f.salt)
			if err == nil && !fn(&fr) {
				return nil
			}
		}
		pos += at
	}
	return nil
}
