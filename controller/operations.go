package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// progressEvery is how often a running operation's counts are written.
const progressEvery = 500 * time.Millisecond

// operations takes up what was submitted, and what a former leader left running.
func (t *term) operations(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range t.o.Catalog.OpChanges(ctx) {
		ops, err := t.o.Catalog.Ops(ctx)
		if err != nil {
			return err
		}
		for _, op := range ops {
			if op.IsFinished() || op.Kind == catalog.OpReturn || !t.takeOp(op.ID) {
				continue // returns are made by the loop that finds them
			}
			t.wg.Go(func() {
				defer t.releaseOp(op.ID)
				t.runOp(t.ctx, op) // it outlives the loop that found it
			})
		}
		if err := t.alarms(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (t *term) takeOp(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ops[id] {
		return false
	}
	t.ops[id] = true
	return true
}

func (t *term) releaseOp(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ops, id)
	delete(t.runs, id)
}

// opRun is an operation in this controller's hands.
type opRun struct {
	t      *term
	mu     sync.Mutex
	op     catalog.Op
	cancel bool
	dirty  bool
	errs   []string
	told   int                      // errors in all
	waits  map[string]string        // by topic: what its extend waits for
	under  map[catalog.ID]bool      // topics under way; true: committed, and being certified
	over   map[catalog.ID]bool      // topics that it is through with, well or not
	sent   map[string]int           // partitions that went to clusters other than the plan's
	looks  map[string]*targetAnswer // by cluster
}

// runOp works through an operation's topics. Topics that are where they should be
// count as done, so an operation that a former leader left is simply run again.
func (t *term) runOp(ctx context.Context, op catalog.Op) {
	r := &opRun{t: t, op: op, cancel: op.Cancel}
	r.op.State, r.op.Done, r.op.Failed, r.op.Message = catalog.OpRunning, 0, 0, ""
	t.mu.Lock()
	t.runs[op.ID] = r
	t.mu.Unlock()
	if err := r.write(ctx); err != nil {
		t.opFailed(op.ID, err)
		return
	}
	watchCtx, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.follow(watchCtx) })
	err := r.begin(ctx)
	if err == nil && r.op.Kind == catalog.OpFailover && r.op.Force {
		// Before the topics: shards whose logs these move off the cluster have their state in memory, and write it again.
		err = t.giveUp(ctx, r.op.Cluster)
	}
	if err == nil {
		r.topics(ctx)
		if r.op.Kind == catalog.OpFailover && ctx.Err() == nil {
			// After the open spans: appends first.
			err = r.t.hideSealed(ctx, r.op.Cluster)
		}
	}
	stop()
	watch.Wait()
	if ctx.Err() != nil {
		return // the next leader goes on
	}
	r.mu.Lock()
	r.op.Finished = time.Now().UTC()
	switch {
	case err != nil:
		r.op.State, r.op.Message = catalog.OpFailed, err.Error()
	case r.op.Failed > 0:
		r.op.State = catalog.OpFailed
	case r.cancel && r.op.Done < r.op.Total:
		r.op.State = catalog.OpCancelled
	default:
		r.op.State, r.op.Progress = catalog.OpDone, 100
		if r.op.Kind == catalog.OpFailback && r.op.Total == 0 {
			r.op.Message = "cluster " + r.op.Cluster + " is active; no topic was to be moved"
		}
	}
	r.summary()
	if left := r.op.Total - r.op.Done; r.op.State == catalog.OpCancelled && r.op.Message == "" {
		r.op.Message = topicCount(left, " was left where it is", " were left where they are")
	}
	r.mu.Unlock()
	for {
		werr := r.write(ctx)
		if werr == nil || ctx.Err() != nil || errors.Is(werr, catalog.ErrFenced) {
			return
		}
		t.opFailed(op.ID, werr)
		if pause(ctx, 200*time.Millisecond) != nil {
			return
		}
	}
}

func (t *term) opFailed(id string, err error) {
	if t.ctx.Err() == nil {
		t.o.Logger.Warn("operation cannot be written", "op", id, "err", err)
	}
}

// begin does what an operation needs before its topics.
func (r *opRun) begin(ctx context.Context) error {
	var state catalog.ClusterState
	switch r.op.Kind {
	case catalog.OpDrain:
		state = catalog.ClusterDraining
	case catalog.OpFailover:
		if r.op.Again {
			return r.leaveIfBack(ctx)
		}
		state = catalog.ClusterFailed
	case catalog.OpFailback:
		state = catalog.ClusterActive
	default:
		return nil
	}
	return r.t.setClusterState(ctx, r.op.Cluster, state, r.op.Automatic)
}

// leaveIfBack cancels a failover that is for what an earlier one has left, if the cluster is in use again.
func (r *opRun) leaveIfBack(ctx context.Context) error {
	c, err := r.t.o.Catalog.Cluster(ctx, r.op.Cluster)
	if err != nil || c.State == catalog.ClusterFailed {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel, r.op.Message = true, "cluster "+c.Name+" is "+string(c.State)+" again"
	return nil
}

// setClusterState writes a cluster's state if it differs; automatic: no operator asked
// for it, so that it ends by itself; what an operator asked for stays.
func (t *term) setClusterState(ctx context.Context, name string, state catalog.ClusterState, automatic bool) error {
	return t.changeCluster(ctx, name, func(c *catalog.Cluster) bool {
		before := catalog.ClusterState("")
		if automatic {
			before = c.State
		}
		if c.State == state && (automatic || c.Before == "") {
			return false
		}
		c.State, c.Before = state, before
		return true
	})
}

// changeCluster writes what change makes of a cluster; with false nothing is written.
func (t *term) changeCluster(ctx context.Context, name string, change func(*catalog.Cluster) bool) error {
	for {
		c, err := t.o.Catalog.Cluster(ctx, name)
		if err != nil {
			return err
		}
		if !change(&c) {
			return nil
		}
		c, err = t.o.Catalog.PutCluster(ctx, c, t.driver.fence)
		if err == nil {
			t.o.Logger.Info("cluster state changed", "cluster", name, "state", c.State)
			_, err = t.o.Watcher.RevisionAtLeast(ctx, c.Revision)
			return err
		}
		if !isConflict(err) || errors.Is(err, catalog.ErrFenced) {
			return err
		}
	}
}

// write stores the operation; a wish to cancel that came meanwhile is taken over.
func (r *opRun) write(ctx context.Context) error {
	for {
		r.mu.Lock()
		op := r.op
		r.dirty = false
		r.mu.Unlock()
		next, err := r.t.o.Catalog.UpdateOp(ctx, op, r.t.driver.fence)
		if err == nil {
			r.mu.Lock()
			r.op.Revision = next.Revision
			r.mu.Unlock()
			return nil
		}
		if !isConflict(err) || errors.Is(err, catalog.ErrFenced) {
			return err
		}
		now, err := r.t.o.Catalog.Op(ctx, op.ID)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.op.Revision, r.op.Cancel = now.Revision, now.Cancel
		r.cancel = r.cancel || now.Cancel
		r.mu.Unlock()
	}
}

// follow writes progress and learns of a wish to cancel.
func (r *opRun) follow(ctx context.Context) {
	changed := r.t.o.Catalog.OpChanges(ctx)
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for range changed { //nolint:revive // wait for the watch to end
			}
			return
		case _, ok := <-changed:
			if !ok {
				return
			}
			if now, err := r.t.o.Catalog.Op(ctx, r.op.ID); err == nil && now.Cancel {
				r.mu.Lock()
				r.cancel = true
				r.mu.Unlock()
			}
		case <-tick.C:
			s := r.t.o.Watcher.Snapshot()
			r.mu.Lock()
			if now := r.percent(s); now > r.op.Progress {
				r.op.Progress, r.dirty = now, true
			}
			dirty := r.dirty
			r.mu.Unlock()
			if dirty {
				if err := r.write(ctx); err != nil {
					r.t.opFailed(r.op.ID, err)
				}
			}
		}
	}
}

// stepShare is how far a topic is at a step, in percent: roughly, since what each takes depends on others.
var stepShare = map[catalog.Step]int{
	catalog.StepPrepare: 10, catalog.StepHold: 30, catalog.StepSeal: 50, catalog.StepRead: 60, catalog.StepCommit: 60,
}

// certifyShare is how far a topic is whose extend is committed.
const certifyShare = 80

// percent is how far the operation is: topics that have ended count whole, those under way by
// their steps. Needs r.mu.
func (r *opRun) percent(s *catalog.Snapshot) int {
	if r.op.Total <= 0 {
		return 0
	}
	sum := 100 * (r.op.Done + r.op.Failed)
	for id, committed := range r.under {
		if committed {
			sum += certifyShare
		} else if e := s.Extend(id); e != nil && e.Op == r.op.ID {
			sum += stepShare[e.Step]
		}
	}
	return min(sum/r.op.Total, 99) // all of it is said by the end alone
}

// underway notes that a topic was begun, or is committed.
func (r *opRun) underway(id catalog.ID, committed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.under == nil {
		r.under = map[catalog.ID]bool{}
	}
	r.under[id] = committed
}

func (r *opRun) ended(id catalog.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.under, id)
	if r.over == nil {
		r.over = map[catalog.ID]bool{}
	}
	r.over[id] = true
}

func (r *opRun) cancelled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cancel
}

func (r *opRun) count(err error, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dirty = true
	if _, ok := r.waits[name]; ok {
		delete(r.waits, name)
		r.op.Message = ""
		defer r.summary()
	}
	if err == nil {
		r.op.Done++
		return
	}
	if err == errCancelled {
		return // nothing was done
	}
	if !errors.Is(err, errCancelled) {
		r.op.Failed++
	}
	r.told++
	if len(r.errs) < 5 {
		r.errs = append(r.errs, fmt.Sprintf("topic %s: %v", name, err))
	}
	r.summary()
}

// waitsFor has the operation say what a topic's extend waits for.
func (r *opRun) waitsFor(name, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waits == nil {
		r.waits = map[string]string{}
	}
	r.waits[name], r.dirty = why, true
	r.summary()
}

// summary makes the message of what failed, and of the first by name of what waits.
// Needs r.mu.
func (r *opRun) summary() {
	if len(r.errs) == 0 && len(r.waits) == 0 {
		return
	}
	r.op.Message = ""
	for i, e := range r.errs {
		if i > 0 {
			r.op.Message += "; "
		}
		r.op.Message += e
	}
	if n := r.told - len(r.errs); n > 0 {
		r.op.Message += fmt.Sprintf("; and %d more", n)
	}
	if len(r.waits) == 0 {
		return
	}
	first := slices.Min(slices.Collect(maps.Keys(r.waits)))
	if r.op.Message != "" {
		r.op.Message += "; "
	}
	r.op.Message += fmt.Sprintf("topic %s: %s", first, r.waits[first])
	if n := len(r.waits) - 1; n > 0 {
		r.op.Message += fmt.Sprintf("; and %d more wait", n)
	}
}

// errCancelled: a topic was left alone or undone because the operation was cancelled.
var errCancelled = errors.New("cancelled")

// topics extends all topics of the operation, several at once.
func (r *opRun) topics(ctx context.Context) {
	targets := r.targets()
	slots := r.t.slots
	if r.op.Kind == catalog.OpFailover {
		slots = r.t.wide
	}
	var wg sync.WaitGroup
	for _, ref := range r.op.Topics {
		if ctx.Err() != nil {
			break
		}
		// What a former leader left half-way is undone; the rest is left alone.
		if e := r.t.o.Watcher.Snapshot().Extend(ref.ID); r.cancelled() && (e == nil || e.Op != r.op.ID) {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		wg.Go(func() {
			held := true
			free := func() {
				if held {
					held = false
					<-slots
				}
			}
			defer free()
			r.underway(ref.ID, false)
			e, err := r.t.moveTopic(ctx, r, ref, targets[ref.ID])
			free() // certifying takes none of the places for extending
			if err == nil && e.Step == catalog.StepCertify {
				r.underway(ref.ID, true)
				err = r.t.awaitCertificate(ctx, e)
			}
			r.ended(ref.ID)
			if ctx.Err() == nil {
				r.count(err, ref.Name)
			}
		})
	}
	wg.Wait()
}

// targets chooses each topic's cluster, as the plan did.
func (r *opRun) targets() map[catalog.ID]string {
	out := map[catalog.ID]string{}
	s := r.t.o.Watcher.Snapshot()
	from := candidates(s, r.t.loads)
	p := Plan{Kind: r.op.Kind}
	exclude, to := "", r.op.To
	switch r.op.Kind {
	case catalog.OpDrain, catalog.OpFailover:
		exclude = r.op.Cluster
	case catalog.OpFailback:
		to = r.op.Cluster
	}
	for _, ref := range r.op.Topics {
		if t := s.TopicByID(ref.ID); t != nil {
			p.add(s, t, to, from, exclude)
		}
		if to != "" {
			out[ref.ID] = to // also where it is already: to be found out under the topic's own lock
		}
	}
	for _, m := range p.Moves {
		out[m.Topic.ID] = m.To
	}
	return out
}
