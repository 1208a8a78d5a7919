package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// unpackBudget bounds what one batch may unpack to when its records are looked at.
const unpackBudget = 256 << 20

// offsetFor finds the first record with a timestamp >= ms, or that with the largest.
func (s *Store) offsetFor(ctx context.Context, p *partition, ms int64) (span.Position, bool, error) {
	for range 16 {
		at, found, err := s.offsetForOnce(ctx, p, ms)
		if !errors.Is(err, errRecycled) {
			return at, found, err
		}
	}
	return span.Position{}, false, fmt.Errorf("look up a timestamp: %w", span.ErrUnavailable)
}

func (s *Store) offsetForOnce(ctx context.Context, p *partition, ms int64) (span.Position, bool, error) {
	p.mu.Lock()
	if ms == span.MaxTimestamp {
		ms = p.maxTimestamp()
		if ms == batch.NoTimestamp {
			p.mu.Unlock()
			return span.Position{}, false, nil
		}
	}
	start, hw, flushed := p.start, p.hw, p.flushed
	type candidate struct {
		v     view
		fence error
	}
	var segs []candidate
	for _, sg := range p.segs {
		if sg.maxTS >= ms && sg.next > start {
			segs = append(segs, candidate{view{sg, sg.size, sg.closed, sg.cleaned}, sg.fence()})
		}
	}
	var refs []ref
	for i := range p.refs {
		if r := &p.refs[i]; r.base >= flushed && r.base < hw && r.maxTS >= ms && r.next() > start {
			refs = append(refs, *r)
		}
	}
	p.mu.Unlock()
	for _, c := range segs {
		if c.fence != nil {
			// It may be in there: a later one would let its reader pass over records that nobody has said are lost.
			return span.Position{}, false, c.fence
		}
		at, found, err := s.timeInSegment(p, c.v, ms, start)
		if err != nil || found {
			return at, found, err
		}
	}
	for i := range refs {
		buf, b, err := s.fetchLog(ctx, "", p, refs[i:i+1], int(refs[i].size))
		if err != nil {
			return span.Position{}, false, err
		}
		at, found, err := timeInBatch(b, ms, start)
		putBuffer(buf)
		if err != nil || found {
			return at, found, err
		}
	}
	return span.Position{}, false, nil
}

// timeInSegment looks for the time in one segment.
func (s *Store) timeInSegment(p *partition, v view, ms, start int64) (span.Position, bool, error) {
	of, err := s.files.get(v.seg, v.seg.path(s.opt.Dir, p), false)
	if err != nil {
		return span.Position{}, false, s.damage(p, v.seg, anyOffset, err)
	}
	defer s.files.put(of)
	of.mu.Lock()
	x, err := of.indexOf(p, v)
	if err != nil {
		of.mu.Unlock()
		return span.Position{}, false, s.damage(p, v.seg, anyOffset, err)
	}
	pos, ok := x.findTime(ms)
	of.mu.Unlock()
	if !ok {
		return span.Position{}, false, nil
	}
	window := getBuffer(64 << 10)
	defer putBuffer(window)
	var at span.Position
	var found bool
	err = scanHeaders(p, of.f, *window, pos, v.size, func(h batch.Header, _ []byte, pos int64) (bool, error) {
		if h.MaxTimestamp < ms || h.NextOffset() <= start {
			return true, nil
		}
		b := getBuffer(h.Size())
		defer putBuffer(b)
		if _, err := of.f.ReadAt(*b, pos); err != nil {
			return false, readError(pos, err)
		}
		if err := batch.Verify(*b); err != nil || !placed(p.t.number, p.n, *b) {
			return false, fmt.Errorf("%w: batch at offset %d", errDamaged, h.BaseOffset)
		}
		var err error
		at, found, err = timeInBatch(*b, ms, start)
		return !found, err
	})
	if err != nil {
		return span.Position{}, false, s.damage(p, v.seg, anyOffset, err)
	}
	return at, found, nil
}

// timeInBatch finds the first record of b at or past start with a timestamp >= ms.
func timeInBatch(b []byte, ms, start int64) (span.Position, bool, error) {
	h, _, err := batch.Parse(b)
	if err != nil {
		return span.Position{}, false, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if h.NumRecords == 0 {
		return span.Position{}, false, nil
	}
	if h.LogAppendTime() && h.BaseOffset >= start && h.LastOffsetDelta == h.NumRecords-1 {
		return span.Position{Offset: h.BaseOffset, Timestamp: h.MaxTimestamp}, h.MaxTimestamp >= ms, nil
	}
	offset, timestamp, found, err := batch.FirstAt("", b, ms, start)
	if err != nil {
		// The records are the client's: one who packs nonsense costs no one else.
		return span.Position{Offset: max(h.BaseOffset, start), Timestamp: h.MaxTimestamp}, true, nil
	}
	return span.Position{Offset: offset, Timestamp: timestamp}, found, nil
}

func sortProducers(out []span.Producer) {
	slices.SortFunc(out, func(a, b span.Producer) int { return cmp.Compare(a.ID, b.ID) })
}
