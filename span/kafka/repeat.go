package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

const (
	// maxLooks is how many refused batches are looked up at a time, per broker.
	maxLooks = 4
	// lookBudget bounds what is read of a log for one of them.
	lookBudget = 64 << 20
	lookBytes  = 256 << 10
)

// look needs p.mu. e was refused as out of order, and may be in the log all the same: a
// broker tells a producer's last five batches from new ones only as long as it runs.
// One that was killed recovers its log segment by segment and takes a snapshot
// of the producers after each (LogLoader.recoverSegment), a snapshot has the
// last batch alone, and so the retry of any before it is out of order. Clients
// answer that with a new epoch, and append what was there already a second time.
//
// So the log is searched. Nothing waits for that but e: if it is in the log, those
// behind it have found their places without it.
func (p *partition) look(b *broker, e *entry) {
	p.drop(e)
	p.s.spawn(func() {
		ctx, cancel := context.WithDeadline(p.s.closing, e.a.Deadline)
		defer cancel()
		offset, start, err := int64(-1), int64(-1), error(nil)
		select {
		case b.looks <- struct{}{}:
			offset, start, err = p.find(ctx, e.a.Batch)
			<-b.looks
		case <-ctx.Done():
			err = ctx.Err()
		}
		switch {
		case err == nil && offset >= 0:
			e.a.BaseOffset, e.a.LogStart, e.a.Duplicate = offset, start, true
		case err == nil, errors.Is(err, span.ErrDenied), errors.Is(err, span.ErrGone):
			e.a.Err = &span.RejectedError{Code: e.code}
		default:
			// Where it cannot be looked up a definite refusal might be a lie.
			e.a.Err = fmt.Errorf("%w: %w: not looked up: %w", span.ErrUnknownOutcome, e.code, err)
		}
		p.outstanding.Add(-1)
		p.s.stats.leave(e.a)
		e.a.Done(e.a)
	})
}

// find looks for an idempotent producer's batch in the log, backwards from its end;
// -1 when it is not there, or further back than is looked.
func (p *partition) find(ctx context.Context, raw []byte) (offset, start int64, err error) {
	want, _, err := batch.Parse(raw)
	if err != nil {
		return -1, -1, err
	}
	producers, err := p.Producers(ctx)
	if err != nil {
		return -1, -1, err
	}
	candidate := false
	for i := range producers {
		s := &producers[i]
		if s.ID == want.ProducerID && s.Epoch == want.ProducerEpoch && s.LastSequence >= 0 {
			candidate = !sequenceAfter(want.LastSequence(), s.LastSequence)
		}
	}
	if !candidate {
		return -1, -1, nil
	}
	o, err := p.Offsets(ctx)
	if err != nil {
		return -1, -1, err
	}
	// What is not committed yet is not read, nor may it be acknowledged.
	for end := o.End; o.HighWatermark < end; {
		if err := p.s.pause(ctx, retryFirst); err != nil {
			return -1, -1, err
		}
		if o, err = p.Offsets(ctx); err != nil {
			return -1, -1, err
		}
		end = min(end, o.End)
	}
	budget := lookBudget
	hi := o.HighWatermark
	for stride := int64(256); hi > o.Start && budget > 0; stride *= 4 {
		lo := max(o.Start, hi-stride)
		offset, older, err := p.findIn(ctx, &want, lo, hi, &budget)
		if err != nil || offset >= 0 || older {
			return offset, o.Start, err
		}
		hi = lo
	}
	return -1, o.Start, nil
}

// findIn looks between two offsets. older tells that a batch of the producer from before want was met.
func (p *partition) findIn(ctx context.Context, want *batch.Header, lo, hi int64, budget *int) (offset int64, older bool, err error) {
	for at := lo; at < hi && *budget > 0; {
		r, err := p.Read(ctx, span.ReadRequest{Offset: at, MaxBytes: lookBytes})
		if err != nil {
			return -1, false, err
		}
		*budget -= len(r.Batches)
		next := at
		it := batch.NewIter(r.Batches)
		for it.Next() && it.Header.BaseOffset < hi {
			h := &it.Header
			next = h.NextOffset()
			if h.ProducerID != want.ProducerID || h.IsControl() {
				continue
			}
			if h.ProducerEpoch == want.ProducerEpoch && h.BaseSequence == want.BaseSequence && h.LastSequence() == want.LastSequence() {
				offset := h.BaseOffset
				r.Release()
				return offset, false, nil
			}
			older = older || h.ProducerEpoch < want.ProducerEpoch ||
				h.ProducerEpoch == want.ProducerEpoch && sequenceAfter(want.BaseSequence, h.BaseSequence)
		}
		err = it.Err()
		r.Release()
		if err != nil {
			return -1, false, err
		}
		if next == at {
			break
		}
		at = next
	}
	return -1, older, nil
}

// sequenceAfter tells whether sequence a comes after b. They wrap, so half of the
// space counts as past.
func sequenceAfter(a, b int32) bool {
	d := (a - b) & 0x7fffffff
	return d != 0 && d < 1<<30
}
