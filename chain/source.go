package chain

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid/catalog"
)

// FromCatalog is the Source that the product uses.
func FromCatalog(w *catalog.Watcher, c *catalog.Catalog) Source { return &fromCatalog{w, c} }

type fromCatalog struct {
	w *catalog.Watcher
	c *catalog.Catalog
}

func (s *fromCatalog) Chain(topic catalog.ID, partition int32) (*catalog.Chain, int64, error) {
	snap := s.w.Snapshot()
	t := snap.TopicByID(topic)
	if t == nil || t.Deleting {
		return nil, 0, ErrUnknownTopic
	}
	c, revision := snap.Chain(topic, partition)
	if c == nil {
		return nil, 0, ErrUnknownPartition
	}
	return c, revision, nil
}

func (s *fromCatalog) Topic(topic catalog.ID) (catalog.Topic, bool) {
	if t := s.w.Snapshot().TopicByID(topic); t != nil {
		return *t, true
	}
	return catalog.Topic{}, false
}

func (s *fromCatalog) tenant(topic catalog.ID) (string, error) {
	t := s.w.Snapshot().TopicByID(topic)
	if t == nil {
		return "", ErrUnknownTopic
	}
	return t.Tenant, nil
}

func (s *fromCatalog) Refresh(ctx context.Context, topic catalog.ID) error {
	tenant, err := s.tenant(topic)
	if err != nil {
		return err
	}
	_, err = s.w.RefreshTopic(ctx, tenant, topic)
	return err
}

func (s *fromCatalog) OnChange(f func([]catalog.ID)) (cancel func()) {
	return s.w.OnChange(func(c catalog.Change) {
		ids := append(append(make([]catalog.ID, 0, len(c.Topics)+len(c.Extends)), c.Topics...), c.Extends...)
		if len(ids) > 0 {
			f(ids)
		}
	})
}

func (s *fromCatalog) CanSeal(cluster string) bool {
	c := s.w.Snapshot().Cluster(cluster)
	return c == nil || c.CanSeal
}

func (s *fromCatalog) Extend(topic catalog.ID) *catalog.Extend { return s.w.Snapshot().Extend(topic) }

func (s *fromCatalog) ReadExtend(ctx context.Context, topic catalog.ID) (*catalog.Extend, error) {
	tenant, err := s.tenant(topic)
	if err != nil {
		return nil, err
	}
	e, err := s.c.Extend(ctx, tenant, topic)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &e, nil
}

func (s *fromCatalog) Fences() []catalog.ID {
	var ids []catalog.ID
	for e := range s.w.Snapshot().Extends() {
		if asksToStop(e) {
			ids = append(ids, e.Topic.ID)
		}
	}
	return ids
}

func (s *fromCatalog) Producers(ctx context.Context, ref string) ([]byte, error) {
	if b, ok := s.w.FreshProducers(ref); ok {
		return b, nil
	}
	return s.c.Producers(ctx, ref)
}

func (s *fromCatalog) Report(ctx context.Context, topic catalog.ID, reports []catalog.AckReport) error {
	return s.c.PutAckReports(ctx, topic, reports)
}

func (s *fromCatalog) HoldAck(ctx context.Context, topic catalog.ID, op string, ack catalog.HoldAck) error {
	return s.c.PutHoldAck(ctx, topic, op, ack)
}

func (s *fromCatalog) Alarm(ctx context.Context, a catalog.Alarm) error { return s.c.PutAlarm(ctx, a) }

// trimTries bounds how often a trim is tried against others that change the page.
const trimTries = 20

func (s *fromCatalog) TrimStart(ctx context.Context, topic catalog.ID, partition int32, before int64) error {
	tenant, err := s.tenant(topic)
	if err != nil {
		return err
	}
	for range trimTries {
		t, pages, err := s.c.Chains(ctx, tenant, topic)
		if err != nil {
			return err
		}
		i := int(partition) / catalog.PageSize
		if partition < 0 || i >= len(pages) || int(partition)%catalog.PageSize >= len(pages[i].Chains) {
			return ErrUnknownPartition
		}
		page := pages[i]
		c := &page.Chains[int(partition)%catalog.PageSize]
		if before <= c.Start {
			return nil
		}
		// Spans that end below the start are dropped by the controller, which
		// also deletes what they lie on.
		c.Start = before
		err = s.c.CommitPages(ctx, catalog.CommitRequest{Tenant: tenant, Topic: topic, TopicRevision: t.Revision, Pages: []catalog.Page{page}})
		if err == nil || !errors.Is(err, catalog.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("trim partition %d: %w", partition, catalog.ErrConflict)
}
