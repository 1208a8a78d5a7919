package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A physical topic may be gone while its cluster is well: somebody has deleted it there, or the cluster's disks
// were emptied. That is a log that went back to its start, and is dealt with alike, once it is
// certain: nothing is given up for an answer of a broker that lags, or for none at all.

// errUnconfirmed: a cluster says that it has a physical topic no more, and has to say so again.
var errUnconfirmed = errors.New("the cluster is asked once more later")

// confirmGone is nil once a cluster has said twice, apart from each other, that it has a copy's physical topic no
// more. found is the error that it was found by.
func (t *term) confirmGone(ctx context.Context, c *catalog.Copy, found error) error {
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	asked := time.Now()
	gone, err := span.IsGone(call, st, span.Topic{Name: c.Topic, ID: c.TopicID})
	t.mu.Lock()
	defer t.mu.Unlock()
	since, before := t.absent[c.TopicID]
	switch {
	case err != nil || !gone:
		delete(t.absent, c.TopicID)
		if err == nil {
			err = span.ErrUnavailable // found by one that lags
		}
		return fmt.Errorf("%w (%w)", err, found)
	case !before:
		t.absent[c.TopicID] = time.Now()
		return fmt.Errorf("%w: %w", found, errUnconfirmed)
	case asked.Sub(since) < t.driver.limits.gone:
		return fmt.Errorf("%w: %w", found, errUnconfirmed)
	}
	return nil
}

// absence looks for physical topics that are gone while their clusters are up. A chain whose open copy is gone is
// extended past all that it held, as it would be if the cluster were lost; the return that follows finds nothing to
// take in, and says so.
func (t *term) absence(ctx context.Context) error {
	for {
		if err := pause(ctx, 2*t.driver.limits.gone); err != nil {
			return err
		}
		s := t.o.Watcher.Snapshot()
		for _, c := range s.Clusters() {
			if !healthy(opinions(s, c.Name), time.Now(), 0) {
				continue
			}
			if err := t.absentOn(ctx, s, c.Name); err != nil {
				return err
			}
		}
	}
}

// absentOn looks at one cluster. The snapshot is older than the list, so what the chains name in it had been made by then.
func (t *term) absentOn(ctx context.Context, s *catalog.Snapshot, cluster string) error {
	st, err := t.o.Stores.Store(cluster)
	if err != nil {
		return ctx.Err() // looked at again
	}
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	list, err := st.Topics(call, physicalPrefix(t.o.Catalog.Fleet()))
	if err != nil {
		return ctx.Err()
	}
	there := make(map[catalog.ID]bool, len(list))
	for _, p := range list {
		there[p.ID] = true
	}
	for topic := range s.AllTopics() {
		if topic.Deleting || s.Extend(topic.ID) != nil {
			continue
		}
		for _, p := range openTopics(s.Chains(topic.ID)) {
			if p.Cluster != cluster || there[p.TopicID] {
				continue
			}
			if err := t.openAbsent(ctx, catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}); err != nil {
				return err
			}
		}
	}
	return nil
}

// openAbsent has a topic go on in a fresh physical topic, if an open copy of it is gone for certain.
func (t *term) openAbsent(ctx context.Context, ref catalog.TopicRef) error {
	s, err := t.o.Watcher.RefreshTopic(ctx, ref.Tenant, ref.ID)
	if err != nil {
		return err
	}
	now := s.TopicByID(ref.ID)
	if now == nil || now.Deleting || s.Extend(ref.ID) != nil {
		return nil
	}
	gone, err := t.openGone(ctx, s.Chains(ref.ID))
	if err != nil || !gone {
		return ctx.Err() // not certain: asked again at the next look
	}
	repairing, err := t.repairing(ctx)
	if err != nil || repairing[ref.ID] {
		return err
	}
	return t.repair(ctx, s, ref, physicalGone)
}

// openGone tells whether a physical topic that a chain appends to is gone for certain.
func (t *term) openGone(ctx context.Context, chains []*catalog.Chain) (bool, error) {
	for _, p := range openTopics(chains) {
		st, err := t.o.Stores.Store(p.Cluster)
		if err != nil {
			return false, err
		}
		err = t.probe(ctx, st, p)
		if !errors.Is(err, span.ErrGone) {
			continue
		}
		return true, t.confirmGone(ctx, &catalog.Copy{Cluster: p.Cluster, Topic: p.Topic, TopicID: p.TopicID}, err)
	}
	return false, nil
}
