package local

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"sort"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// A segment file: a header, batches one behind the other, and once it is closed
// an index and a trailer. docs/formats/local.md has the layout.
const (
	segHeaderSize  = 64
	segTrailerSize = 64
	segVersion     = 1
	indexEntrySize = 24
	indexEvery     = 128 << 10 // bytes of batches per index entry

	atSegVersion   = 8
	atSegTopic     = 12
	atSegPartition = 16
	atSegBase      = 24
	atSegDir       = 32
	atSegGen       = 48
	atSegCRC       = 60

	atEndVersion = 8
	atEndEntries = 12
	atEndIndex   = 16
	atEndNext    = 24
	atEndMaxTS   = 32
	atEndCRC     = 60
)

const (
	segMagic = "braidseg"
	endMagic = "braidend"
)

// segment is one file of a partition. size, next, maxTS and closed are under the
// partition's mu and only ever tell of synced bytes.
type segment struct {
	base   int64
	gen    uint32 // 0, or the number of the compaction that wrote it
	size   int64  // end of its batches in the file
	next   int64  // first offset past it
	maxTS  int64
	first  int64 // ms by the log's clock when its first batch was appended
	closed bool
	// Of a compaction: everything in it was seen by a cleaner.
	cleaned bool
	damaged string // why it is not served; "" if it is
	busy    bool   // more is being written to it
}

// fence tells that the segment is not served, and why; under the partition's mu.
func (s *segment) fence() error {
	if s.damaged == "" {
		return nil
	}
	return fmt.Errorf("segment at offset %d is fenced off: %s: %w", s.base, s.damaged, span.ErrStorage)
}

func (s *segment) path(dir string, p *partition) string {
	name := fmt.Sprintf("%d-%020d.seg", p.n, s.base)
	if s.gen > 0 {
		name = fmt.Sprintf("%d-%020d.%d.seg", p.n, s.base, s.gen)
	}
	return filepath.Join(topicDir(dir, p.t.number), name)
}

func topicDir(dir string, number uint32) string {
	return filepath.Join(dir, dataDir, fmt.Sprintf("%d", number))
}

func segHeader(dir [16]byte, topic, partition uint32, base int64, gen uint32) []byte {
	b := make([]byte, segHeaderSize)
	be := binary.BigEndian
	copy(b, segMagic)
	be.PutUint16(b[atSegVersion:], segVersion)
	be.PutUint32(b[atSegTopic:], topic)
	be.PutUint32(b[atSegPartition:], partition)
	be.PutUint64(b[atSegBase:], uint64(base))
	copy(b[atSegDir:], dir[:])
	be.PutUint32(b[atSegGen:], gen)
	be.PutUint32(b[atSegCRC:], crc32.Checksum(b[:atSegCRC], castagnoli))
	return b
}

// parseSegHeader checks that b is the header of the segment that is wanted.
func parseSegHeader(b []byte, dir [16]byte, topic, partition uint32, base int64) error {
	if len(b) < segHeaderSize || string(b[:8]) != segMagic {
		return fmt.Errorf("%w: no segment header", errDamaged)
	}
	be := binary.BigEndian
	if v := be.Uint16(b[atSegVersion:]); v > segVersion {
		return fmt.Errorf("segment format %d: %w", v, errNewer)
	}
	if crc32.Checksum(b[:atSegCRC], castagnoli) != be.Uint32(b[atSegCRC:]) {
		return fmt.Errorf("%w: segment header has a wrong checksum", errDamaged)
	}
	if [16]byte(b[atSegDir:atSegDir+16]) != dir || be.Uint32(b[atSegTopic:]) != topic ||
		be.Uint32(b[atSegPartition:]) != partition || int64(be.Uint64(b[atSegBase:])) != base {
		return fmt.Errorf("%w: segment of another place", errDamaged)
	}
	return nil
}

// segHeaderVersion is the format that a header says, 0 where it is not whole.
func segHeaderVersion(b []byte) uint16 {
	be := binary.BigEndian
	if len(b) < segHeaderSize || string(b[:8]) != segMagic || crc32.Checksum(b[:atSegCRC], castagnoli) != be.Uint32(b[atSegCRC:]) {
		return 0
	}
	return be.Uint16(b[atSegVersion:])
}

// errDamaged tells of bytes that are not what was written.
var errDamaged = fmt.Errorf("damaged: %w", span.ErrStorage)

// indexEntry says where the batches from an offset on lie. maxTS is the
// largest timestamp of all batches before the next entry's.
type indexEntry struct {
	offset int64
	pos    int64
	maxTS  int64
}

// segIndex is the sparse index of the batches of one segment up to end.
type segIndex struct {
	entries []indexEntry
	end     int64
}

// add notes the batch at pos, which must be end.
func (x *segIndex) add(base, pos int64, size int, maxTS int64) {
	n := len(x.entries)
	if n == 0 || pos-x.entries[n-1].pos >= indexEvery {
		x.entries = append(x.entries, indexEntry{offset: base, pos: pos, maxTS: maxTS})
		n++
	}
	x.entries[n-1].maxTS = max(x.entries[n-1].maxTS, maxTS)
	x.end = pos + int64(size)
}

// find returns where to begin looking for offset.
func (x *segIndex) find(offset int64) int64 {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].offset > offset }) - 1
	if i < 0 {
		return segHeaderSize
	}
	return x.entries[i].pos
}

// findTime returns where to begin looking for a timestamp >= ms; false if there is none.
func (x *segIndex) findTime(ms int64) (int64, bool) {
	for i := range x.entries {
		if x.entries[i].maxTS >= ms {
			return x.entries[i].pos, true
		}
	}
	return 0, false
}

// encode makes the index and the trailer that close a segment.
func (x *segIndex) encode(next, maxTS int64) []byte {
	b := make([]byte, 0, len(x.entries)*indexEntrySize+segTrailerSize)
	be := binary.BigEndian
	for _, e := range x.entries {
		b = be.AppendUint64(b, uint64(e.offset))
		b = be.AppendUint64(b, uint64(e.pos))
		b = be.AppendUint64(b, uint64(e.maxTS))
	}
	t := make([]byte, segTrailerSize)
	copy(t, endMagic)
	be.PutUint16(t[atEndVersion:], segVersion)
	be.PutUint32(t[atEndEntries:], uint32(len(x.entries)))
	be.PutUint64(t[atEndIndex:], uint64(x.end))
	be.PutUint64(t[atEndNext:], uint64(next))
	be.PutUint64(t[atEndMaxTS:], uint64(maxTS))
	crc := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, t[:atEndCRC])
	be.PutUint32(t[atEndCRC:], crc)
	return append(b, t...)
}

// parseIndex decodes what encode made: b is what follows the batches, which end at pos.
func parseIndex(b []byte, pos int64) (*segIndex, error) {
	if len(b) < segTrailerSize || (len(b)-segTrailerSize)%indexEntrySize != 0 {
		return nil, fmt.Errorf("%w: segment ends without a trailer", errDamaged)
	}
	body, t := b[:len(b)-segTrailerSize], b[len(b)-segTrailerSize:]
	be := binary.BigEndian
	if string(t[:8]) != endMagic {
		return nil, fmt.Errorf("%w: segment ends without a trailer", errDamaged)
	}
	if v := be.Uint16(t[atEndVersion:]); v > segVersion {
		return nil, fmt.Errorf("segment format %d: %w", v, errNewer)
	}
	crc := crc32.Update(crc32.Checksum(body, castagnoli), castagnoli, t[:atEndCRC])
	if crc != be.Uint32(t[atEndCRC:]) {
		return nil, fmt.Errorf("%w: segment index has a wrong checksum", errDamaged)
	}
	if int(be.Uint32(t[atEndEntries:])) != len(body)/indexEntrySize || int64(be.Uint64(t[atEndIndex:])) != pos {
		return nil, fmt.Errorf("%w: segment index does not fit", errDamaged)
	}
	x := &segIndex{end: pos, entries: make([]indexEntry, len(body)/indexEntrySize)}
	for i := range x.entries {
		e := body[i*indexEntrySize:]
		x.entries[i] = indexEntry{
			offset: int64(be.Uint64(e)), pos: int64(be.Uint64(e[8:])), maxTS: int64(be.Uint64(e[16:])),
		}
		if x.entries[i].pos < segHeaderSize || x.entries[i].pos >= pos {
			return nil, fmt.Errorf("%w: segment index points outside", errDamaged)
		}
	}
	return x, nil
}

// scanHeaders calls fn for the header of each batch of p's segment r in [from, to),
// reading windows of buf's size. Only headers are looked at, and checked.
func scanHeaders(p *partition, r io.ReaderAt, buf []byte, from, to int64, fn func(h batch.Header, raw []byte, pos int64) (more bool, err error)) error {
	var window []byte
	var at int64 // position of window
	for pos := from; pos < to; {
		if rel := pos - at; window == nil || rel+batch.HeaderSize > int64(len(window)) {
			n := min(int64(len(buf)), to-pos)
			if n < batch.HeaderSize {
				return fmt.Errorf("%w: %d bytes behind the last batch", errDamaged, n)
			}
			if _, err := r.ReadAt(buf[:n], pos); err != nil {
				return readError(pos, err)
			}
			window, at = buf[:n], pos
		}
		raw := window[pos-at:]
		h, size, err := batch.Parse(raw)
		if err != nil {
			return fmt.Errorf("%w: at %d: %w", errDamaged, pos, err)
		}
		if !placed(p.t.number, p.n, raw) {
			return fmt.Errorf("%w: the header of the batch at %d is not what was written there", errDamaged, pos)
		}
		if int64(size) > to-pos {
			return fmt.Errorf("%w: batch at %d ends past the segment", errDamaged, pos)
		}
		more, err := fn(h, raw[:min(size, len(raw))], pos)
		if err != nil || !more {
			return err
		}
		pos += int64(size)
	}
	return nil
}
