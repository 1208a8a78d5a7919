package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/span"
)

// turn writes another target, and a fresh topic to be made there, into an extend
// that cannot be undone any more. The one that was made goes with the sweep: while
// producers wait, nothing is asked of a cluster that may be away.
func (r *run) turn(ctx context.Context, d extend.Decision) error {
	if r.e.Aim != "" {
		if err := pause(ctx, time.Second); err != nil { // to and fro between clusters that are both away
			return err
		}
	}
	next := r.e
	if next.Aim == "" {
		next.Aim = next.Target
	}
	next.Target, next.Message = d.Target, d.Message
	next.New = catalog.PhysicalTopic{Cluster: d.Target, Topic: physicalName(r.cat.Fleet(), r.e.Topic.Tenant, r.e.Topic.Name), Partitions: r.topic.Partitions}
	next, err := r.cat.UpdateExtend(ctx, next, r.fence)
	if err != nil {
		return err
	}
	r.e, r.obs.Refused = next, ""
	r.log.Warn("extend goes on elsewhere: it has begun to seal, so it is not undone", "topic", r.e.Topic.Name, "op", r.e.Op,
		"aim", r.e.Aim, "target", r.e.Target, "reason", r.e.Message)
	return r.at(FaultTurned)
}

// leaves are the clusters that an extend shall not end on: those it comes from, and a target that refuses it.
func (r *run) leaves() []string {
	out := []string{r.e.Target}
	for _, old := range r.e.Old {
		out = append(out, old.Cluster)
	}
	return out
}

// targetLost refuses the target of an extend that has begun to seal once its
// cluster was declared failed. Where the topic stays on its cluster, for a repair or
// because there was no way on, it waits for that cluster as it did before: one that
// is back is still called failed until an operator fails back.
func (r *run) targetLost(ctx context.Context) error {
	if r.e.Step != catalog.StepSeal || extendedInPart(r) ||
		slices.ContainsFunc(r.e.Old, func(old catalog.PhysicalTopic) bool { return old.Cluster == r.e.Target }) {
		return nil
	}
	lost, err := r.anyFailed(ctx, []catalog.PhysicalTopic{r.e.New})
	if err == nil && lost {
		r.obs.Refused = "cluster " + r.e.Target + " is failed"
	}
	return err
}

// sourceAway deals with open copies that do not answer after the extend has begun
// to seal. A failover of the cluster that concerns the topic goes on without it; else
// the extend waits: the copies may be sealed, so there is no way back.
func (r *run) sourceAway(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrConflict) {
		return err
	}
	if lost, err := r.goOnWithout(ctx); lost || err != nil {
		return err
	}
	if time.Since(r.sealing) < r.limits.seal {
		r.log.Warn("an extend that has begun to seal is tried again", "topic", r.e.Topic.Name, "what", what, "err", err)
		return pause(ctx, 100*time.Millisecond)
	}
	if why := fmt.Sprintf("sealed or about to be, and waits: %s: %v", what, err); r.waits != what {
		r.log.Error("an extend that has begun to seal waits", "topic", r.e.Topic.Name, "what", what, "err", err)
		if err := r.saysWait(ctx, what, why); err != nil {
			return err
		}
	}
	return pause(ctx, time.Second)
}

// saysWait writes down what a sealed extend waits for, and has its operation say so.
func (r *run) saysWait(ctx context.Context, what, why string) error {
	next := r.e
	next.Message = why
	next, err := r.cat.UpdateExtend(ctx, next, r.fence)
	if err != nil {
		return err
	}
	r.e, r.waits = next, what
	if r.tell != nil {
		r.tell(why)
	}
	return nil
}

// goOnWithout goes on without the topic's cluster if it is given up, and tells whether it is.
func (r *run) goOnWithout(ctx context.Context) (lost bool, err error) {
	if lost, err = r.sourceGivenUp(ctx); err != nil || !lost {
		return false, err
	}
	return true, r.giveUpSource(ctx)
}

// sourceGivenUp tells whether the topic is to go on without its cluster.
func (r *run) sourceGivenUp(ctx context.Context) (bool, error) {
	failed, err := r.sourceFailed(ctx)
	if err != nil || !failed || goesOn(&r.topic) {
		return failed, err
	}
	ops, err := r.cat.Ops(ctx) // a forced failover names the topic
	if err != nil {
		return false, err
	}
	for i := range ops {
		o := &ops[i]
		if o.Kind == catalog.OpFailover && !o.IsFinished() &&
			slices.ContainsFunc(o.Topics, func(t catalog.TopicRef) bool { return t.ID == r.e.Topic.ID }) {
			return true, nil
		}
	}
	return false, nil
}

// drop undoes what was prepared. The cluster may be away: then it is taken up later.
func (r *run) drop(ctx context.Context) error {
	began := time.Now()
	for {
		call, cancel := context.WithTimeout(ctx, r.limits.call)
		err := r.dropFresh(call)
		cancel()
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.log.Warn("undoing an extend failed, trying again", "topic", r.e.Topic.Name, "err", err)
		if errors.Is(err, span.ErrUnavailable) && r.e.New.TopicID.IsZero() {
			break // a target that was never reached: the sweep looks after what may be there
		}
		if time.Since(began) > r.limits.undo {
			return fmt.Errorf("%w: drop the fresh topic: %w", errStuck, err)
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	r.obs.Dropped = true
	return r.at(FaultDropped)
}

func (r *run) dropFresh(ctx context.Context) error {
	st, err := r.stores.Store(r.e.New.Cluster)
	if err != nil {
		return err
	}
	fresh := r.e.New
	if fresh.TopicID.IsZero() {
		// It may exist all the same: its creation was not recorded.
		list, err := st.Topics(ctx, fresh.Topic)
		if err != nil {
			return err
		}
		for _, t := range list {
			if t.Name == fresh.Topic {
				fresh.TopicID = t.ID
			}
		}
		if fresh.TopicID.IsZero() {
			return nil
		}
	}
	return st.Delete(ctx, storeTopic(fresh))
}
