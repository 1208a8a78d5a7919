package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

const (
	defaultReadBytes = 1 << 20
	// readTries bounds how often a read looks for another leader.
	readTries = 20
)

// readMark remembers which leader epoch the batch before an offset has, so that
// the next read from there lets the broker tell whether its log diverges (KIP-595).
type readMark struct {
	next  int64
	epoch int32
}

// Read implements [span.Log].
func (p *partition) Read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	p.s.stats.reads.Add(1)
	defer p.s.stats.reads.Add(-1)
	result, err := p.read(ctx, r)
	if err != nil {
		return span.ReadResult{Release: func() {}}, p.s.wrap(fmt.Sprintf("read partition %d of", p.index), p.topic, err)
	}
	return result, nil
}

func (p *partition) read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	if p.s.draining.Load() {
		return span.ReadResult{}, unavailable(errClosed)
	}
	if r.Offset < 0 {
		return span.ReadResult{}, fmt.Errorf("%w: %d", span.ErrOffsetOutOfRange, r.Offset)
	}
	if r.MaxBytes <= 0 {
		r.MaxBytes = defaultReadBytes
	}
	begin := time.Now()
	until := time.Time{}
	if r.MaxWait > 0 {
		until = begin.Add(r.MaxWait)
	}
	after := time.Time{}
	starved := false
	var last error
	for try := 0; try < readTries; try++ {
		if try > 1 && last != nil {
			if err := p.s.pause(ctx, min(retryFirst<<try, retryMost)); err != nil {
				return span.ReadResult{}, errors.Join(last, err)
			}
		}
		lead, b, err := p.leader(ctx, after)
		if err != nil {
			if !errors.Is(err, span.ErrUnavailable) || ctx.Err() != nil || p.s.closing.Err() != nil || time.Since(begin) > p.s.opts.RequestTimeout {
				return span.ReadResult{}, err
			}
			last, after = err, time.Now()
			continue
		}
		f := &fetch{
			id: p.topic.ID, index: p.index, epoch: lead.epoch, last: p.epochBefore(r.Offset), offset: r.Offset,
			maxBytes: int32(min(r.MaxBytes, fetchBytes)), committed: r.Committed, until: until, first: starved, burst: r.Burst, owner: r.Owner,
		}
		got, err := b.fetch.do(ctx, f)
		if err != nil {
			if ctx.Err() != nil || p.s.closing.Err() != nil {
				return span.ReadResult{}, unavailable(err)
			}
			last, after = unavailable(err), time.Now()
			continue
		}
		switch kindOf(got.Code) {
		case kindNone:
		case kindGone:
			got.release()
			// ErrGone once metadata has settled on it; a broker that lags else.
			if _, err := p.s.meta.fresh(ctx, p.topic); err != nil {
				return span.ReadResult{}, err
			}
			last, after = unavailable(got.Code), got.sent
			continue
		case kindRange:
			got.release()
			return span.ReadResult{}, p.outOfRange(ctx, r.Offset, got.Code)
		case kindRetry, kindMoved, kindMaybe:
			got.release()
			last, after = unavailable(got.Code), time.Now()
			continue
		default:
			got.release()
			return span.ReadResult{}, asError(got.Code)
		}
		if got.Diverging != wire.NoEpochEnd {
			got.release()
			return span.ReadResult{}, p.diverged(r.Offset, got.Diverging, lead.epoch)
		}
		result, n, err := p.share(r, &got, lead)
		if err != nil {
			return span.ReadResult{}, err
		}
		if n > 0 {
			return result, nil
		}
		limit := result.HighWatermark
		if r.Committed {
			limit = result.LastStable
		}
		switch {
		case limit > r.Offset && !got.first:
			// There is something, and others took all of the request's bytes.
			result.Release()
			starved, last = true, nil
		case until.IsZero() || !time.Now().Before(until):
			return result, nil
		default:
			result.Release()
			last = nil
			try = 0 // a poll that was shared ended early; that is no failure
		}
	}
	return span.ReadResult{}, last
}

// share makes the result of an answer's part. n is the bytes of whole batches.
func (p *partition) share(r span.ReadRequest, got *fetched, lead partMeta) (span.ReadResult, int, error) {
	whole, next, epoch, err := wholeBatches(got.Records)
	if err != nil {
		got.release()
		return span.ReadResult{}, 0, err
	}
	p.mu.Lock()
	if p.lost != nil {
		lost := p.lost
		p.mu.Unlock()
		got.release()
		return span.ReadResult{}, 0, lost
	}
	if p.lead.epoch == lead.epoch {
		// The broker compared the epoch: what it calls committed is of this epoch at the latest.
		p.sure = max(p.sure, got.HighWatermark)
	}
	if whole > 0 {
		copy(p.lastReads[1:], p.lastReads[:])
		p.lastReads[0] = readMark{next, epoch}
	}
	p.mu.Unlock()
	result := span.ReadResult{
		Batches: got.Records[:whole:whole], Start: got.LogStart,
		HighWatermark: got.HighWatermark, LastStable: got.LastStable,
	}
	fr, owner, n := got.frame, got.owner, len(got.Records)
	result.Held = int(fr.size)
	result.Release = func() {
		if fr != nil {
			fr.giveBack(owner, n)
			fr = nil
		}
	}
	if result.LastStable < 0 {
		result.LastStable = result.HighWatermark
	}
	if r.Committed && len(got.Aborted) > 0 {
		result.Aborted = make([]span.Aborted, len(got.Aborted))
		for i, a := range got.Aborted {
			result.Aborted[i] = span.Aborted(a)
		}
	}
	return result, whole, nil
}

// wholeBatches is the length of the whole batches that b begins with; brokers cut
// the last one anywhere. next and epoch are those of the last whole one.
func wholeBatches(b []byte) (n int, next int64, epoch int32, err error) {
	const sizeAt, epochAt, magicAt, lastDeltaAt = 8, 12, 16, 23
	for len(b)-n >= batch.HeaderSize {
		h := b[n:]
		size := int(int32(binary.BigEndian.Uint32(h[sizeAt:]))) + 12
		if h[magicAt] != batch.Magic || size < batch.HeaderSize {
			return 0, 0, 0, &span.RejectedError{Code: wire.UnsupportedForMessageFormat, Detail: "records are not in batches of magic 2"}
		}
		if size > len(h) {
			break
		}
		next = batch.BaseOffset(h) + int64(int32(binary.BigEndian.Uint32(h[lastDeltaAt:]))) + 1
		epoch = int32(binary.BigEndian.Uint32(h[epochAt:]))
		n += size
	}
	return n, next, epoch, nil
}

// epochBefore is the leader epoch of the batch that ends at offset, -1 if not known.
func (p *partition) epochBefore(offset int64) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.lastReads {
		if m.next == offset && offset > 0 {
			return m.epoch
		}
	}
	return -1
}

// outOfRange tells an offset that never was from one that the log has lost.
func (p *partition) outOfRange(ctx context.Context, offset int64, code wire.Code) error {
	p.mu.Lock()
	had := p.sure >= offset && offset > 0
	p.mu.Unlock()
	if had {
		if _, err := p.resolve(ctx, time.Now(), true); err != nil {
			return err
		}
	}
	return asError(code)
}
