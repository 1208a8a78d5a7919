package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/span"
)

// commit stores the producers' states, ends the open spans and opens the next
// ones, page by page; the last page ends the extend. Pages that are committed
// already, by a controller that was stopped half-way, are left alone.
func (r *run) commit(ctx context.Context) error {
	if err := r.heedAlarms(ctx); err != nil {
		return err
	}
	chains := chainsOf(r.pages)
	ends := make([]catalog.SealedEnd, len(chains))
	err := each(ctx, chains, func(ctx context.Context, p int, ch *catalog.Chain) error {
		if chain.Extended(ch, r.e.New.TopicID) {
			ends[p] = extend.Ended(&r.e, int32(p), ch)
			return nil
		}
		end, err := r.endOf(int32(p), ch)
		if err != nil {
			return err
		}
		state, err := r.producersAt(ctx, ch, &end)
		if err != nil {
			return fmt.Errorf("producers of partition %d: %w", p, err)
		}
		end.Producers, err = r.cat.PutProducers(ctx, r.e.Topic.ID, int32(p), end.Span, chain.EncodeProducers(state))
		ends[p] = end
		return err
	})
	if err != nil {
		return r.commitFailed(ctx, err)
	}
	if err := r.at(FaultStored); err != nil {
		return err
	}

	now := time.Now().UTC()
	for i := range r.pages {
		page := &r.pages[i]
		todo := false
		next := *page
		next.Chains = append([]catalog.Chain(nil), page.Chains...)
		for j := range page.Chains {
			p := int(page.First) + j
			if chain.Extended(&page.Chains[j], r.e.New.TopicID) {
				continue
			}
			todo = true
			if next.Chains[j], err = extend.Chain(&r.e, &page.Chains[j], ends[p], now); err != nil {
				return fmt.Errorf("partition %d: %w", p, err)
			}
		}
		last := i == len(r.pages)-1
		if !todo && !last {
			continue
		}
		req := catalog.CommitRequest{Tenant: r.e.Topic.Tenant, Topic: r.e.Topic.ID, TopicRevision: r.topic.Revision,
			Pages: []catalog.Page{next}, Fence: r.fence}
		done := r.e
		if last {
			done.Step, done.Ends, done.Sealed = catalog.StepCertify, ends, r.sealing.UTC()
			if done.Unreadable {
				done.Mode = catalog.ModeLossy
			}
			req.Extend, req.Finish = &done, true
		}
		if err := r.cat.CommitPages(ctx, req); err != nil {
			return err
		}
		if last {
			r.e = done
			r.log.Info("extend is committed", "topic", r.e.Topic.Name, "op", r.e.Op, "to", r.e.Target, "mode", r.e.Mode,
				"sealToCommit", time.Since(r.sealing).Round(100*time.Microsecond))
			for _, a := range r.e.Alarms {
				if err := r.cat.DeleteAlarm(ctx, a); err != nil {
					r.log.Warn("alarm that was dealt with is still there", "topic", r.e.Topic.Name, "err", err)
				}
			}
			return r.at(FaultCommitted)
		}
		if err := r.at(FaultCommitPage); err != nil {
			return err
		}
	}
	return nil
}

// commitFailed decides what a failure before the first page means: the seal
// stands and the copy did not answer, so it is tried for as long as sealing is.
func (r *run) commitFailed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, catalog.ErrUnavailable), errors.Is(err, catalog.ErrConflict):
		return err
	case (errors.Is(err, span.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) &&
		(time.Since(r.sealing) < r.limits.seal || extendedInPart(r)):
		r.log.Warn("sealed copy does not answer, trying again", "topic", r.e.Topic.Name, "err", err)
		return pause(ctx, 100*time.Millisecond)
	case extendedInPart(r):
		return err
	}
	return r.refuse(err, "read the producers' state")
}
