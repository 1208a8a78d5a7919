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
	if ms == span.MaxTimestamp {
		var err error
		if ms, err = s.largest(ctx, p); err != nil || ms == batch.NoTimestamp {
			return span.Position{}, false, err
		}
	}
	p.mu.Lock()
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

// largest is the largest timestamp of the records from the log start on, batch.NoTimestamp if there are none. A segment knows its
// own; but those of one that lies across the start may be below it, and of one that was compacted it may be that of a batch
// of which no record is left.
func (s *Store) largest(ctx context.Context, p *partition) (int64, error) {
	type doubtful struct {
		v     view
		maxTS int64
		fence error
	}
	p.mu.Lock()
	start := p.start
	ts := batch.NoTimestamp
	var segs []doubtful
	for _, sg := range p.segs {
		switch {
		case sg.next <= start:
		case sg.base < start || sg.cleaned:
			segs = append(segs, doubtful{view{sg, sg.size, sg.closed, sg.cleaned}, sg.maxTS, sg.fence()})
		default:
			ts = max(ts, sg.maxTS)
		}
	}
	var refs []ref
	for i := range p.refs {
		switch r := &p.refs[i]; {
		case r.base < p.flushed || r.base >= p.hw || r.next() <= start:
		case r.base < start:
			refs = append(refs, *r)
		default:
			ts = max(ts, r.maxTS)
		}
	}
	p.mu.Unlock()
	for _, d := range slices.Backward(segs) {
		if d.maxTS <= ts {
			continue
		}
		if d.fence != nil {
			return ts, d.fence
		}
		of, err := s.largestInSegment(p, d.v, start, ts)
		if err != nil {
			return ts, err
		}
		ts = max(ts, of)
	}
	for _, r := range refs {
		if r.maxTS <= ts {
			continue
		}
		buf, b, err := s.fetchLog(ctx, "", p, []ref{r}, int(r.size))
		if err != nil {
			return ts, err
		}
		ts = max(ts, largestInBatch(b, start))
		putBuffer(buf)
	}
	return ts, nil
}

// largestInSegment is the largest timestamp in a segment of the records from start on, if it is above ts.
func (s *Store) largestInSegment(p *partition, v view, start, ts int64) (int64, error) {
	of, err := s.files.get(v.seg, v.seg.path(s.opt.Dir, p), false)
	if err != nil {
		return 0, s.damage(p, v.seg, anyOffset, err)
	}
	defer s.files.put(of)
	of.mu.Lock()
	x, err := of.indexOf(p, v)
	var entries []indexEntry
	from := int64(0)
	if err == nil {
		entries, from = slices.Clone(x.entries), x.find(start)
	}
	of.mu.Unlock()
	// From the end: that is where the largest is nearly always.
	to := v.size
	for i := len(entries) - 1; err == nil && i >= 0 && entries[i].pos >= from; i-- {
		if entries[i].maxTS > ts {
			err = s.eachIn(p, of, entries[i].pos, to, func(h *batch.Header) bool {
				return h.NumRecords > 0 && h.NextOffset() > start && recordTime(h) > ts
			}, func(b []byte) (bool, error) {
				ts = max(ts, largestInBatch(b, start))
				return true, nil
			})
		}
		to = entries[i].pos
	}
	if err != nil {
		return 0, s.damage(p, v.seg, anyOffset, err)
	}
	return ts, nil
}

// largestInBatch is the largest timestamp of the records of b from start on.
func largestInBatch(b []byte, start int64) int64 {
	h, _, err := batch.Parse(b)
	if err != nil {
		return batch.NoTimestamp
	}
	if h.BaseOffset >= start || h.LogAppendTime() {
		return recordTime(&h)
	}
	ts, err := batch.LargestFrom("", b, start)
	if err != nil {
		return recordTime(&h) // the records are the client's: as in timeInBatch
	}
	return ts
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
	var at span.Position
	var found bool
	err = s.eachIn(p, of, pos, v.size, func(h *batch.Header) bool { return h.MaxTimestamp >= ms && h.NextOffset() > start }, func(b []byte) (bool, error) {
		var err error
		at, found, err = timeInBatch(b, ms, start)
		return !found, err
	})
	if err != nil {
		return span.Position{}, false, s.damage(p, v.seg, anyOffset, err)
	}
	return at, found, nil
}

// eachIn calls fn for those batches of a segment's file in [from, to) whose headers are wanted, checked. b is valid during the call.
func (s *Store) eachIn(p *partition, of *openFile, from, to int64, wanted func(*batch.Header) bool, fn func(b []byte) (more bool, err error)) error {
	window := getBuffer(64 << 10)
	defer putBuffer(window)
	return scanHeaders(p, of.f, *window, from, to, func(h batch.Header, _ []byte, pos int64) (bool, error) {
		if !wanted(&h) {
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
		return fn(*b)
	})
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
