package chain

import (
	"context"
	"fmt"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// findBudget bounds what is read to find a duplicate's offset.
const findBudget = 64 << 20

// findBatch looks for a producer's batch in the ended spans, backwards from the
// newest, by the headers alone. It gives -1 when the batch is not found within
// the budget; the batch may still be there.
func (p *Partition) findBatch(ctx context.Context, producer int64, epoch int16, first, last int32) (int64, error) {
	chain := p.view.Load().chain
	budget := findBudget
	for i := len(chain.Spans) - 1; i >= 0 && budget > 0; i-- {
		s := &chain.Spans[i]
		if s.IsOpen() || ReadableCopy(s) < 0 {
			continue
		}
		h, err := p.logFor(s)
		if err != nil {
			return -1, err
		}
		f := finder{log: h.log, copy: h.copy, producer: producer, epoch: epoch, first: first, last: last, budget: &budget}
		offset, done, err := f.backwards(ctx, s)
		if err != nil || done {
			return offset, err
		}
	}
	return -1, nil
}

type finder struct {
	log         span.Log
	copy        *catalog.Copy
	producer    int64
	epoch       int16
	first, last int32
	budget      *int
}

// backwards searches one span in strides that grow, each read forwards. done is
// true when the batch was found, or is known not to lie further back.
func (f *finder) backwards(ctx context.Context, s *catalog.Span) (offset int64, done bool, err error) {
	begin, hi := ToPhysical(f.copy, s.Start), ToPhysical(f.copy, s.End)
	for stride := int64(512); hi > begin && *f.budget > 0; stride *= 4 {
		lo := max(begin, hi-stride)
		offset, done, err := f.forwards(ctx, lo, hi)
		if err != nil || done {
			return offset, done, err
		}
		hi = lo
	}
	return -1, false, nil
}

func (f *finder) forwards(ctx context.Context, lo, hi int64) (offset int64, done bool, err error) {
	for at := lo; at < hi && *f.budget > 0; {
		rr, err := f.log.Read(ctx, span.ReadRequest{Offset: at, MaxBytes: feedMax})
		if err != nil {
			return -1, false, fmt.Errorf("look for a batch at %d: %w", at, err)
		}
		*f.budget -= len(rr.Batches)
		next := at
		it := batch.NewIter(rr.Batches)
		for it.Next() && it.Header.BaseOffset < hi {
			h := &it.Header
			next = h.NextOffset()
			if h.ProducerID != f.producer || h.ProducerEpoch > f.epoch || h.IsControl() {
				continue
			}
			if h.ProducerEpoch == f.epoch && h.BaseSequence == f.first && h.LastSequence() == f.last {
				offset := ToLogical(f.copy, h.BaseOffset)
				rr.Release()
				return offset, true, nil
			}
			// What is older than the batch was found: it is not before this.
			_, after := ahead(h.BaseSequence, f.first)
			done = done || h.ProducerEpoch < f.epoch || after
		}
		err = it.Err()
		rr.Release()
		if err != nil {
			return -1, false, err
		}
		if next == at {
			break
		}
		at = next
	}
	return -1, done, nil
}
