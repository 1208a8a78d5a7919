package controller

import (
	"context"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Strays are seals that no extend stands behind: sent by a controller that lost
// its leadership, landed after the next one had undone the extend. Appends to such
// a topic would wait for ever, so it is extended onto a fresh topic where it is.

// strays looks at all topics once a leader has been in office for a while, and at
// those whose extend was undone a while after.
func (t *term) strays(ctx context.Context) error {
	if err := pause(ctx, t.o.StrayAfter/3); err != nil {
		return err
	}
	for topic := range t.o.Watcher.Snapshot().AllTopics() {
		if err := t.strayOf(ctx, topic.ID); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case u := <-t.undone:
			if err := pause(ctx, time.Until(u.at.Add(t.o.StrayAfter))); err != nil {
				return err
			}
			if err := t.strayOf(ctx, u.topic); err != nil {
				return err
			}
		}
	}
}

// undoing is an extend that was undone.
type undoing struct {
	topic catalog.ID
	at    time.Time
}

// noteUndone has the topic looked at again later. With too many at once the rest
// waits for the next leader's look at all topics.
func (t *term) noteUndone(id catalog.ID) {
	select {
	case t.undone <- undoing{id, time.Now()}:
	default:
	}
}

func (t *term) strayOf(ctx context.Context, id catalog.ID) error {
	s := t.o.Watcher.Snapshot()
	topic := s.TopicByID(id)
	if topic == nil || topic.Deleting || s.Extend(id) != nil {
		return nil
	}
	found, err := t.sealedWithoutExtend(ctx, s.Chains(id))
	if err != nil || !found {
		return ctx.Err() // a cluster that does not answer holds no appends up by a seal
	}
	// It may have been extended meanwhile: that would explain the seal.
	if s, err = t.o.Watcher.Refresh(ctx); err != nil {
		return err
	}
	now := s.TopicByID(id)
	if now == nil || now.Deleting || s.Extend(id) != nil {
		return nil
	}
	repairing, err := t.repairing(ctx)
	if err != nil || repairing[id] {
		return err
	}
	if found, err = t.sealedWithoutExtend(ctx, s.Chains(id)); err != nil || !found {
		return ctx.Err()
	}
	return t.repair(ctx, s, catalog.TopicRef{Tenant: now.Tenant, Name: now.Name, ID: id}, "sealed, and no extend stands behind it")
}
