package local

import (
	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

const (
	blockSize = vfs.Block
	// apartLeast is the size of a batch from which it is worth to be handed out by itself.
	apartLeast = 4 << 10
)

// fetchApart is fetch for records that the page cache holds and that were checked
// since they came there, given out without a copy. false means that fetch has to do
// it: for what is in memory, cold, small, or in any way odd. release is to be called once.
func (s *Store) fetchApart(p *partition, offset, limit int64, maxBytes int) (parts []span.Apart, next int64, release func(), ok bool) {
	p.mu.Lock()
	if offset < p.start || len(p.fenced) > 0 || s.inLog(p, p.refAt(offset), offset) {
		p.mu.Unlock()
		return nil, 0, nil, false
	}
	v, pos, segLimit, err := p.lookup(offset)
	p.mu.Unlock()
	if err != nil || v.seg == nil {
		return nil, 0, nil, false
	}
	of, err := s.files.get(v.seg, v.seg.path(s.opt.Dir, p), false)
	if err != nil {
		return nil, 0, nil, false
	}
	defer s.files.put(of)
	slack := 0
	if pos == 0 {
		of.mu.Lock()
		x, err := of.indexOf(p, v)
		if err == nil {
			pos = x.find(offset)
		}
		of.mu.Unlock()
		if err != nil {
			return nil, 0, nil, false
		}
		slack = indexEvery
	}
	// What lies in the last block of an open segment is written again with what comes after it.
	end := v.size / blockSize * blockSize
	n := min(int64(maxBytes+slack), end-pos)
	if n < int64(s.log.directFrom()) {
		return nil, 0, nil, false
	}
	if all, _ := of.f.Cached(pos, n); !all || of.checks.from(pos, s.opt.Steady()) < pos+n {
		return nil, 0, nil, false
	}
	known := pos + n
	least := int64(batch.HeaderSize)
	for range 2 {
		w := s.files.maps.get(of, pos, least, end)
		if w == nil {
			return nil, 0, nil, false
		}
		if parts, next, pos, least = s.walkApart(p, w, &v, pos, known, offset, min(limit, segLimit), maxBytes); len(parts) > 0 {
			p.remind(hint{offset: next, seg: v.seg, pos: pos})
			return parts, next, func() { s.files.maps.put(w) }, true
		}
		s.files.maps.put(w)
		if least == 0 {
			break
		}
		// The window ends within the batch at pos: another one begins with it.
	}
	return nil, 0, nil, false
}

// walkApart collects batches from the one that holds offset on, which is at pos or
// behind it, and returns where they end. What does not lie below known as a whole may be cold, or
// unchecked since it was read anew, and is left to fetch. Without any, need > 0 tells how many bytes a window must
// have from there on.
func (s *Store) walkApart(p *partition, w *mapping, v *view, pos, known, offset, limit int64, maxBytes int) (parts []span.Apart, next, at, need int64) {
	to := w.from + int64(len(w.mem))
	total := 0
	for at = pos; ; {
		if at+batch.HeaderSize > known {
			break
		}
		if at+batch.HeaderSize > to {
			need = batch.HeaderSize
			break
		}
		b, ok := w.find(at)
		if !ok {
			// Not from the mapping: a read that fails is an error.
			if _, err := w.of.f.ReadAt(b.header[:], at); err != nil {
				return nil, 0, at, 0
			}
			h, size, err := batch.Parse(b.header[:])
			if err != nil || !placed(p.t.number, p.n, b.header[:]) {
				return nil, 0, at, 0
			}
			b.pos, b.size, b.base, b.next = at, size, h.BaseOffset, h.NextOffset()
			w.note(b)
		}
		if b.next > limit {
			break
		}
		if b.next <= offset {
			at += int64(b.size)
			continue
		}
		if len(parts) == 0 && b.base > offset && !v.cleaned {
			return nil, 0, at, 0
		}
		if len(parts) > 0 && total+b.size > maxBytes {
			break
		}
		if b.size < apartLeast {
			if total < maxBytes/2 {
				return nil, 0, at, 0
			}
			break
		}
		if at+int64(b.size) > known {
			break
		}
		if at+int64(b.size) > to {
			need = int64(b.size)
			break
		}
		if parts == nil {
			parts = make([]span.Apart, 0, maxBytes/max(b.size, apartLeast)+1)
		}
		header := append([]byte(nil), b.header[:]...)
		batch.SetLeaderEpoch(header, 0)
		from := at - w.from
		parts = append(parts, span.Apart{Header: header, Rest: w.mem[from+batch.HeaderSize : from+int64(b.size) : from+int64(b.size)]})
		total += b.size
		at, next = at+int64(b.size), b.next
	}
	return parts, next, at, need
}
