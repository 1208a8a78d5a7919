package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// readFailed makes of a copy's error what a reader is told.
func (p *Partition) readFailed(ctx context.Context, v *view, s *catalog.Span, err error) error {
	var truncated *span.TruncatedError
	switch {
	case ctx.Err() != nil:
		return because(ErrUnavailable, ctx.Err())
	case errors.As(err, &truncated) && !s.IsOpen():
		p.forgetLoss(s)
		return because(ErrUnavailable, err)
	case errors.As(err, &truncated):
		p.mu.Lock()
		p.mute = s.Seq
		if p.cur == nil && p.dead == nil {
			p.open()
		}
		if t := p.cur; t != nil && t.seq == s.Seq {
			p.raise(t, truncated, time.Now())
			if t.flying.n == 0 {
				p.settle(t)
			}
		}
		p.unlock()
		return because(ErrUnavailable, err)
	case errors.Is(err, span.ErrOffsetOutOfRange):
		if !s.IsOpen() {
			// Its records are in the chain, so they must be there.
			return because(ErrUnavailable, err)
		}
		if err := p.prove(ctx, v, s); err != nil {
			return err
		}
		return fmt.Errorf("%w: the copy has no such offset", ErrOffsetOutOfRange)
	case errors.Is(err, span.ErrGone):
		// Trimmed, or deleted with its topic: the chain knows.
		if perr := p.prove(ctx, v, nil); perr != nil {
			return perr
		}
		return because(ErrUnavailable, err)
	case errors.Is(err, span.ErrStorage):
		return because(ErrStorage, err)
	}
	p.mu.Lock()
	p.forgetHandle(s.Seq)
	p.unlock()
	return because(ErrUnavailable, err)
}

// prove makes sure that v is the current version of the chain, by a linearizable
// read that begins after what is to be proved was found; errChanged when it is
// not. With the catalog away the open span's copy proves it, by being unsealed:
// a chain that went on elsewhere has sealed it.
func (p *Partition) prove(ctx context.Context, v *view, open *catalog.Span) error {
	err := p.refresh(ctx)
	if gone := p.gone(); gone != nil {
		return gone
	}
	now := p.view.Load()
	if now != v && !sameSpans(now.chain, v.chain) {
		return errChanged
	}
	if err == nil {
		return nil
	}
	if open == nil {
		return because(ErrUnavailable, err)
	}
	h, herr := p.logFor(open)
	if herr != nil {
		return herr
	}
	if perr := h.log.Probe(ctx); perr != nil {
		return because(ErrUnavailable, errors.Join(err, perr))
	}
	return nil
}

// sameSpans tells whether two versions agree on where offsets are.
func sameSpans(a, b *catalog.Chain) bool {
	if a.Start != b.Start || len(a.Spans) != len(b.Spans) || a.NextSeq != b.NextSeq {
		return false
	}
	for i := range a.Spans {
		if a.Spans[i].Seq != b.Spans[i].Seq || a.Spans[i].End != b.Spans[i].End {
			return false
		}
	}
	return true
}
