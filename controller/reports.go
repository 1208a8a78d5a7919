package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Reports of acknowledgements live in the catalog until nobody asks for them any more:
// those of an open span until it is sealed, those of a sealed one until its certificate has
// its last word. Each run of a gateway leaves one for each span that was open when it
// ended; so that their size is bounded the sweep folds them.

// sweepReports folds what runs that are over have reported, and drops reports that came
// too late for their certificate, or whose topic is gone.
func (t *term) sweepReports(ctx context.Context) error {
	s := t.o.Watcher.Snapshot()
	unknown := map[catalog.ID]struct{}{}
	ended := map[catalog.ID]catalog.TopicRef{}
	err := t.o.Catalog.WalkAckReports(ctx, func(a catalog.AckSpan) error {
		topic := s.TopicByID(a.Topic)
		if topic == nil {
			unknown[a.Topic] = struct{}{}
			return nil
		}
		if ch, _ := s.Chain(a.Topic, a.Partition); ch != nil && a.Span < openSeq(ch) {
			ended[a.Topic] = catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
		}
		if !a.Foldable() {
			return nil
		}
		err := t.o.Catalog.FoldAckReports(ctx, a, t.driver.fence)
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrCorrupt) {
			t.o.Logger.Debug("acknowledgement reports are not folded yet", "topic", topic.Name, "partition", a.Partition, "err", err)
			return nil // one more or less by now, or not to be read: they count as they are
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("sweep reports: %w", err)
	}
	if err := t.sweepPostponed(ctx); err != nil {
		return fmt.Errorf("sweep reports: %w", err)
	}
	for _, ref := range ended {
		if err := t.dropReports(ctx, ref); err != nil {
			return fmt.Errorf("sweep reports: %w", err)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	// They were written after their topics were, so a later look tells a new topic from a removed one.
	if s, err = t.o.Watcher.Refresh(ctx); err != nil {
		return fmt.Errorf("sweep reports: %w", err)
	}
	for id := range unknown {
		if s.TopicByID(id) == nil {
			if err := t.o.Catalog.DropAckReports(ctx, id); err != nil {
				return fmt.Errorf("sweep reports: %w", err)
			}
		}
	}
	return nil
}

// openSeq is the number of the span that takes appends, or of the one that will.
func openSeq(ch *catalog.Chain) int32 {
	if sp := chain.OpenSpan(ch); sp != nil {
		return sp.Seq
	}
	return ch.NextSeq
}

// dropReports deletes the reports on a topic's spans that no certificate waits for.
//
// The order of the reads matters. A commit that ended a span which the chains show as ended
// has left its extend or, once all pages are written, its certification; both are looked for
// after the chains were read. If neither is there its certificate has been given, or is postponed.
func (t *term) dropReports(ctx context.Context, topic catalog.TopicRef) error {
	_, pages, err := t.o.Catalog.Chains(ctx, topic.Tenant, topic.ID)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil // they went with the topic
	}
	if err != nil {
		return err
	}
	chains := chainsOf(pages)
	below := make([]int32, len(chains))
	for p, ch := range chains {
		below[p] = openSeq(ch)
	}
	_, err = t.o.Catalog.Extend(ctx, topic.Tenant, topic.ID)
	switch {
	case err == nil:
		// Some of the pages may be committed: then the last sealed spans are still to be certified.
		for p, ch := range chains {
			if n := len(ch.Spans); n > 1 && ch.Spans[n-1].IsOpen() {
				below[p] = ch.Spans[n-2].Seq
			}
		}
	case !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	pending, err := t.o.Catalog.CertificationsOf(ctx, topic.ID)
	if err != nil {
		return err
	}
	for i := range pending {
		for _, end := range pending[i].Ends {
			if int(end.Partition) < len(below) && end.Span >= 0 {
				below[end.Partition] = min(below[end.Partition], end.Span)
			}
		}
	}
	// Read last: what was postponed meanwhile was among the certifications. Of these the reports on the
	// lost spans alone are needed.
	postponed, err := t.o.Catalog.Postponed(ctx, topic.ID)
	if err != nil {
		return err
	}
	kept := make([][]int32, len(below))
	for i := range postponed {
		for _, end := range postponed[i].Ends {
			if int(end.Partition) < len(kept) {
				kept[end.Partition] = append(kept[end.Partition], end.Span)
			}
		}
	}
	for p, seq := range below {
		slices.Sort(kept[p])
		from := int32(0)
		for _, k := range append(kept[p], seq) {
			if err := t.o.Catalog.DeleteAckReports(ctx, topic.ID, int32(p), from, min(k, seq)); err != nil {
				return err
			}
			from = k + 1
		}
	}
	return nil
}
