package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/span"
)

// reread takes the extend as the catalog has it: a write of ours may have landed
// although its answer was lost.
func (r *run) reread(ctx context.Context) error {
	e, err := r.cat.Extend(ctx, r.e.Topic.Tenant, r.e.Topic.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
		return nil // committed or forgotten: the chains tell
	case err != nil:
		return err
	case e.Op != r.e.Op:
		return errHandedOn
	}
	r.e = e
	return nil
}

// step reads what the catalog says, asks for the next action and does it.
func (r *run) step(ctx context.Context) (done bool, err error) {
	s, err := r.read(ctx)
	if err != nil {
		return false, err
	}
	if r.cancelled != nil && r.cancelled() {
		r.obs.Cancel = true
	}
	if err := r.targetLost(ctx); err != nil {
		return false, err
	}
	r.obs.Elsewhere = ""
	if r.obs.Refused != "" && r.e.Unreadable && r.another != nil {
		r.obs.Elsewhere = r.another(&r.topic, r.leaves())
	}
	switch d := extend.Next(s, r.obs); d.Do {
	case extend.Create:
		return false, r.create(ctx)
	case extend.Record:
		if d.Step == catalog.StepHold {
			if wait, err := r.lingers(ctx); wait || err != nil {
				return false, err
			}
		}
		return false, r.record(ctx, d)
	case extend.Settle:
		return false, r.settle(ctx)
	case extend.Seal:
		if err := r.seal(ctx); err != nil || !r.obs.Sealed {
			return false, err
		}
		// Appends wait from here on, so nothing is read again: the commit itself
		// compares the revisions of the topic, its pages, its alarms and the leadership.
		s.Extend = r.e
		if extend.Next(s, r.obs).Do != extend.Commit {
			return false, nil
		}
		return false, r.commit(ctx)
	case extend.Commit:
		return false, r.commit(ctx)
	case extend.Turn:
		return false, r.turn(ctx, d)
	case extend.Drop:
		return false, r.drop(ctx)
	case extend.Forget:
		if err := r.cat.DeleteExtend(ctx, r.e, r.fence); err != nil {
			return false, err
		}
		r.e.Step = catalog.StepUndone
		return true, r.at(FaultUndone)
	default:
		return true, r.finish(ctx)
	}
}

func (r *run) read(ctx context.Context) (extend.State, error) {
	s := extend.State{}
	t, pages, err := r.cat.Chains(ctx, r.e.Topic.Tenant, r.e.Topic.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound):
	case err != nil:
		return s, err
	default:
		s.Exists, s.Deleting, s.Partitions = true, t.Deleting, t.Partitions
		s.Moved, s.Left = extend.Progress(pages, r.e.New.TopicID)
		// A change of configs does not concern the extend; partitions and deletion do,
		// and are decided on.
		r.e.TopicRevision = t.Revision
	}
	r.topic, r.pages = t, pages
	s.Extend = r.e
	return s, nil
}

func (r *run) record(ctx context.Context, d extend.Decision) error {
	next := r.e
	next.Step = d.Step
	if d.Message != "" {
		next.Message = d.Message
	}
	next, err := r.cat.UpdateExtend(ctx, next, r.fence)
	if err != nil {
		return err
	}
	r.e = next
	switch d.Step {
	case catalog.StepHold:
		return r.at(FaultHolding)
	case catalog.StepSeal:
		return r.at(FaultSealing)
	case catalog.StepUndo:
		r.log.Info("extend is undone", "topic", r.e.Topic.Name, "op", r.e.Op, "reason", r.e.Message)
		return r.at(FaultUndoing)
	}
	return nil
}

// create makes the fresh topic on the target. Whatever the target has against it
// is a reason to refuse: the topic was not touched yet.
func (r *run) create(ctx context.Context) error {
	c, err := r.cat.Cluster(ctx, r.e.Target)
	if err != nil {
		return r.refuse(err, fmt.Sprintf("cluster %s", r.e.Target))
	}
	st, err := r.stores.Store(r.e.Target)
	if err != nil {
		return r.refuse(err, fmt.Sprintf("cluster %s", r.e.Target))
	}
	call, cancel := context.WithTimeout(ctx, r.limits.create(r.topic.Partitions))
	defer cancel()
	hold := holdsTombstones(chainsOf(r.pages), r.topic.Config) || isCompacted(r.topic.Config)
	config := physicalConfig(r.topic.Config, c.Kind, hold)
	if growsIndexes(r.topic.Config, &c) {
		config[indexSize] = strconv.Itoa(indexAtFirst)
	}
	t, err := createPhysical(call, st, span.Spec{Name: r.e.New.Topic, Partitions: r.topic.Partitions, Config: config})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.unmade = r.e.Step == catalog.StepPrepare
		return r.refuse(err, fmt.Sprintf("cluster %s", r.e.Target))
	}
	r.unmade = false
	if err := r.at(FaultCreated); err != nil {
		return err
	}
	next := r.e
	next.New = physicalOf(r.e.Target, t, r.topic.Partitions)
	if r.e, err = r.cat.UpdateExtend(ctx, next, r.fence); err != nil {
		r.e.New.TopicID = catalog.ID{}
		return err
	}
	return r.at(FaultPrepared)
}

// refuse notes why the extend cannot work, unless it is the catalog that is away.
func (r *run) refuse(err error, what string) error {
	if errors.Is(err, catalog.ErrUnavailable) {
		return err
	}
	r.obs.Refused = fmt.Sprintf("%s: %v", what, err)
	return nil
}

// finish makes sure that an extend whose chains are all committed is ended.
func (r *run) finish(ctx context.Context) error {
	if r.e.Step == catalog.StepCertify {
		return nil
	}
	e, err := r.cat.Extend(ctx, r.e.Topic.Tenant, r.e.Topic.ID)
	switch {
	case errors.Is(err, catalog.ErrNotFound) || err == nil && e.Op != r.e.Op:
		// Ended by a commit whose answer was lost.
		if c, cerr := r.cat.Certification(ctx, r.e.Topic.ID, r.e.Op); cerr == nil {
			r.e = c
		}
		r.e.Step = catalog.StepCertify
		return r.at(FaultCommitted)
	case err != nil:
		return err
	case len(r.pages) == 0:
		return r.cat.DeleteExtend(ctx, e, r.fence)
	}
	e.Step = catalog.StepCertify
	e.TopicRevision = r.topic.Revision
	req := catalog.CommitRequest{Tenant: e.Topic.Tenant, Topic: e.Topic.ID, TopicRevision: r.topic.Revision,
		Pages: r.pages[len(r.pages)-1:], Fence: r.fence, Extend: &e, Finish: true}
	if err := r.cat.CommitPages(ctx, req); err != nil {
		return err
	}
	r.e = e
	return r.at(FaultCommitted)
}
