package controller

import (
	"context"
	"errors"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// alarms turns reports of physical logs that went back into repairs, and drops
// those that an extend has dealt with.
func (t *term) alarms(ctx context.Context) error {
	list, err := t.o.Catalog.Alarms(ctx)
	if err != nil || len(list) == 0 {
		return err
	}
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	repairing, err := t.repairing(ctx)
	if err != nil {
		return err
	}
	for _, a := range list {
		ch, _ := s.Chain(a.Topic.ID, a.Partition)
		if ch == nil || chain.OpenSpan(ch) == nil || chain.OpenSpan(ch).Seq != a.Span {
			if err := t.o.Catalog.DeleteAlarm(ctx, a); err != nil && !isConflict(err) {
				return err
			}
			continue
		}
		if s.Extend(a.Topic.ID) != nil || repairing[a.Topic.ID] {
			continue
		}
		repairing[a.Topic.ID] = true
		if err := t.repair(ctx, s, a.Topic, "a physical log went back"); err != nil {
			return err
		}
	}
	return nil
}

// repairing lists the topics of repairs that are not finished.
func (t *term) repairing(ctx context.Context) (map[catalog.ID]bool, error) {
	ops, err := t.o.Catalog.Ops(ctx)
	if err != nil {
		return nil, err
	}
	out := map[catalog.ID]bool{}
	for i := range ops {
		if ops[i].Kind == catalog.OpRepair && !ops[i].IsFinished() {
			for _, ref := range ops[i].Topics {
				out[ref.ID] = true
			}
		}
	}
	return out, nil
}

// repair submits an extend onto a fresh topic of the same cluster.
func (t *term) repair(ctx context.Context, s *catalog.Snapshot, ref catalog.TopicRef, why string) error {
	on := openOn(s.Chains(ref.ID))
	if len(on) == 0 {
		return nil
	}
	op, err := t.o.Catalog.CreateOp(ctx, catalog.Op{Kind: catalog.OpRepair, State: catalog.OpPending, Topics: []catalog.TopicRef{ref},
		To: on[0], Total: 1, Reason: why})
	if err == nil {
		t.o.Logger.Warn("topic is repaired by an extend", "topic", ref.Name, "op", op.ID, "reason", why)
	}
	return err
}

// needsRepair tells whether a repair still has something to do: an alarm on an
// open span, or a seal that no extend stands behind.
func (t *term) needsRepair(ctx context.Context, ref catalog.TopicRef, chains []*catalog.Chain) (bool, error) {
	list, _, err := t.o.Catalog.AlarmsOf(ctx, ref.ID)
	if err != nil {
		return false, err
	}
	for _, a := range list {
		if int(a.Partition) < len(chains) {
			if sp := chain.OpenSpan(chains[a.Partition]); sp != nil && sp.Seq == a.Span {
				return true, nil
			}
		}
	}
	return t.sealedWithoutExtend(ctx, chains)
}

// sealedWithoutExtend finds a seal that a former controller sent and that landed
// after its extend had been undone.
func (t *term) sealedWithoutExtend(ctx context.Context, chains []*catalog.Chain) (bool, error) {
	for _, p := range openTopics(chains) {
		st, err := t.o.Stores.Store(p.Cluster)
		if err != nil {
			return false, err
		}
		err = t.probe(ctx, st, p)
		if errors.Is(err, span.ErrSealed) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}
