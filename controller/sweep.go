package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// orphanKey names a physical topic.
type orphanKey struct {
	cluster string
	id      catalog.ID
}

// sweep deletes physical topics of this fleet that nothing has referred to for a
// long time: left by failures, by empty spans that vanished, by trims. And it keeps
// reports of acknowledgements small.
func (t *term) sweep(ctx context.Context) error {
	for {
		if err := t.sweepOnce(ctx); err != nil {
			return err
		}
		if err := t.sweepReports(ctx); err != nil {
			return err
		}
		if err := pause(ctx, t.o.SweepEvery); err != nil {
			return err
		}
	}
}

// physicalTopic is a physical topic as its cluster lists it.
type physicalTopic struct {
	orphanKey
	topic span.Topic
}

func (t *term) sweepOnce(ctx context.Context) error {
	var listed []physicalTopic
	for _, c := range t.o.Watcher.Snapshot().Clusters() {
		st, err := t.o.Stores.Store(c.Name)
		if err != nil {
			continue
		}
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		list, err := st.Topics(call, physicalPrefix(t.o.Catalog.Fleet()))
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			t.o.Logger.Debug("cluster was not swept", "cluster", c.Name, "err", err)
			continue
		}
		for _, topic := range list {
			listed = append(listed, physicalTopic{orphanKey{c.Name, topic.ID}, topic})
		}
	}
	// The catalog is read after the lists: what was made before is referred to by
	// now, or is young enough to wait for.
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	needed := references(s)
	due, next := orphans(listed, needed, t.orphan, time.Now(), t.o.OrphanAge)
	t.orphan = next
	for _, p := range due {
		st, err := t.o.Stores.Store(p.cluster)
		if err != nil {
			continue
		}
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		err = st.Delete(call, p.topic)
		cancel()
		if err != nil {
			t.o.Logger.Warn("orphan was not deleted", "cluster", p.cluster, "topic", p.topic.Name, "err", err)
			continue
		}
		t.o.Logger.Info("orphan is deleted", "cluster", p.cluster, "topic", p.topic.Name)
	}
	return nil
}

// orphans decides what to delete: what nothing refers to now and for age before.
// seen holds since when; next is what it will be.
func orphans(listed []physicalTopic, needed func(physicalTopic) bool, seen map[orphanKey]time.Time, now time.Time, age time.Duration) (due []physicalTopic, next map[orphanKey]time.Time) {
	next = map[orphanKey]time.Time{}
	for _, p := range listed {
		if needed(p) {
			continue
		}
		since, ok := seen[p.orphanKey]
		if !ok {
			since = now
		}
		if now.Sub(since) >= age {
			due = append(due, p)
		}
		next[p.orphanKey] = since
	}
	return due, next
}

// references tells whether a chain or an extend needs a physical topic. An
// extend's fresh topic is known by name before its id is.
func references(s *catalog.Snapshot) func(physicalTopic) bool {
	ids := map[orphanKey]bool{}
	names := map[string]bool{}
	for topic := range s.AllTopics() {
		for _, p := range allTopics(s.Chains(topic.ID)) {
			ids[orphanKey{p.Cluster, p.TopicID}] = true
		}
	}
	for e := range s.Extends() {
		names[e.New.Topic] = true
		for _, p := range e.Old {
			ids[orphanKey{p.Cluster, p.TopicID}] = true
		}
	}
	return func(p physicalTopic) bool { return ids[p.orphanKey] || names[p.topic.Name] }
}
