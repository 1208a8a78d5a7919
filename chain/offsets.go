package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Offsets returns the start and the end of the log as readers are told it (see
// [ReaderEnd]), the end being the last stable offset if committed. It is proved current: the chain is read
// linearizably after the copy has answered, so no gateway that lags behind an
// extend gives an end that clients of another one are past already.
func (p *Partition) Offsets(ctx context.Context, committed bool) (start, end int64, epoch int32, err error) {
	var v *view
	err = p.again(func() error {
		v, start, end, err = p.openBounds(ctx, committed)
		return err
	})
	if err != nil {
		return 0, 0, 0, err
	}
	return start, max(ReaderEnd(v.chain, end), start), LeaderEpoch(v.chain), nil
}

// again repeats f while the chain changes under it.
func (p *Partition) again(f func() error) error {
	for range 32 {
		if err := f(); err == nil || !errors.Is(err, errChanged) {
			return err
		}
	}
	return because(ErrUnavailable, errChanged)
}

// openEnd is where the open span ends, be it empty (see [ReaderEnd]), with the version
// of the chain for which it was proved; errChanged when that changed meanwhile.
func (p *Partition) openEnd(ctx context.Context, committed bool) (*view, int64, error) {
	v, _, end, err := p.openBounds(ctx, committed)
	return v, end, err
}

// openBounds is openEnd together with the start of the log. The chain's start may be
// behind the open copy's: that one drops segments by size itself.
func (p *Partition) openBounds(ctx context.Context, committed bool) (v *view, start, end int64, err error) {
	v = p.view.Load()
	if err := p.gone(); err != nil {
		return nil, 0, 0, err
	}
	s := OpenSpan(v.chain)
	if s == nil {
		if err := p.prove(ctx, v, nil); err != nil {
			return nil, 0, 0, err
		}
		if n := len(v.chain.Spans); n > 0 {
			return v, v.chain.Start, v.chain.Spans[n-1].End, nil
		}
		return v, v.chain.Start, v.chain.Start, nil
	}
	h, err := p.logFor(s)
	if err != nil {
		return nil, 0, 0, err
	}
	lease := p.l.lease()
	o, err := h.log.Offsets(ctx)
	if err != nil {
		err = p.readFailed(ctx, v, s, err)
		if perr := p.changed(ctx, v); perr != nil {
			return nil, 0, 0, perr
		}
		return nil, 0, 0, err
	}
	if err := p.prove(ctx, v, s); err != nil {
		return nil, 0, 0, err
	}
	if !p.l.source.CanSeal(h.copy.Cluster) && !p.mayServe(lease, h.copy) {
		return nil, 0, 0, because(ErrUnavailable, errSession)
	}
	if start = v.chain.Start; start >= s.Start {
		start = max(start, ToLogical(h.copy, o.Start))
	}
	end = o.HighWatermark
	if committed {
		end = o.LastStable
	}
	// A fresh copy's high watermark may lie below its first piece.
	return v, start, max(ToLogical(h.copy, end), s.Start), nil
}

// changed finds out whether a failure came from a chain that has gone on.
func (p *Partition) changed(ctx context.Context, v *view) error {
	if err := p.refresh(ctx); err != nil {
		return nil // the failure itself says enough
	}
	if err := p.gone(); err != nil {
		return err
	}
	if !sameSpans(p.view.Load().chain, v.chain) {
		return errChanged
	}
	return nil
}

// EpochEnd answers OffsetForLeaderEpoch; see the function [EpochEnd] for the
// rules. An epoch that is newer than the chain's gives -1, -1.
func (p *Partition) EpochEnd(ctx context.Context, epoch int32) (atEpoch int32, end int64, err error) {
	if epoch > LeaderEpoch(p.view.Load().chain) {
		if err := p.refresh(ctx); err != nil {
			return -1, -1, because(ErrUnavailable, err)
		}
	}
	v := p.view.Load()
	if epoch < LeaderEpoch(v.chain) {
		// Ended spans stay as they are, whatever came since.
		atEpoch, end = EpochEnd(v.chain, epoch, -1)
		return atEpoch, end, p.gone()
	}
	if epoch > LeaderEpoch(v.chain) {
		return -1, -1, p.gone()
	}
	err = p.again(func() error {
		v, end, err = p.openEnd(ctx, false)
		return err
	})
	if err != nil {
		return -1, -1, err
	}
	atEpoch, end = EpochEnd(v.chain, epoch, end)
	return atEpoch, end, nil
}

// OffsetFor returns the first record with a timestamp of at least ms, or the
// record with the largest timestamp for [span.MaxTimestamp]. Where that record may be one
// that cannot be read at present it is the first offset of these, with ms: who reads from there on
// misses nothing if they come back meanwhile.
func (p *Partition) OffsetFor(ctx context.Context, ms int64) (offset, timestamp int64, epoch int32, found bool, err error) {
	err = p.again(func() error {
		v := p.view.Load()
		if err := p.gone(); err != nil {
			return err
		}
		if ms == span.MaxTimestamp {
			offset, timestamp, epoch, found, err = p.largest(ctx, v)
		} else {
			offset, timestamp, epoch, found, err = p.firstSince(ctx, v, ms)
		}
		if err != nil {
			if cerr := p.changed(ctx, v); cerr != nil {
				return cerr
			}
			return err
		}
		if found && epoch != LeaderEpoch(v.chain) && ms != span.MaxTimestamp {
			// Found in an ended span, which stays as it is.
			return nil
		}
		return p.prove(ctx, v, OpenSpan(v.chain))
	})
	if err != nil {
		return -1, -1, -1, false, err
	}
	return offset, timestamp, epoch, found, nil
}

func (p *Partition) firstSince(ctx context.Context, v *view, ms int64) (offset, timestamp int64, epoch int32, found bool, err error) {
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		if !s.IsOpen() && (s.MaxTimestamp >= 0 && s.MaxTimestamp < ms || s.End <= v.chain.Start) {
			continue
		}
		if ReadableCopy(s) < 0 {
			if hidden(s, ms) {
				return max(s.Start, v.chain.Start), ms, s.Epoch, true, nil
			}
			continue
		}
		at, ok, err := p.positionIn(ctx, v, s, ms)
		if err != nil || ok {
			return at.Offset, at.Timestamp, s.Epoch, ok, err
		}
	}
	return -1, -1, -1, false, nil
}

// hidden tells whether a span that cannot be read may hold a record of that time or later. Of
// one that was lost nobody knows the largest timestamp: it is taken for no later than the loss.
func hidden(s *catalog.Span, ms int64) bool {
	return s.End > s.Start && (s.MaxTimestamp >= ms || s.MaxTimestamp < 0 && ms <= s.SealedAt.UnixMilli())
}

// positionIn looks a timestamp up in one span.
func (p *Partition) positionIn(ctx context.Context, v *view, s *catalog.Span, ms int64) (span.Position, bool, error) {
	h, err := p.logFor(s)
	if err != nil {
		return span.Position{}, false, err
	}
	at, ok, err := h.log.OffsetFor(ctx, ms)
	if err != nil {
		return at, false, because(ErrUnavailable, err)
	}
	if !ok {
		return at, false, nil
	}
	at.Offset = skipped(h.copy, ToLogical(h.copy, at.Offset))
	if !s.IsOpen() && at.Offset >= s.End {
		return at, false, nil
	}
	if at.Offset < v.chain.Start && ms != span.MaxTimestamp {
		// The copy still has records that the chain has trimmed.
		return p.scanSince(ctx, v, s, h, ms)
	}
	return at, true, nil
}

// scanSince looks for a timestamp record by record from the chain's start on.
func (p *Partition) scanSince(ctx context.Context, v *view, s *catalog.Span, h handle, ms int64) (span.Position, bool, error) {
	end := int64(-1)
	if !s.IsOpen() {
		end = ToPhysical(h.copy, s.End)
	}
	at := ToPhysical(h.copy, v.chain.Start)
	for end < 0 || at < end {
		rr, err := h.log.Read(ctx, span.ReadRequest{Offset: at, MaxBytes: feedMax})
		if err != nil {
			return span.Position{}, false, because(ErrUnavailable, err)
		}
		next, pos, ok, err := scanRun(rr.Batches, at, end, ms)
		rr.Release()
		if err != nil {
			return span.Position{}, false, because(ErrStorage, err)
		}
		if ok {
			pos.Offset = ToLogical(h.copy, pos.Offset)
			return pos, true, nil
		}
		if next <= at {
			break
		}
		at = next
	}
	return span.Position{}, false, nil
}

func scanRun(run []byte, from, end, ms int64) (next int64, at span.Position, ok bool, err error) {
	it := batch.NewIter(run)
	next = from
	for it.Next() {
		if end >= 0 && it.Header.BaseOffset >= end {
			return next, at, false, nil
		}
		next = it.Header.NextOffset()
		if it.Header.MaxTimestamp < ms || it.Header.IsControl() {
			continue
		}
		var rr batch.RecordReader
		if err := rr.Reset(it.Bytes, maxUnpacked); err != nil {
			return next, at, false, err
		}
		for rr.Next() {
			if r := &rr.Record; r.Offset >= from && r.Timestamp >= ms {
				at = span.Position{Offset: r.Offset, Timestamp: r.Timestamp}
				rr.Close()
				return next, at, true, nil
			}
		}
		err := rr.Err()
		rr.Close()
		if err != nil {
			return next, at, false, err
		}
	}
	return next, at, false, it.Err()
}

// maxUnpacked bounds a batch that has to be looked into.
const maxUnpacked = 64 << 20

// largest finds the record with the largest timestamp, the first of several.
func (p *Partition) largest(ctx context.Context, v *view) (offset, timestamp int64, epoch int32, found bool, err error) {
	best := span.Position{Offset: -1, Timestamp: -1}
	for i := range v.chain.Spans {
		s := &v.chain.Spans[i]
		if ReadableCopy(s) < 0 || !s.IsOpen() && (s.MaxTimestamp >= 0 && s.MaxTimestamp <= best.Timestamp || s.End <= v.chain.Start) {
			continue
		}
		at, ok, err := p.positionIn(ctx, v, s, span.MaxTimestamp)
		if err != nil {
			return -1, -1, -1, false, err
		}
		if ok && at.Timestamp > best.Timestamp && at.Offset >= v.chain.Start {
			best, epoch = at, s.Epoch
		}
	}
	if best.Offset < 0 {
		return -1, -1, -1, false, nil
	}
	return best.Offset, best.Timestamp, epoch, true, nil
}

// Sealed tells up to which offset the partition's sealed spans hold what lies at or
// above the log's start, 0 for none, and the first offset past all that those spans have, or may come to have, that
// cannot be read at present, 0 if all can. It goes by the chain as last seen and does no I/O.
func (p *Partition) Sealed() (upTo, missing int64) {
	v := p.view.Load()
	if v == nil {
		return 0, 0
	}
	for i := range v.chain.Spans {
		if s := &v.chain.Spans[i]; !s.IsOpen() && s.End > v.chain.Start {
			upTo = s.End
		}
	}
	return upTo, Missing(v.chain, "")
}

// DeleteRecords moves the log's start up to before, -1 meaning the high
// watermark, and returns the start. Past the end it fails with [ErrOffsetOutOfRange].
func (p *Partition) DeleteRecords(ctx context.Context, before int64) (start int64, err error) {
	err = p.again(func() error {
		v, end, err := p.openEnd(ctx, false)
		if err != nil {
			return err
		}
		at := before
		if at == -1 {
			at = max(ReaderEnd(v.chain, end), v.chain.Start)
		}
		if at < 0 || at > end {
			return fmt.Errorf("%w: %d, the log ends at %d", ErrOffsetOutOfRange, at, end)
		}
		if start = v.chain.Start; at <= start {
			return nil
		}
		// The chain first: once readers cannot ask for them, the copy may drop them.
		if err := p.l.source.TrimStart(ctx, p.topic, p.index, at); err != nil {
			return because(ErrUnavailable, err)
		}
		start = at
		if s := OpenSpan(v.chain); s != nil && at > s.Start {
			p.dropHead(s, at)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if err := p.refresh(ctx); err != nil {
		p.l.log.Debug("the chain was not read after a trim", "err", err)
	}
	return start, nil
}

// dropHead lets the open span's copy free what was trimmed. If that fails the
// records are hidden all the same, and go with the span.
func (p *Partition) dropHead(s *catalog.Span, before int64) {
	h, err := p.logFor(s)
	if err != nil {
		return
	}
	p.l.run(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if _, err := h.log.DeleteBefore(ctx, ToPhysical(h.copy, before)); err != nil {
			p.l.log.Debug("a copy's head was not dropped", "err", err)
		}
	})
}

// Producers returns the state of every producer id that the partition remembers,
// with logical offsets.
func (p *Partition) Producers(ctx context.Context) ([]span.Producer, error) {
	var out []span.Producer
	err := p.again(func() error {
		v := p.view.Load()
		if err := p.gone(); err != nil {
			return err
		}
		sealed, err := p.l.readState(ctx, SealedState(v.chain))
		if err != nil {
			return because(ErrUnavailable, err)
		}
		var fresh []span.Producer
		if s := OpenSpan(v.chain); s != nil {
			h, err := p.logFor(s)
			if err != nil {
				return err
			}
			if fresh, err = h.log.Producers(ctx); err != nil {
				if cerr := p.changed(ctx, v); cerr != nil {
					return cerr
				}
				return because(ErrUnavailable, err)
			}
			for i := range fresh {
				toLogicalProducer(&fresh[i], h.copy)
			}
		}
		known := make(map[int64]struct{}, len(fresh))
		for i := range fresh {
			known[fresh[i].ID] = struct{}{}
		}
		out = fresh
		for i := range sealed {
			s := &sealed[i]
			if _, ok := known[s.ID]; !ok {
				out = append(out, span.Producer{ID: s.ID, Epoch: s.Epoch, LastSequence: s.LastSequence,
					LastOffset: s.LastOffset, LastTimestamp: s.Timestamp, TxnStart: -1, Batches: s.Batches})
			}
		}
		return nil
	})
	return out, err
}

func toLogicalProducer(f *span.Producer, c *catalog.Copy) {
	for _, o := range []*int64{&f.LastOffset, &f.TxnStart} {
		if *o >= 0 {
			*o = ToLogical(c, *o)
		}
	}
	for i := range f.Batches {
		f.Batches[i].FirstOffset = ToLogical(c, f.Batches[i].FirstOffset)
		f.Batches[i].LastOffset = ToLogical(c, f.Batches[i].LastOffset)
	}
}
