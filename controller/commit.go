package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/extend"
)

// commit ends the open spans and opens the next ones, page by page, each with the
// producers' states that it refers to; the last page ends the extend. Pages that are
// committed already, by a controller that was stopped half-way, are left alone.
//
// Appends wait for it: where the seal told the producers' states, a page costs one
// write of the catalog and nothing else.
func (r *run) commit(ctx context.Context) error {
	if err := r.heedAlarms(ctx); err != nil {
		return err
	}
	chains := chainsOf(r.pages)
	ends := make([]catalog.SealedEnd, len(chains))
	states := make([]catalog.StoredState, len(chains))
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
		if blob := chain.EncodeProducers(state); len(blob) > 0 {
			end.Producers = catalog.NewProducersRef(r.e.Topic.ID, int32(p), end.Span)
			states[p] = catalog.StoredState{Ref: end.Producers, Blob: blob}
		}
		ends[p] = end
		return nil
	})
	if err != nil {
		return r.commitFailed(ctx, err)
	}
	if err := r.at(FaultStored); err != nil {
		return err
	}
	now := time.Now().UTC()
	last := len(r.pages) - 1
	if err := r.commitFirst(ctx, r.pages[:last], ends, states, now); err != nil {
		return err
	}
	req, _, err := r.pageAt(last, ends, states, now)
	if err != nil {
		return err
	}
	done := r.e
	done.Step, done.Ends, done.Sealed = catalog.StepCertify, ends, r.sealing.UTC()
	if done.Unreadable {
		done.Mode, done.Silent = catalog.ModeLossy, r.silent
		done.Standing = concerned(r.standing, ends)
	}
	req.Extend, req.Finish = &done, true
	if err := r.cat.CommitPages(ctx, req); err != nil {
		return err
	}
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

// commitFirst writes all pages but the last, several at once: their chains are
// independent, and each page's appends flow on as soon as it is there.
func (r *run) commitFirst(ctx context.Context, pages []catalog.Page, ends []catalog.SealedEnd, states []catalog.StoredState, now time.Time) error {
	errs := make([]error, len(pages))
	slots := make(chan struct{}, width)
	var wg sync.WaitGroup
	for i := range pages {
		req, todo, err := r.pageAt(i, ends, states, now)
		if err != nil || !todo {
			errs[i] = err
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if errs[i] = r.cat.CommitPages(ctx, req); errs[i] == nil {
				errs[i] = r.at(FaultCommitPage)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pageAt makes the commit of one page. todo is false if all of it is committed.
func (r *run) pageAt(i int, ends []catalog.SealedEnd, states []catalog.StoredState, now time.Time) (req catalog.CommitRequest, todo bool, err error) {
	page := &r.pages[i]
	next := *page
	next.Chains = append([]catalog.Chain(nil), page.Chains...)
	next.States = nil
	for j := range page.Chains {
		p := int(page.First) + j
		if chain.Extended(&page.Chains[j], r.e.New.TopicID) {
			continue
		}
		todo = true
		if next.Chains[j], err = extend.Chain(&r.e, &page.Chains[j], ends[p], now); err != nil {
			return req, todo, fmt.Errorf("partition %d: %w", p, err)
		}
		if states[p].Ref != "" {
			next.States = append(next.States, states[p])
		}
	}
	return catalog.CommitRequest{Tenant: r.e.Topic.Tenant, Topic: r.e.Topic.ID, TopicRevision: r.topic.Revision,
		Pages: []catalog.Page{next}, Fence: r.fence, AlarmsAt: r.alarmsAt}, todo, nil
}

// commitFailed decides what a failure before the first page means: the seal
// stands and the copy did not answer, so it is tried again.
func (r *run) commitFailed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, catalog.ErrUnavailable), errors.Is(err, catalog.ErrConflict):
		return err
	case errors.Is(err, chain.ErrPastEnd) && r.e.Mode == catalog.ModeFence:
		// Behind a fence an append that its gateway has given up on may still land,
		// after the end was read: read it again.
		r.obs.Sealed = false
	}
	return r.sourceAway(ctx, "read the producers' state", err)
}
