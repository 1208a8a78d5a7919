package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/audit"
)

// auditLog is the audit topic's partition; *chain.Partition is one.
type auditLog interface {
	Offsets(ctx context.Context, committed bool) (start, end int64, epoch int32, err error)
	OffsetFor(ctx context.Context, ms int64) (offset, timestamp int64, epoch int32, found bool, err error)
	Read(ctx context.Context, r chain.ReadRequest) (chain.ReadResult, error)
}

const (
	// maxAuditRead bounds what one query reads of the topic, in bytes, and so the work and the time.
	maxAuditRead = 64 << 20
	// auditWindow bounds what is read of it at once. It is larger than a batch (topicLines of the longest lines there are).
	auditWindow = 8 << 20
	// auditStride is how many offsets the first window has.
	auditStride = 1000
	// auditLate is how long after an event its line may come to the topic and still be found by a query that has an
	// end. One without is complete whatever comes when.
	auditLate = time.Minute
)

// auditReader reads the topic backwards, window by window, each of them forwards: who asks wants the newest events, and
// of a topic that is longer than what may be read those are what there is to tell.
type auditReader struct {
	log   auditLog
	query audit.Query
	left  int // bytes
}

// readAudit gives the newest events that a query selects.
func readAudit(ctx context.Context, log auditLog, q audit.Query) (audit.Page, error) {
	r := &auditReader{log: log, query: q, left: maxAuditRead}
	lo, hi, err := r.bounds(ctx)
	if err != nil {
		return audit.Page{}, err
	}
	var pages []audit.Page
	stride := int64(auditStride)
	unread := time.Time{} // no event that was not read is later
	for hi > lo && r.left > 0 && !r.enough(pages, unread) {
		from := max(lo, hi-stride)
		w, err := r.window(ctx, from, hi)
		if errors.Is(err, span.ErrOffsetOutOfRange) {
			// Retention was quicker.
			start, _, _, oerr := r.log.Offsets(ctx, false)
			if oerr != nil || start <= lo {
				return audit.Page{}, errors.Join(err, oerr)
			}
			lo = start
			continue
		}
		if err != nil {
			return audit.Page{}, err
		}
		if !w.whole {
			if hi, err = r.pastGap(ctx, w.next, hi); err != nil {
				return audit.Page{}, err
			}
			stride = max(1, (w.next-from)/2)
			continue
		}
		if !w.first.IsZero() {
			unread = w.first.Add(time.Millisecond) // which times of appends are cut to
		}
		pages, hi = append(pages, w.page), from
		if w.bytes < auditWindow/4 {
			stride = min(2*stride, 1<<40)
		}
	}
	slices.Reverse(pages) // as they were written
	page := audit.Merge(q, pages...)
	if hi > lo {
		if unread.IsZero() {
			unread = time.Now() // nothing could be read
		}
		if unread.After(page.From) {
			page.From = unread
		}
	}
	return page, nil
}

// enough tells whether nothing that was not read belongs to the page.
func (r *auditReader) enough(pages []audit.Page, unread time.Time) bool {
	n, limit := 0, audit.NewNewest(r.query).Limit()
	for i := range pages {
		n += len(pages[i].Events)
	}
	if n < limit || unread.IsZero() {
		return false
	}
	list := audit.Merge(r.query, pages...).Events
	return len(list) >= limit && unread.Before(list[0].Time)
}

// bounds are the offsets that a query is about.
func (r *auditReader) bounds(ctx context.Context) (lo, hi int64, err error) {
	if lo, hi, _, err = r.log.Offsets(ctx, false); err != nil {
		return 0, 0, err
	}
	// A record's time is that of its append: never before the event's.
	if !r.query.Since.IsZero() {
		at, _, _, there, err := r.log.OffsetFor(ctx, r.query.Since.UnixMilli())
		if err != nil {
			return 0, 0, err
		}
		if !there {
			return hi, hi, nil
		}
		lo = max(lo, at)
	}
	if !r.query.Until.IsZero() {
		at, _, _, there, err := r.log.OffsetFor(ctx, r.query.Until.Add(auditLate).UnixMilli())
		if err != nil {
			return 0, 0, err
		}
		if there {
			hi = min(hi, at)
		}
	}
	return lo, hi, nil
}

// window is what a range of offsets holds.
type window struct {
	page  audit.Page
	bytes int
	first time.Time // of the append of its first record; zero: it has none
	whole bool      // else it holds more than is read at once, and next is where that ended
	next  int64
}

func (r *auditReader) window(ctx context.Context, from, to int64) (w window, err error) {
	found := audit.NewNewest(r.query)
	w.next = from
	for w.next < to {
		if w.bytes >= auditWindow && to-from > 1 {
			return w, nil
		}
		res, err := r.log.Read(ctx, chain.ReadRequest{Offset: w.next, MaxBytes: 1 << 20, ClientEpoch: -1, LastFetchedEpoch: -1})
		if err != nil {
			return w, err
		}
		w.bytes, r.left = w.bytes+len(res.Batches), r.left-len(res.Batches)
		next, err := eachAuditRecord(res.Batches, w.next, func(rec *batch.Record) {
			if rec.Offset < from || rec.Offset >= to {
				return
			}
			if at := time.UnixMilli(rec.Timestamp).UTC(); w.first.IsZero() || at.Before(w.first) {
				w.first = at
			}
			if e, ok := audit.Parse(rec.Value); ok {
				found.Add(&e)
			}
		})
		if res.Release != nil {
			res.Release()
		}
		if err != nil {
			return w, err
		}
		if next <= w.next {
			break // nothing is behind it
		}
		w.next = next
	}
	w.page, w.whole = found.Page(), true
	return w, nil
}

// pastGap is where records end between two offsets, the first of which lies behind some, within half of what lies
// between: after the loss of a cluster 2^32 offsets are nobody's.
func (r *auditReader) pastGap(ctx context.Context, from, to int64) (int64, error) {
	for to-from > auditStride {
		mid := from + (to-from)/2
		res, err := r.log.Read(ctx, chain.ReadRequest{Offset: mid, MaxBytes: 1, ClientEpoch: -1, LastFetchedEpoch: -1})
		if err != nil {
			return to, err
		}
		r.left -= len(res.Batches)
		some := false
		_, err = eachAuditRecord(res.Batches, mid, func(rec *batch.Record) { some = some || rec.Offset >= mid && rec.Offset < to })
		if res.Release != nil {
			res.Release()
		}
		if err != nil || some {
			return to, err
		}
		to = mid
	}
	return to, nil
}

// eachAuditRecord calls f with the records of whole batches, and returns the offset after them. A record aliases the
// batches.
func eachAuditRecord(b []byte, from int64, f func(*batch.Record)) (next int64, err error) {
	for next = from; len(b) > 0; {
		h, size, err := batch.Parse(b)
		if err != nil {
			return next, err
		}
		for rec, err := range batch.Records(b[:size], maxAuditRead) {
			if err != nil {
				return next, err
			}
			if !h.IsControl() {
				f(rec)
			}
		}
		next, b = max(next, h.NextOffset()), b[size:]
	}
	return next, nil
}
