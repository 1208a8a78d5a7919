package chain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// errChanged: the chain changed under a read, which is begun anew.
var errChanged = errors.New("chain changed")

var errBehind = errors.New("the copy's high watermark is behind its end")

// Read returns batches from r.Offset on: what is there at once. It never waits
// for new records; see [Partition.Notify]. A read that begins in a gap, or in
// spans that cannot be read, goes on at the next record.
func (p *Partition) Read(ctx context.Context, r ReadRequest) (ReadResult, error) {
	p.lastUse.Store(time.Now().UnixNano())
	r.asked = r.Offset
	// Each round ends, or passes a span, or saw a new version of the chain.
	for range MaxSpans + 16 {
		res, err := p.read(ctx, &r)
		if err == nil || !errors.Is(err, errChanged) {
			return res, err
		}
	}
	return ReadResult{}, because(ErrUnavailable, errChanged)
}

// TryRead is Read as far as that takes no I/O: from the tail cache, or at the end
// of the log while somebody listens there. ok is false when Read is needed to tell.
func (p *Partition) TryRead(r ReadRequest) (res ReadResult, ok bool) {
	p.lastUse.Store(time.Now().UnixNano())
	r.asked = r.Offset
	v := p.view.Load()
	if p.gone() != nil || r.ClientEpoch >= 0 && r.ClientEpoch != LeaderEpoch(v.chain) {
		return ReadResult{}, false
	}
	if r.LastFetchedEpoch >= 0 {
		if _, _, diverges := Diverges(v.chain, r.Offset, r.LastFetchedEpoch, math.MaxInt64); diverges {
			return ReadResult{}, false
		}
	}
	place, err := Locate(v.chain, r.Offset)
	if err != nil || place.Span < 0 {
		return ReadResult{}, false
	}
	r.Offset = place.Offset
	return p.readTail(v, &v.chain.Spans[place.Span], &r)
}

func (p *Partition) read(ctx context.Context, r *ReadRequest) (ReadResult, error) {
	v, err := p.checkEpoch(ctx, r.ClientEpoch)
	if err != nil {
		return ReadResult{}, err
	}
	if r.LastFetchedEpoch >= 0 {
		if epoch, end, diverges := Diverges(v.chain, r.Offset, r.LastFetchedEpoch, math.MaxInt64); diverges {
			res := p.empty(v, r)
			res.DivergingEpoch, res.DivergingEnd = epoch, end
			return res, nil
		}
	}
	place, err := Locate(v.chain, r.Offset)
	if err != nil {
		// The start only grows: what is below any version's start is below it for good.
		return ReadResult{}, fmt.Errorf("%w: %d, the log begins at %d", ErrOffsetOutOfRange, r.Offset, v.chain.Start)
	}
	if place.Span < 0 {
		return p.empty(v, r), p.prove(ctx, v, nil)
	}
	r.Offset = place.Offset
	s := &v.chain.Spans[place.Span]
	if res, ok := p.readTail(v, s, r); ok {
		return res, nil
	}
	own, other := p.l.shelf.begin(p, s.Seq, r.Offset, !r.waited)
	if other != nil {
		// Once only: what comes may not be what this reader may see.
		r.waited = true
		select {
		case <-other.done:
			return ReadResult{}, errChanged
		case <-ctx.Done():
			return ReadResult{}, because(ErrUnavailable, ctx.Err())
		}
	}
	var res ReadResult
	var held int
	if s.IsOpen() {
		res, held, err = p.readOpen(ctx, v, s, r)
	} else {
		res, held, err = p.readSealed(ctx, v, s, r)
	}
	p.l.shelf.end(p, own, &res, held, r.MaxBytes)
	return res, err
}

// checkEpoch compares the client's leader epoch with the chain's (KIP-320).
func (p *Partition) checkEpoch(ctx context.Context, epoch int32) (*view, error) {
	v := p.view.Load()
	if err := p.gone(); err != nil {
		return nil, err
	}
	cur := LeaderEpoch(v.chain)
	if epoch > cur {
		// The client has heard of an extend from another gateway.
		if err := p.refresh(ctx); err != nil {
			return nil, because(ErrUnknownLeaderEpoch, err)
		}
		v = p.view.Load()
		if cur = LeaderEpoch(v.chain); epoch > cur {
			return nil, ErrUnknownLeaderEpoch
		}
	}
	if epoch >= 0 && epoch < cur {
		return nil, ErrFencedLeaderEpoch
	}
	return v, nil
}

// empty is a result without records.
func (p *Partition) empty(v *view, r *ReadRequest) ReadResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result(v, r)
}

// result has the bounds as known, for the reader of r. Needs mu.
func (p *Partition) result(v *view, r *ReadRequest) ReadResult {
	hw, lso := p.hw, p.lso
	if s := OpenSpan(v.chain); s != nil {
		// Who was sent into the gap, by latest while there was more, stands at the end there.
		stands := min(r.asked, s.Start)
		hw, lso = max(ReaderEnd(v.chain, hw), stands), max(ReaderEnd(v.chain, lso), stands)
	} else if len(v.chain.Spans) > 0 {
		hw = v.chain.Spans[len(v.chain.Spans)-1].End
		lso = hw
	}
	return ReadResult{Start: v.chain.Start, HighWatermark: max(hw, v.chain.Start), LastStable: max(lso, v.chain.Start),
		Epoch: LeaderEpoch(v.chain), DivergingEpoch: -1, DivergingEnd: -1, Release: nothing}
}

func nothing() {}

// readTail serves from the tail cache, and tells at the end of the log that there
// is nothing while the follower listens.
func (p *Partition) readTail(v *view, s *catalog.Span, r *ReadRequest) (ReadResult, bool) {
	if r.FromCopy {
		return ReadResult{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := int64(math.MaxInt64)
	if r.Committed && s.IsOpen() {
		limit = p.lso
	}
	// Which transactions were aborted only the copy can tell.
	if r.Offset < limit && !(r.Committed && r.Offset < p.tail.txn) {
		if c, run, _, ok := p.tail.find(s.Seq, r.Offset, limit, r.MaxBytes); ok {
			p.l.metrics.CacheHits.Add(float64(len(run)))
			res := p.result(v, r)
			res.Batches, res.Release = run, c.drop
			return res, true
		}
	}
	if lso := p.lso; r.Offset < limit {
		switch {
		case !r.Committed:
			lso = -1
		case !s.IsOpen():
			lso = s.End
		}
		if c, run, ok := p.l.shelf.find(p, s, r.Offset, lso, r.MaxBytes); ok {
			p.l.metrics.CacheHits.Add(float64(len(run)))
			res := p.result(v, r)
			res.Batches, res.Release = run, c.drop
			return res, true
		}
	}
	if s.IsOpen() && p.hwSeq == s.Seq && r.Offset == p.hw && p.following && time.Since(p.heardAt) < trustFollower {
		return p.result(v, r), true
	}
	return ReadResult{}, false
}

// trustFollower is how long the follower's word holds that there is nothing new.
// It listens all the time, so this only bounds what a hung one can do.
const trustFollower = 2 * time.Second

// readSealed reads a span whose end is known; nothing past it is ever given out.
// held is as in span.ReadResult.
func (p *Partition) readSealed(ctx context.Context, v *view, s *catalog.Span, r *ReadRequest) (_ ReadResult, held int, _ error) {
	h, err := p.logFor(s)
	if err != nil {
		return ReadResult{}, 0, err
	}
	if next := skipped(h.copy, r.Offset); next > r.Offset {
		r.Offset = next
		return ReadResult{}, 0, errChanged
	}
	end := ToPhysical(h.copy, s.End)
	rr, err := h.log.Read(ctx, r.toCopy(h.copy, p.owner()))
	if err != nil {
		return ReadResult{}, 0, p.readFailed(ctx, v, s, err)
	}
	res := p.empty(v, r)
	if err := patch(&res, &rr, h.copy, s, end); err != nil {
		rr.Release()
		return ReadResult{}, 0, err
	}
	if res.Size() == 0 {
		next := nextAfterRun(&rr, h.copy)
		rr.Release()
		if next > r.Offset && next < s.End {
			r.Offset = next // all of it is left out
			return ReadResult{}, 0, errChanged
		}
		if rr.HighWatermark < end {
			// A leader that does not know its own high watermark yet. Not an empty
			// result: the reader would be told at once that there is more.
			return ReadResult{}, 0, because(ErrUnavailable, errBehind)
		}
		// No record is left up to the end (a compacted copy): the next span goes on.
		r.Offset = s.End
		return ReadResult{}, 0, errChanged
	}
	p.l.metrics.CacheMisses.Add(float64(res.Size()))
	return res, rr.Held, nil
}

// nextAfterRun is where reading goes on when the copy leaves out all that came; -1
// if it leaves out nothing.
func nextAfterRun(rr *span.ReadResult, c *catalog.Copy) int64 {
	next := int64(-1)
	if len(c.Skip) == 0 {
		return next
	}
	for h := range batch.Walk(rr.Batches) {
		at := ToLogical(c, h.BaseOffset)
		if to := skipped(c, at); to > at {
			next = to
		}
	}
	return next
}

// readOpen reads the open span from its copy. held is as in span.ReadResult.
func (p *Partition) readOpen(ctx context.Context, v *view, s *catalog.Span, r *ReadRequest) (_ ReadResult, held int, _ error) {
	h, err := p.logFor(s)
	if err != nil {
		return ReadResult{}, 0, err
	}
	if p.muted(s.Seq) {
		return p.empty(v, r), 0, nil
	}
	lease := p.l.lease()
	rr, err := h.log.Read(ctx, r.toCopy(h.copy, p.owner()))
	if err != nil {
		return ReadResult{}, 0, p.readFailed(ctx, v, s, err)
	}
	if !p.l.source.CanSeal(h.copy.Cluster) && !p.mayServe(lease, h.copy) {
		rr.Release()
		return ReadResult{}, 0, because(ErrUnavailable, errSession)
	}
	p.mu.Lock()
	defer p.unlock()
	now := p.view.Load()
	if p.mute == s.Seq || now != v {
		// The span is being sealed, or was: what has just arrived may lie past its
		// end. Nothing is served of it until the end is committed.
		rr.Release()
		if now != v {
			return ReadResult{}, 0, errChanged
		}
		return p.result(v, r), 0, nil
	}
	p.heard(s, h.copy, &rr)
	res := p.result(v, r)
	if err := patch(&res, &rr, h.copy, s, math.MaxInt64); err != nil {
		rr.Release()
		return ReadResult{}, 0, err
	}
	if res.Size() == 0 {
		rr.Release()
		res.Batches, res.Release = nil, nothing
	}
	p.l.metrics.CacheMisses.Add(float64(res.Size()))
	return res, rr.Held, nil
}

// heard takes over the bounds that the open span's copy told. Needs mu.
func (p *Partition) heard(s *catalog.Span, c *catalog.Copy, rr *span.ReadResult) {
	if p.hwSeq != s.Seq {
		return
	}
	p.heardAt = time.Now()
	hw, lso := max(ToLogical(c, rr.HighWatermark), s.Start), max(ToLogical(c, rr.LastStable), s.Start)
	if rr.LastStable >= 0 && lso > p.lso {
		p.lso = lso
		p.wakeUpTo(lso)
	}
	if hw > p.hw {
		p.hw = hw
		p.wakeUpTo(hw)
	}
}

// stable takes over the last stable offset that the copy told with an append which ends at
// next: the marker of an aborted transaction is often the last that is heard of the copy
// before somebody reads from the tail. Others may have appended more that is stable, past
// the high watermark that is known here. Needs mu.
func (p *Partition) stable(t *target, physical, next int64) {
	if p.hwSeq != t.seq || physical < 0 {
		return
	}
	if lso := min(ToLogical(t.copy, physical), next); lso > p.lso {
		p.lso = lso
		p.wakeUpTo(lso)
	}
}

func (p *Partition) muted(seq int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mute == seq
}

func (p *Partition) logFor(s *catalog.Span) (handle, error) {
	p.mu.Lock()
	defer p.unlock()
	if p.dead != nil {
		return handle{}, p.dead
	}
	return p.logOf(s)
}

// patch gives the batches logical offsets and the span's epoch, in the store's
// buffer, and cuts off what lies at or past the physical end.
func patch(res *ReadResult, rr *span.ReadResult, c *catalog.Copy, s *catalog.Span, end int64) error {
	res.Aborted = nil
	for _, a := range rr.Aborted {
		a.FirstOffset = ToLogical(c, a.FirstOffset)
		res.Aborted = append(res.Aborted, a)
	}
	res.Release = rr.Release
	it := batch.NewIter(rr.Batches)
	n, i := 0, 0
	for it.Next() {
		base := it.Header.BaseOffset
		if base >= end {
			break
		}
		for i+1 < len(c.Map) && c.Map[i+1].Physical <= base {
			i++
		}
		base += c.Map[i].Delta
		if len(c.Skip) > 0 {
			if skipped(c, base) > base {
				continue
			}
			// What follows moves up over what is left out; each batch is passed once.
			copy(rr.Batches[n:], it.Bytes)
			it.Bytes = rr.Batches[n : n+len(it.Bytes)]
		}
		batch.SetBaseOffset(it.Bytes, base)
		batch.SetLeaderEpoch(it.Bytes, s.Epoch)
		n += len(it.Bytes)
	}
	if err := it.Err(); err != nil {
		return because(ErrStorage, err)
	}
	res.Batches = rr.Batches[:n]
	// A copy that leaves something out was not asked for batches apart.
	for k := range rr.Apart {
		header := rr.Apart[k].Header
		base := batch.BaseOffset(header)
		if base >= end {
			break
		}
		for i+1 < len(c.Map) && c.Map[i+1].Physical <= base {
			i++
		}
		batch.SetBaseOffset(header, base+c.Map[i].Delta)
		batch.SetLeaderEpoch(header, s.Epoch)
		res.Apart = rr.Apart[:k+1]
	}
	return nil
}

// toCopy is the request as the copy understands it.
func (r *ReadRequest) toCopy(c *catalog.Copy, owner string) span.ReadRequest {
	return span.ReadRequest{Offset: ToPhysical(c, r.Offset), MaxBytes: r.MaxBytes, Committed: r.Committed,
		Apart: r.Apart && len(c.Skip) == 0, Burst: r.Burst, Owner: owner}
}

// Size is how many bytes of batches there are.
func (r *ReadResult) Size() int {
	n := len(r.Batches)
	for i := range r.Apart {
		n += len(r.Apart[i].Header) + len(r.Apart[i].Rest)
	}
	return n
}

// Next is the first offset past the batches, -1 if there are none that can be understood.
func (r *ReadResult) Next() int64 {
	if n := len(r.Apart); n > 0 {
		h, _, err := batch.Parse(r.Apart[n-1].Header)
		if err != nil {
			return -1
		}
		return h.NextOffset()
	}
	run, err := batch.Inspect(r.Batches)
	if err != nil || len(r.Batches) == 0 {
		return -1
	}
	return run.Next
}
