package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
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
		t.absent[c.TopicID], t.doubted = time.Now(), true
		return fmt.Errorf("%w: %w", found, errUnconfirmed)
	case asked.Sub(since) < t.driver.limits.gone:
		t.doubted = true
		return fmt.Errorf("%w: %w", found, errUnconfirmed)
	}
	return nil
}

// absence looks for physical topics that are gone while their clusters are up, with one list of each cluster. A chain
// whose open copy is gone is extended past all that it held, as it would be if the cluster were lost; the return that follows
// finds nothing to take in, and says so. A sealed span that is gone is given up as it is; see forfeit.
func (t *term) absence(ctx context.Context) error {
	for {
		if err := t.untilLook(ctx); err != nil {
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

// untilLook waits for the next look: sooner, if a cluster has to be asked for the second time.
func (t *term) untilLook(ctx context.Context) error {
	for range 2 {
		if err := pause(ctx, t.driver.limits.gone); err != nil {
			return err
		}
		t.mu.Lock()
		due := t.doubted
		t.doubted = false
		t.mu.Unlock()
		if due {
			break
		}
	}
	return nil
}

// absentOn looks at one cluster. The snapshot is older than the list, so what the chains name in it had been made by then.
func (t *term) absentOn(ctx context.Context, s *catalog.Snapshot, cluster string) error {
	there, err := listed(ctx, t.o.Stores, t.o.Catalog.Fleet(), cluster, t.driver.limits.call)
	if err != nil {
		return ctx.Err() // looked at again
	}
	t.mu.Lock()
	for id := range t.absent {
		if there[id] {
			delete(t.absent, id) // the next answer is the first of two again
		}
	}
	t.mu.Unlock()
	absent := func(topics []catalog.PhysicalTopic) bool {
		return slices.ContainsFunc(topics, func(p catalog.PhysicalTopic) bool { return p.Cluster == cluster && !there[p.TopicID] })
	}
	type found struct {
		ref          catalog.TopicRef
		open, sealed bool
	}
	var all []found
	for topic := range s.AllTopics() {
		if topic.Deleting || s.Extend(topic.ID) != nil {
			continue
		}
		x := found{ref: catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}}
		chains := s.Chains(topic.ID)
		x.open, x.sealed = absent(openTopics(chains)), absent(sealedTopics(chains))
		if x.open || x.sealed {
			all = append(all, x)
		}
	}
	return each(ctx, make([]*catalog.Chain, len(all)), func(ctx context.Context, i int, _ *catalog.Chain) error {
		if all[i].open {
			if err := t.openAbsent(ctx, all[i].ref); err != nil {
				return err
			}
		}
		if !all[i].sealed {
			return nil
		}
		err := t.sealedAbsent(ctx, all[i].ref, cluster, there)
		if errors.Is(err, catalog.ErrFenced) || errors.Is(err, errCrashed) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			t.o.Logger.Warn("sealed spans that are gone are not given up yet", "topic", all[i].ref.Name, "cluster", cluster, "err", err)
		}
		return nil
	})
}

// listed tells which of the fleet's physical topics a cluster has, as one of its brokers has heard.
func listed(ctx context.Context, stores chain.Stores, fleet, cluster string, limit time.Duration) (map[catalog.ID]bool, error) {
	st, err := stores.Store(cluster)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	list, err := st.Topics(ctx, physicalPrefix(fleet))
	if err != nil {
		return nil, err
	}
	there := make(map[catalog.ID]bool, len(list))
	for _, p := range list {
		there[p.ID] = true
	}
	return there, nil
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
