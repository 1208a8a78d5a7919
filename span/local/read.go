package local

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/span"
)

const defaultReadBytes = 1 << 20

// read waits for records at r.Offset and returns them.
func (s *Store) read(ctx context.Context, l *log, r span.ReadRequest) (span.ReadResult, error) {
	if r.MaxBytes <= 0 {
		r.MaxBytes = defaultReadBytes
	}
	var timeout <-chan time.Time
	for {
		p, err := l.partition()
		if err != nil {
			return emptyRead(), err
		}
		p.mu.Lock()
		b, swaps := p.bounds(), p.swaps
		limit := b.HighWatermark
		if r.Committed {
			limit = b.LastStable
		}
		wait := r.Offset >= limit
		var wake <-chan struct{}
		if wait && r.MaxWait > 0 {
			wake = p.waiter()
		}
		p.mu.Unlock()
		out := span.ReadResult{Start: b.Start, HighWatermark: b.HighWatermark, LastStable: b.LastStable, Release: noRelease}
		lost := s.hole()
		if r.Offset < b.Start || r.Offset > b.HighWatermark && lost == nil {
			return out, fmt.Errorf("read at %d of [%d, %d): %w", r.Offset, b.Start, b.HighWatermark, span.ErrOffsetOutOfRange)
		}
		if p.t.gone.Load() {
			return out, errGone
		}
		if wait && lost != nil {
			// It may have been acknowledged, or be of a transaction whose marker is missing.
			return out, fmt.Errorf("read at %d: nothing tells what was there: %w", r.Offset, lost)
		}
		if !wait && r.Apart {
			if parts, next, release, ok := s.fetchApart(p, r.Offset, limit, r.MaxBytes); ok {
				out.Apart, out.Release = parts, release
				if r.Committed {
					var fits bool
					if out.Aborted, fits = p.abortedFor(r.Offset, next, swaps); !fits {
						release()
						continue
					}
				}
				return out, nil
			}
		}
		if !wait {
			buf, batches, err := s.fetch(ctx, r.Owner, p, r.Offset, limit, r.MaxBytes)
			if errors.Is(err, errTrimmed) {
				continue // and tell where the log begins now
			}
			if err != nil {
				return out, err
			}
			if len(batches) > 0 {
				if r.Committed {
					var fits bool
					if out.Aborted, fits = p.abortedFor(r.Offset, lastNext(batches), swaps); !fits {
						putBuffer(buf)
						continue
					}
				}
				out.Batches = batches
				out.Release = func() { putBuffer(buf) }
				return out, nil
			}
			putBuffer(buf)
			if r.MaxWait <= 0 {
				return out, nil
			}
			// Nothing but a compaction's gap up to the limit. More may have come while that was read, and
			// whoever told of it did not find us waiting.
			p.mu.Lock()
			now := p.bounds()
			moved := now.Start != b.Start || now.HighWatermark != b.HighWatermark || now.LastStable != b.LastStable || p.t.gone.Load()
			if !moved {
				wake = p.waiter()
			}
			p.mu.Unlock()
			if moved {
				continue
			}
		} else if r.MaxWait <= 0 {
			return out, nil
		}
		if timeout == nil {
			t := time.NewTimer(r.MaxWait)
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-wake:
		case <-timeout:
			return out, nil
		case <-ctx.Done():
			return out, ctx.Err()
		case <-s.done:
			return out, errClosed
		}
	}
}

func noRelease() {}

func emptyRead() span.ReadResult { return span.ReadResult{Release: noRelease} }

// lastNext is the offset past a run of whole batches.
func lastNext(run []byte) int64 {
	it := batch.NewIter(run)
	var next int64
	for it.Next() {
		next = it.Header.NextOffset()
	}
	return next
}

// fetch copies whole batches from offset on, all below limit, into a buffer. The
// first is the one that holds offset, or the first after it; it is returned
// whatever its size.
func (s *Store) fetch(ctx context.Context, owner string, p *partition, offset, limit int64, maxBytes int) (buf *[]byte, batches []byte, err error) {
	for range 16 {
		buf, batches, err = s.fetchOnce(ctx, owner, p, offset, limit, maxBytes)
		// The log's file was used again, or the segment was compacted away, between
		// the look-up and the read: look up anew.
		if !errors.Is(err, errRecycled) {
			return buf, batches, err
		}
	}
	return nil, nil, fmt.Errorf("read at %d: %w: %w", offset, err, span.ErrUnavailable)
}

func (s *Store) fetchOnce(ctx context.Context, owner string, p *partition, offset, limit int64, maxBytes int) (*[]byte, []byte, error) {
	for {
		buf, batches, next, err := s.fetchFrom(ctx, owner, p, offset, limit, maxBytes)
		if err != nil || len(batches) > 0 || next <= offset || next >= limit {
			return buf, batches, err
		}
		// A compaction left nothing up to the end of that segment.
		putBuffer(buf)
		offset = next
	}
}

// fetchFrom reads from where offset lies: the log, or one segment, whose end is
// next when there is nothing more in it.
func (s *Store) fetchFrom(ctx context.Context, owner string, p *partition, offset, limit int64, maxBytes int) (buf *[]byte, batches []byte, next int64, err error) {
	p.mu.Lock()
	// It began there when the reader looked, and what is found by the offset now is something else.
	if offset < p.start {
		p.mu.Unlock()
		return nil, nil, 0, errTrimmed
	}
	for _, f := range p.fenced {
		if offset >= f.from && offset < f.to {
			p.mu.Unlock()
			return nil, nil, 0, fmt.Errorf("offsets [%d, %d) are fenced off: %s: %w", f.from, f.to, f.reason, span.ErrStorage)
		}
		if offset < f.from {
			limit = min(limit, f.from)
		}
	}
	if i := p.refAt(offset); s.inLog(p, i, offset) {
		// Reading stays outside the lock: take the refs along.
		n, total := 0, 0
		for n < len(p.refs)-i {
			r := &p.refs[i+n]
			if r.next() > limit || n > 0 && total+int(r.size) > maxBytes {
				break
			}
			total += int(r.size)
			n++
		}
		var few [32]ref
		refs := append(few[:0], p.refs[i:i+n]...)
		p.mu.Unlock()
		buf, batches, err = s.fetchLog(ctx, owner, p, refs, total)
		return buf, batches, 0, err
	}
	v, pos, segLimit, err := p.lookup(offset)
	p.mu.Unlock()
	if err != nil || v.seg == nil {
		return nil, nil, 0, err
	}
	buf, batches, err = s.fetchSegment(ctx, owner, p, v, offset, min(limit, segLimit), pos, maxBytes)
	return buf, batches, segLimit, err
}

// inLog tells whether the batch of offset, whose ref is the i-th, is read from the log; under p.mu.
func (s *Store) inLog(p *partition, i int, offset int64) bool {
	// A ref below flushed is only worth something while its chunk is in memory.
	return i < len(p.refs) && (i > 0 || p.refs[0].base <= offset || offset >= p.flushed) &&
		(p.refs[i].base >= p.flushed || p.refs[i].lsn >= s.log.tail.first.Load())
}

// fetchLog copies batches out of the shared log: from memory, else from its files, for which owners take turns.
func (s *Store) fetchLog(ctx context.Context, owner string, p *partition, refs []ref, total int) (*[]byte, []byte, error) {
	if len(refs) == 0 {
		return nil, nil, nil
	}
	buf := getBuffer(total)
	out := (*buf)[:0]
	var turn fair.Pass
	defer func() { turn.Leave(0) }()
	for i := range refs {
		r := &refs[i]
		b := (*buf)[len(out) : len(out)+int(r.size)]
		c := s.log.tail.get(r.lsn)
		if c != nil {
			copy(b, c.buf[r.lsn-c.lsn:])
			c.unpin()
			batch.SetLeaderEpoch(b, 0)
			out = (*buf)[:len(out)+int(r.size)]
			continue
		}
		if !turn.Held() {
			var err error
			if turn, err = s.cold.enter(ctx, owner); err != nil {
				putBuffer(buf)
				return nil, nil, fmt.Errorf("read at %d: %w: %w", r.base, err, ctx.Err())
			}
		}
		if err := s.log.read(b, r.lsn); err != nil {
			if len(out) > 0 {
				break
			}
			putBuffer(buf)
			return nil, nil, err
		} else if batch.BaseOffset(b) != r.base || !placed(p.t.number, p.n, b) || batch.Verify(b) != nil {
			putBuffer(buf)
			return nil, nil, fmt.Errorf("batch at offset %d in the log: %w", r.base, errDamaged)
		}
		batch.SetLeaderEpoch(b, 0)
		out = (*buf)[:len(out)+int(r.size)]
	}
	return buf, out, nil
}

// hint remembers where a sequential reader goes on.
type hint struct {
	offset int64
	seg    *segment
	pos    int64
}

const hintsPerPartition = 4

// lookup finds the segment of offset, and the position of its batch if a former
// read ended there, else 0; under mu. limit is the end of what may be served from it.
func (p *partition) lookup(offset int64) (v view, pos, limit int64, err error) {
	first := sort.Search(len(p.segs), func(i int) bool { return p.segs[i].next > offset })
	if first == len(p.segs) {
		return v, 0, 0, nil
	}
	sg := p.segs[first]
	if err := sg.fence(); err != nil {
		return v, 0, 0, err
	}
	v = view{seg: sg, size: sg.size, closed: sg.closed, cleaned: sg.cleaned}
	for i := range p.hints {
		if h := &p.hints[i]; h.seg == sg && h.offset == offset {
			pos = h.pos
		}
	}
	return v, pos, sg.next, nil
}

func (p *partition) remind(h hint) {
	p.mu.Lock()
	if p.hints == nil {
		p.hints = make([]hint, hintsPerPartition)
	}
	for i := range p.hints {
		// Readers at the same place share one.
		if p.hints[i] == h {
			p.mu.Unlock()
			return
		}
	}
	p.hints[p.nextHint%hintsPerPartition] = h
	p.nextHint++
	p.mu.Unlock()
}

// errTrimmed: the log begins past what was looked for, by now.
var errTrimmed = fmt.Errorf("log was trimmed meanwhile: %w", span.ErrOffsetOutOfRange)

// anyOffset is the offset of those who look for none in particular.
const anyOffset = math.MaxInt64

// damage fences a segment whose bytes are not what was written. Reads that
// failed for another reason fence nothing. offset is what was looked for.
func (s *Store) damage(p *partition, seg *segment, offset int64, err error) error {
	if passed := s.passed(p, seg, offset); passed != nil {
		return passed
	}
	if !errors.Is(err, errDamaged) {
		return fmt.Errorf("partition %d: %w", p.n, err)
	}
	p.mu.Lock()
	fresh := seg.damaged == ""
	if fresh {
		seg.damaged = err.Error()
	}
	p.mu.Unlock()
	if fresh {
		s.opt.Logger.Error("segment is damaged and fenced off", "cluster", s.opt.Name, "topic", p.t.name,
			"partition", p.n, "segment", seg.path(s.opt.Dir, p), "error", err)
	}
	return err
}

// passed tells what became of a segment since it was looked up, nil if it is still what it was: its topic is
// gone, the log begins past the offset that was looked for, or a compaction or a trim took it out, and what is
// wanted is to be looked up anew. Its file may be away in each of these cases.
func (s *Store) passed(p *partition, seg *segment, offset int64) error {
	if p.t.gone.Load() {
		return errGone
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset < p.start {
		return errTrimmed
	}
	if slices.Contains(p.segs, seg) {
		return nil
	}
	return errRecycled
}
