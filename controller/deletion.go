package controller

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// deleteTopics seals and deletes what is behind the topics that were marked, and
// then forgets them. What is on a cluster that is away waits for it.
func (t *term) deleteTopics(ctx context.Context) error {
	changed, stop := t.changes(ctx, 5*time.Second, func(c catalog.Change) bool {
		for _, id := range c.Topics {
			if topic := c.New.TopicByID(id); topic != nil && topic.Deleting {
				return true
			}
		}
		return false
	})
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		for topic := range t.o.Watcher.Snapshot().AllTopics() {
			if !topic.Deleting || !t.take(topic.ID) {
				continue
			}
			err := t.deleteTopic(ctx, topic.Tenant, topic.ID)
			t.release(topic.ID)
			if errors.Is(err, catalog.ErrFenced) || errors.Is(err, errCrashed) || ctx.Err() != nil {
				return err
			}
			if err != nil {
				t.o.Logger.Warn("topic is not deleted yet", "topic", topic.Name, "err", err)
			}
		}
	}
}

func (t *term) deleteTopic(ctx context.Context, tenant string, id catalog.ID) error {
	if _, err := t.o.Catalog.Extend(ctx, tenant, id); err == nil {
		return nil // it sees the mark and undoes itself; then it is our turn
	} else if !errors.Is(err, catalog.ErrNotFound) {
		return err
	}
	topic, pages, err := t.o.Catalog.Chains(ctx, tenant, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return nil
	}
	if err != nil || !topic.Deleting {
		return err
	}
	call := func(cluster string, f func(ctx context.Context, st span.Store) error) error {
		if _, err := t.o.Catalog.Cluster(ctx, cluster); errors.Is(err, catalog.ErrNotFound) {
			return nil // removed: its records with it
		}
		st, err := t.o.Stores.Store(cluster)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		defer cancel()
		return f(ctx, st)
	}
	// Sealed first: a gateway that has not heard of the deletion must not get an
	// acknowledgement for what is about to vanish.
	for _, p := range openTopics(chainsOf(pages)) {
		err := call(p.Cluster, func(ctx context.Context, st span.Store) error {
			_, err := st.Seal(ctx, storeTopic(p))
			if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrCannotSeal) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := t.driver.at(FaultDeleteSealed); err != nil {
		return err
	}
	for _, p := range allTopics(chainsOf(pages)) {
		if err := call(p.Cluster, func(ctx context.Context, st span.Store) error { return st.Delete(ctx, storeTopic(p)) }); err != nil {
			return err
		}
	}
	if err := t.driver.at(FaultDeleteGone); err != nil {
		return err
	}
	return t.o.Catalog.RemoveTopic(ctx, topic, t.driver.fence)
}

// allTopics lists the distinct physical topics of all spans.
func allTopics(chains []*catalog.Chain) []catalog.PhysicalTopic {
	var out []catalog.PhysicalTopic
	seen := map[orphanKey]bool{}
	for _, ch := range chains {
		for i := range ch.Spans {
			for j := range ch.Spans[i].Copies {
				c := &ch.Spans[i].Copies[j]
				if k := (orphanKey{c.Cluster, c.TopicID}); !seen[k] {
					seen[k] = true
					out = append(out, catalog.PhysicalTopic{Cluster: c.Cluster, Topic: c.Topic, TopicID: c.TopicID})
				}
			}
		}
	}
	return out
}
