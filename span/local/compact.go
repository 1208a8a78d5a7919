package local

import (
	"fmt"

	"github.com/braidstream/braid/batch"
)

// eachBatch calls fn for every batch of a segment, checked. raw is valid during the call.
func (s *Store) eachBatch(p *partition, sg *segment, origin *segment, fn func(h batch.Header, raw []byte) (more bool, err error)) error {
	of, err := s.files.get(origin, sg.path(s.opt.Dir, p), false)
	if err != nil {
		if passed := s.passed(p, origin, anyOffset); passed != nil {
			return passed
		}
		return err
	}
	defer s.files.put(of)
	if err := of.newer(); err != nil {
		return err
	}
	window := getBuffer(1 << 20)
	defer putBuffer(window)
	err = scanHeaders(p, of.f, *window, segHeaderSize, sg.size, func(h batch.Header, raw []byte, pos int64) (bool, error) {
		if len(raw) < h.Size() {
			buf := getBuffer(h.Size())
			defer putBuffer(buf)
			if _, err := of.f.ReadAt(*buf, pos); err != nil {
				return false, readError(pos, err)
			}
			raw = *buf
		}
		if err := batch.Verify(raw); err != nil {
			return false, fmt.Errorf("%w: batch at offset %d: %w", errDamaged, h.BaseOffset, err)
		}
		return fn(h, raw)
	})
	if err == nil {
		of.f.Drop(0, sg.size)
		return nil
	}
	return s.damage(p, origin, anyOffset, err)
}

// abortedAt tells whether a record belongs to an aborted transaction.
func (w *work) abortedAt(producer, offset int64) bool {
	for i := range w.aborted {
		if a := &w.aborted[i]; a.producer == producer && a.first <= offset && offset < a.last {
			return true
		}
	}
	return false
}

// mapKeys notes the last offset of each key of the dirty segments, and sets w.end to the offset
// up to which all keys fitted, as Apache Kafka's cleaner: batches behind it stay as they are and are for another
// compaction. Of the batch at w.end some keys may be noted too; that it is there makes their former records superfluous.
// If that is the first of them, w.wide is set. last is the work of the pass before on the same batch, if there was one.
func (s *Store) mapKeys(p *partition, w, last *work, keys *keyMap, stop func() bool) error {
	w.end = w.segs[0].base
	if w.dirty > 0 {
		w.end = w.segs[w.dirty-1].next
	}
	first := true
	for i := w.dirty; i < len(w.segs); i++ {
		fits, seen := true, false
		err := s.eachBatch(p, &w.segs[i], w.origin[i], func(h batch.Header, raw []byte) (bool, error) {
			if stop() {
				return false, errStopped
			}
			if seen || first {
				w.end = h.BaseOffset
			}
			from := int64(0)
			if first && last != nil && last.end == h.BaseOffset {
				from = last.noted
			}
			w.wide, seen, first = first, true, false
			// A batch belongs to one transaction.
			if h.IsControl() || h.NumRecords == 0 || h.IsTransactional() && w.abortedAt(h.ProducerID, h.BaseOffset) {
				return true, nil
			}
			for r, err := range batch.Records(raw, unpackBudget) {
				if err != nil {
					return true, nil // such a batch is kept as it is
				}
				if r.Key == nil || r.Offset < from {
					continue
				}
				if fits = keys.put(r.Key, r.Offset); !fits {
					w.noted = r.Offset
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		if !fits {
			return nil
		}
		w.end = w.segs[i].next
	}
	w.wide = false
	return nil
}

// rewrite writes what is left of the segments into new ones. On an error it returns
// those that were begun.
func (s *Store) rewrite(p *partition, w *work, keys *keyMap, cfg *topicConfig, stop func() bool) (out []*segment, err error) {
	gen := uint32(0)
	for i := range w.segs {
		gen = max(gen, w.segs[i].gen)
	}
	o := &output{s: s, p: p, gen: gen + 1}
	defer o.release()
	now := s.aging.ms()
	for i := range w.segs {
		sg := &w.segs[i]
		if o.seg != nil && o.seg.size > segHeaderSize && o.seg.size+sg.size-segHeaderSize > cfg.segmentBytes {
			if err := o.finish(); err != nil {
				return o.done, err
			}
		}
		if o.seg == nil {
			if err := o.begin(sg); err != nil {
				return o.done, err
			}
		}
		err := s.eachBatch(p, sg, w.origin[i], func(h batch.Header, raw []byte) (bool, error) {
			if stop() {
				return false, errStopped
			}
			if h.BaseOffset >= w.end {
				// The keys from here on did not fit: the rest is a segment of its own, which no cleaner has seen.
				if o.seg.cleaned {
					if err := o.split(h.BaseOffset, sg); err != nil {
						return false, err
					}
				}
				if w.wide && h.BaseOffset == w.end {
					var err error
					if raw, err = w.thin(h, raw, keys); err != nil {
						return false, err
					}
				}
				return true, o.add(raw)
			}
			kept, err := w.keep(h, raw, keys, cfg, now)
			if err != nil || kept == nil {
				return err == nil, err
			}
			return true, o.add(kept)
		})
		if err != nil {
			return o.done, err
		}
		o.seg.next, o.seg.first = sg.next, sg.first
	}
	return o.done, o.finish()
}

// keep returns what is left of a batch: all of it, a smaller one with the same
// offsets and producer, or nil. What was kept as it is aliases raw.
func (w *work) keep(h batch.Header, raw []byte, keys *keyMap, cfg *topicConfig, now int64) ([]byte, error) {
	if h.NextOffset() <= w.start {
		return nil, nil
	}
	horizon, has := h.DeleteHorizon()
	expired := has && now > horizon
	// A producer's last batch says which sequence it has come to.
	anchor := h.HasProducer() && !h.IsControl() && w.last[h.ProducerID] == h.LastOffset()
	if h.IsControl() {
		// The data before it was cleaned in this pass or an earlier one.
		if expired {
			return nil, nil
		}
		if has {
			return raw, nil
		}
		return w.rebuild(h, raw, now+cfg.deleteRetention, func(*batch.Record) bool { return true })
	}
	if h.NumRecords == 0 {
		if anchor {
			return raw, nil
		}
		return nil, nil
	}
	if h.IsTransactional() && w.abortedAt(h.ProducerID, h.BaseOffset) {
		if !anchor {
			return nil, nil
		}
		return batch.Like(h).Build()
	}
	total, kept, tombstones := 0, 0, false
	stays := func(r *batch.Record) bool {
		if r.Offset < w.start || r.Key == nil || keys.last(r.Key) > r.Offset {
			return false
		}
		return r.Value != nil || !expired
	}
	for r, err := range batch.Records(raw, unpackBudget) {
		if err != nil {
			return raw, nil // the client's nonsense is not ours to drop
		}
		total++
		if stays(r) {
			kept++
			tombstones = tombstones || r.Value == nil
		}
	}
	switch {
	case kept == 0 && !anchor:
		return nil, nil
	case kept == total && (!tombstones || has):
		return raw, nil
	}
	to := int64(-1)
	switch {
	case has:
		to = horizon
	case tombstones:
		to = now + cfg.deleteRetention
	}
	return w.rebuild(h, raw, to, stays)
}

// thin returns what is left of a batch without the records that later ones of its own replace.
func (w *work) thin(h batch.Header, raw []byte, keys *keyMap) ([]byte, error) {
	replaced := 0
	stays := func(r *batch.Record) bool { return r.Key == nil || keys.last(r.Key) <= r.Offset }
	for r, err := range batch.Records(raw, unpackBudget) {
		if err != nil {
			return raw, nil // the client's nonsense is not ours to drop
		}
		if !stays(r) {
			replaced++
		}
	}
	if replaced == 0 {
		return raw, nil
	}
	horizon, has := h.DeleteHorizon()
	if !has {
		horizon = -1
	}
	return w.rebuild(h, raw, horizon, stays)
}

// rebuild makes the batch anew with the records that stay.
func (w *work) rebuild(h batch.Header, raw []byte, horizon int64, stays func(*batch.Record) bool) ([]byte, error) {
	b := batch.Like(h)
	if horizon >= 0 {
		b.DeleteHorizon(horizon)
	}
	for r, err := range batch.Records(raw, unpackBudget) {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if stays(r) {
			b.AddAt(*r)
		}
	}
	out, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("compact a batch: %w", err)
	}
	return out, nil
}

// output writes compacted segments.
type output struct {
	s    *Store
	p    *partition
	gen  uint32
	seg  *segment
	of   *openFile
	x    *segIndex
	buf  []byte
	at   int64 // where buf goes
	done []*segment
}

func (o *output) begin(like *segment) error {
	o.seg = &segment{base: like.base, gen: o.gen, size: segHeaderSize, next: like.next, maxTS: batch.NoTimestamp, first: like.first, cleaned: true}
	o.done = append(o.done, o.seg)
	of, err := o.s.files.get(o.seg, o.seg.path(o.s.opt.Dir, o.p), true)
	if err != nil {
		return err
	}
	o.of = of
	o.x = &segIndex{end: segHeaderSize}
	o.buf = append(o.buf[:0], segHeader(o.s.id, o.p.t.number, o.p.n, o.seg.base, o.seg.gen)...)
	o.at = 0
	return nil
}

// split ends the segment that was begun at offset, where sg goes on, and begins one that no cleaner has seen.
func (o *output) split(offset int64, sg *segment) error {
	if o.seg.base < offset {
		o.seg.next, o.seg.first = offset, sg.first
		if err := o.finish(); err != nil {
			return err
		}
		if err := o.begin(&segment{base: offset, next: sg.next, first: sg.first}); err != nil {
			return err
		}
	}
	o.seg.cleaned = false
	return nil
}

// add appends a batch; raw may be used again afterwards.
func (o *output) add(raw []byte) error {
	h, size, err := batch.Parse(raw)
	if err != nil {
		return fmt.Errorf("compact a batch: %w", err)
	}
	if len(o.buf) > 0 && len(o.buf)+size > writeBuffer {
		if err := o.write(); err != nil {
			return err
		}
	}
	from := len(o.buf)
	o.buf = append(o.buf, raw[:size]...)
	place(o.p.t.number, o.p.n, o.buf[from:])
	o.x.add(h.BaseOffset, o.seg.size, size, recordTime(&h))
	o.seg.size += int64(size)
	if h.NumRecords > 0 {
		o.seg.maxTS = max(o.seg.maxTS, recordTime(&h))
	}
	return nil
}

func (o *output) write() error {
	if _, err := o.of.f.WriteAt(o.buf, o.at); err != nil {
		return fmt.Errorf("write a compacted segment: %w", err)
	}
	o.s.stats.segmentBytes.Add(int64(len(o.buf)))
	o.at += int64(len(o.buf))
	o.buf = o.buf[:0]
	return nil
}

// finish closes the segment and syncs it.
func (o *output) finish() error {
	if o.seg == nil {
		return nil
	}
	o.buf = append(o.buf, o.x.encode(o.seg.next, o.seg.maxTS)...)
	if err := o.write(); err != nil {
		return err
	}
	if err := o.of.f.Sync(); err != nil {
		o.s.fail(err)
		return err
	}
	o.of.f.Drop(0, o.at)
	o.of.mu.Lock()
	o.of.index = o.x
	o.of.mu.Unlock()
	o.seg.closed = true
	o.s.files.put(o.of)
	o.seg, o.of = nil, nil
	return nil
}

func (o *output) release() {
	if o.of != nil {
		o.s.files.put(o.of)
	}
}
