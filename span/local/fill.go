package local

import (
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span/local/vfs"
)

const (
	writeBuffer = 1 << 20
	// A large write keeps several requests of the disk under way.
	directBuffer = 4 << 20
	// Where the keeper takes its time, an append never waits behind more than this.
	calmBuffer = 1 << 20
	// From so many bytes on a segment is written past the page cache. What was just
	// appended is read from memory; in the cache it would displace what is read from
	// there, and a copy into fresh pages costs more CPU time than all else of an append.
	directFrom = 64 << 10
)

// fill appends batches to the draft's segment until it is full, or the next one is grain ms younger than the first, and
// returns how many.
func (r *round) fill(d *draft, refs []ref, cfg *topicConfig, grain int64) (int, error) {
	s := r.k.s
	n, total := 0, int64(0)
	for n < len(refs) && (n == 0 || d.now.size+total+int64(refs[n].size) <= cfg.segmentBytes) {
		if d.cut = apart(&refs[0], &refs[n], grain); d.cut {
			break
		}
		total += int64(refs[n].size)
		n++
	}
	w := writer{s: s, d: d, buf: r.buf, size: writeBuffer, direct: total >= int64(s.log.directFrom())}
	if w.direct {
		w.size = int(min(total, directBuffer))
		if s.calm() {
			w.size = min(w.size, calmBuffer)
		}
	}
	if err := w.begin(); err != nil {
		return 0, err
	}
	for i := range refs[:n] {
		ref := &refs[i]
		b, err := w.room(int(ref.size))
		if err != nil {
			return 0, err
		}
		if c := s.log.tail.get(ref.lsn); c != nil {
			copy(b, c.buf[ref.lsn-c.lsn:])
			c.unpin()
		} else {
			if err := s.log.read(b, ref.lsn); err != nil {
				return 0, err
			}
			// What the disk gives back is not always what it was given.
			if batch.BaseOffset(b) != ref.base || !placed(d.p.t.number, d.p.n, b) || batch.Verify(b) != nil {
				return 0, fmt.Errorf("batch at offset %d in the log: %w", ref.base, errDamaged)
			}
		}
		d.of.mu.Lock()
		if x := d.of.index; x != nil && x.end == d.now.size {
			x.add(ref.base, d.now.size, int(ref.size), ref.maxTS)
		}
		d.of.mu.Unlock()
		d.now.size += int64(ref.size)
		d.now.next = ref.next()
		d.now.maxTS = max(d.now.maxTS, ref.maxTS)
	}
	err := w.end()
	r.buf = w.buf
	return n, err
}

// writer writes to the end of a draft's file: past the page cache in whole blocks, or
// through it.
type writer struct {
	s      *Store
	d      *draft
	direct bool
	size   int    // of one write, about
	buf    []byte // aligned; its length is what is filled
	at     int64  // where buf goes
}

// begin prepares for bytes at the end of the draft.
func (w *writer) begin() error {
	w.buf = w.grown(w.size)[:0]
	w.at = w.d.now.size
	if w.d.header != nil {
		w.at = 0
		w.buf = append(w.buf, w.d.header...)
		w.d.header = nil
		return nil
	}
	head := int(w.at % vfs.Block)
	if !w.direct || head == 0 {
		return nil
	}
	// The block in which the batches end so far is written again, with the same bytes at
	// its beginning: whatever is left of it by a crash holds those.
	w.at -= int64(head)
	w.buf = w.buf[:head]
	if _, err := w.d.of.f.ReadAt(w.buf, w.at); err != nil {
		return w.failed(err)
	}
	return nil
}

// grown is buf with a capacity of n bytes and some more, so that an odd rest is no trouble.
func (w *writer) grown(n int) []byte {
	if n += 2 * vfs.Block; cap(w.buf) < n {
		return append(vfs.Aligned(n)[:0], w.buf...)
	}
	return w.buf
}

// room returns the next n bytes to write, for the caller to fill before the next call.
func (w *writer) room(n int) ([]byte, error) {
	if len(w.buf) > 0 && len(w.buf)+n > w.size {
		whole := len(w.buf)
		if w.direct {
			whole -= whole % vfs.Block
		}
		if err := w.put(whole); err != nil {
			return nil, err
		}
	}
	from := len(w.buf)
	w.buf = w.grown(from + n)[:from+n]
	return w.buf[from:], nil
}

// put writes the first n bytes of the buffer and keeps the rest.
func (w *writer) put(n int) error {
	if n == 0 {
		return nil
	}
	write := w.d.of.f.WriteAt
	if w.direct {
		write = w.d.of.f.WriteDirect
	}
	began := time.Now()
	if _, err := write(w.buf[:n], w.at); err != nil {
		return w.failed(err)
	}
	w.s.pace(time.Since(began))
	w.s.stats.segmentBytes.Add(int64(n))
	w.at += int64(n)
	w.buf = w.buf[:copy(w.buf, w.buf[n:])]
	return nil
}

// end writes what is left, with zeros up to a whole block; the next batches go over them.
func (w *writer) end() error {
	n := len(w.buf)
	if w.direct && n%vfs.Block != 0 {
		w.buf = w.grown(n)[:(n/vfs.Block+1)*vfs.Block]
		clear(w.buf[n:])
	}
	return w.put(len(w.buf))
}

func (w *writer) failed(err error) error {
	return fmt.Errorf("write %s: %w", w.d.seg.path(w.s.opt.Dir, w.d.p), err)
}
