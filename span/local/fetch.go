package local

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// fetchSegment reads batches from a segment file.
func (s *Store) fetchSegment(ctx context.Context, owner string, p *partition, v view, offset, limit, pos int64, maxBytes int) (*[]byte, []byte, error) {
	of, err := s.files.get(v.seg, v.seg.path(s.opt.Dir, p), false)
	if err != nil {
		if passed := s.passed(p, v.seg, offset); passed != nil {
			return nil, nil, passed
		}
		return nil, nil, err
	}
	defer s.files.put(of)
	slack := 0
	if pos == 0 {
		of.mu.Lock()
		x, err := of.indexOf(p, v)
		if err != nil {
			of.mu.Unlock()
			return nil, nil, s.damage(p, v.seg, offset, err)
		}
		pos = x.find(offset)
		of.mu.Unlock()
		slack = indexEvery
	}
	if pos >= v.size && v.cleaned {
		return nil, nil, nil // a compaction left nothing
	}
	n := int(min(int64(maxBytes+slack), v.size-pos))
	for need := batch.HeaderSize; ; {
		need = min(need, int(v.size-pos))
		n = max(n, need)
		buf, window, how, err := of.window(ctx, owner, s, pos, n, need, v.size)
		if err != nil {
			if errors.Is(err, errNotWaited) {
				return nil, nil, fmt.Errorf("read at %d: %w: %w", pos, err, ctx.Err())
			}
			return nil, nil, s.damage(p, v.seg, offset, readError(pos, err))
		}
		now := s.opt.Steady()
		known := 0
		if how == fromCache {
			known = int(of.checks.from(pos, now) - pos)
		}
		from, end, next, more, err := s.cut(p, window, offset, limit, maxBytes, known)
		if err != nil {
			putBuffer(buf)
			return nil, nil, s.damage(p, v.seg, offset, fmt.Errorf("near %d: %w", pos, err))
		}
		if end > from && !v.cleaned && batch.BaseOffset(window[from:]) > offset {
			putBuffer(buf)
			return nil, nil, s.damage(p, v.seg, offset, fmt.Errorf("%w: no batch holds offset %d", errDamaged, offset))
		}
		if end > from {
			if end > known && how != pastCache {
				of.checks.add(pos+int64(from), pos+int64(end), now)
			}
			p.remind(hint{offset: next, seg: v.seg, pos: pos + int64(end)})
			return buf, window[from:end], nil
		}
		putBuffer(buf)
		if more == 0 || pos+int64(from) >= v.size {
			if !v.cleaned && offset < limit {
				return nil, nil, s.damage(p, v.seg, offset, fmt.Errorf("%w: no batch holds offset %d", errDamaged, offset))
			}
			return nil, nil, nil
		}
		// The window holds no whole batch past offset: go on where it ends, with
		// room for the batch that begins there.
		pos += int64(from)
		need = more
		if int64(need) > v.size-pos {
			return nil, nil, s.damage(p, v.seg, offset, fmt.Errorf("%w: batch at %d ends past the segment", errDamaged, pos))
		}
		n = int(min(int64(max(need, maxBytes)), v.size-pos))
	}
}

// readError tells a file that is too short, which is damage, from a read that
// failed and may succeed another time.
func readError(pos int64, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: file ends before %d", errDamaged, pos)
	}
	return fmt.Errorf("read at %d: %w: %w", pos, span.ErrStorage, err)
}

// cut finds the run of whole batches with offset in it, below limit, of at most maxBytes
// unless it is a single one; they are checked, the records only past the first known
// bytes, and get leader epoch 0. need > 0 tells that the run begins at from but
// needs that many bytes.
func (s *Store) cut(p *partition, b []byte, offset, limit int64, maxBytes, known int) (from, end int, next int64, need int, err error) {
	pos := 0
	began := false
	for pos < len(b) {
		if len(b)-pos < batch.HeaderSize {
			need = batch.HeaderSize
			break
		}
		h, size, err := batch.Parse(b[pos:])
		if err != nil {
			return 0, 0, 0, 0, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if !placed(p.t.number, p.n, b[pos:]) {
			return 0, 0, 0, 0, fmt.Errorf("%w: the header of the batch at offset %d is not what was written there", errDamaged, h.BaseOffset)
		}
		if h.NextOffset() > limit {
			need = 0
			break
		}
		if h.NextOffset() <= offset {
			pos += size
			continue
		}
		if !began {
			from, end, began = pos, pos, true
		}
		if end > from && end-from+size > maxBytes {
			break
		}
		if size > len(b)-pos {
			need = size
			break
		}
		one := b[pos : pos+size]
		if pos+size > known {
			if err := batch.Verify(one); err != nil {
				return 0, 0, 0, 0, fmt.Errorf("%w: batch at offset %d: %w", errDamaged, h.BaseOffset, err)
			}
		}
		batch.SetLeaderEpoch(one, 0)
		pos += size
		end, next = pos, h.NextOffset()
	}
	if !began {
		from, end = pos, pos
		if pos >= len(b) || need > 0 {
			need = max(need, batch.HeaderSize)
		}
	}
	return from, end, next, need, nil
}

// How a window was read.
const (
	pastCache    = iota // from the disk
	throughCache        // from the page cache, or into it
	fromCache           // from the page cache, which held all of it
)

// window reads n bytes at pos, all below end, into a buffer; fewer where that suits the
// buffer, but not fewer than least.
//
// What the page cache does not hold is read past it: a reader who goes through a day of
// records would push out what everybody else reads, for bytes that nobody may want a
// second time, and pay for fresh pages with more CPU time than the disk takes. A
// segment that was read so to the length of itself is wanted again: from then on it
// goes through the cache, with the system's read-ahead.
// What may have to come from the disk is read in turns of the owners; see [coldReads].
func (of *openFile) window(ctx context.Context, owner string, s *Store, pos int64, n, least int, end int64) (buf *[]byte, window []byte, how int, err error) {
	how = throughCache
	all, known := of.f.Cached(pos, int64(n))
	if n >= s.log.directFrom() {
		switch {
		case all:
			how = fromCache
		case known && of.cold.Load() < end:
			how = pastCache
		}
	}
	if how != pastCache {
		if known && !all {
			turn, err := s.cold.enter(ctx, owner)
			if err != nil {
				return nil, nil, how, err
			}
			defer turn.Leave(0)
		}
		buf = getBuffer(n)
		if _, err := of.f.ReadAt(*buf, pos); err != nil {
			putBuffer(buf)
			return nil, nil, how, err
		}
		return buf, *buf, how, nil
	}
	// The largest run of whole blocks from that of pos on which the buffer holds.
	skip := int(pos % vfs.Block)
	got := 0
	waited := s.cold.do(ctx, s.done, owner, func() {
		// Not before it is this one's turn: many may wait.
		buf = getBuffer(max(n, skip+least+vfs.Block))
		whole := min((skip+n+vfs.Block-1)/vfs.Block, cap(*buf)/vfs.Block) * vfs.Block
		*buf = (*buf)[:whole]
		n = min(n, whole-skip)
		got, err = of.f.ReadDirect(*buf, pos-int64(skip))
	})
	if waited != nil {
		return nil, nil, how, waited
	}
	if got >= skip+n && (err == nil || errors.Is(err, io.EOF)) {
		of.cold.Add(int64(n))
		return buf, (*buf)[skip : skip+n], how, nil
	}
	putBuffer(buf)
	if err == nil {
		err = io.EOF
	}
	return nil, nil, how, err
}
