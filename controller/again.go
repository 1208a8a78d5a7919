package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/audit"
)

// A failover takes what it can. What was left on the cluster, since nothing took it just then, or since it was not
// to go on then, is tried again for as long as the cluster is away: by an operation of its own, and only when
// some cluster would take it, so that the list of operations is not filled by what cannot be.

// againPatience is how long a target may be silent before it is taken for one that takes nothing now.
const againPatience = 2 * time.Second

// pauses between two tries with nothing new, in damping times: they double. What has failed often is tried less often,
// since every try is an operation.
const (
	againLongest = 12
	againOften   = 10 // tries
	againRarely  = 120
)

// leftovers is what is known of the topics that a failed cluster still has.
type leftovers struct {
	usable []string // clusters that took spans at the last look
	tried  map[catalog.ID]bool
	look   time.Time // of the next, if no cluster comes to be of use
	next   time.Time // try, if nothing is new
	pause  time.Duration
	vain   int // tries with nothing new
}

// again has topics that may go on do so that a failover has left on a cluster which is still away.
func (t *term) again(ctx context.Context) error {
	if t.o.Damping < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	changed, stop := t.changes(ctx, max(t.o.Damping/5, 20*time.Millisecond), func(c catalog.Change) bool { return c.Votes || c.Gateways || len(c.Clusters) > 0 })
	defer stop()
	left := map[string]*leftovers{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		s := t.o.Watcher.Snapshot()
		for _, c := range s.Clusters() {
			if !t.lost(s, c) {
				delete(left, c.Name)
				continue
			}
			x := left[c.Name]
			if x == nil {
				x = &leftovers{tried: map[catalog.ID]bool{}}
				left[c.Name] = x
			}
			if err := t.tryAgain(ctx, s, c.Name, x); err != nil {
				return err
			}
		}
	}
}

// lost tells whether a cluster is failed and still away.
func (t *term) lost(s *catalog.Snapshot, c *catalog.Cluster) bool {
	return c != nil && c.State == catalog.ClusterFailed && failed(asOf(opinions(s, c.Name), t.began), len(s.Gateways()), time.Now(), t.o.Damping)
}

// tryAgain looks at one cluster, if it is time to.
func (t *term) tryAgain(ctx context.Context, s *catalog.Snapshot, cluster string, x *leftovers) error {
	now := time.Now()
	if !x.looks(now, usableBeside(candidates(s, t.loads), cluster), t.o.Damping) {
		return nil
	}
	ops, err := t.o.Catalog.Ops(ctx)
	if err != nil {
		return err
	}
	// Read after the list: what the operations that have ended moved is not on the cluster any more.
	if s, err = t.o.Watcher.Refresh(ctx); err != nil || !t.lost(s, s.Cluster(cluster)) {
		return err
	}
	topics := t.leftOn(s, ops, cluster)
	if len(topics) == 0 {
		return nil // or they are under way: if that fails, they are not new
	}
	if !x.tries(now, topics, t.o.Damping) {
		return nil
	}
	to := failoverTo(ops, cluster)
	moves, err := t.takers(ctx, s, topics, cluster, to)
	if err != nil {
		return err
	}
	if len(moves) == 0 {
		x.vain = min(x.vain, againOften) // no operation came of it
		t.o.Logger.Debug("no cluster takes what was left on one that is failed", "cluster", cluster, "topics", len(topics), "pause", x.pause)
		return nil
	}
	return t.submitAgain(ctx, cluster, to, moves)
}

// looks tells whether it is time to look which topics are left.
func (x *leftovers) looks(now time.Time, usable []string, damping time.Duration) bool {
	gained := slices.ContainsFunc(usable, func(name string) bool { return !slices.Contains(x.usable, name) })
	if x.usable = usable; gained {
		x.next, x.pause, x.vain = time.Time{}, 0, 0
	} else if now.Before(x.look) {
		return false
	}
	x.look = now.Add(damping)
	return true
}

// tries tells whether it is time to try topics that are left, and notes that they are tried.
func (x *leftovers) tries(now time.Time, topics []*catalog.Topic, damping time.Duration) bool {
	fresh := slices.ContainsFunc(topics, func(topic *catalog.Topic) bool { return !x.tried[topic.ID] })
	switch {
	case fresh:
		x.pause, x.vain = 0, 0
	case now.Before(x.next):
		return false
	}
	x.vain++
	longest := againLongest * damping
	if x.vain > againOften {
		longest = againRarely * damping
	}
	x.pause = min(max(2*x.pause, damping), longest)
	x.next = now.Add(x.pause)
	for _, topic := range topics {
		x.tried[topic.ID] = true
	}
	return true
}

// usableBeside lists the clusters that take spans that leave another.
func usableBeside(from []candidate, cluster string) (out []string) {
	for _, c := range from {
		if c.name != cluster && c.usable() {
			out = append(out, c.name)
		}
	}
	return out
}

// leftOn lists the topics that may go on and append to the cluster, but for those that an operation has in hand and those
// whose failover was cancelled: that was an operator's decision.
func (t *term) leftOn(s *catalog.Snapshot, ops []catalog.Op, cluster string) (out []*catalog.Topic) {
	busy := map[catalog.ID]bool{}
	for i := range ops {
		if ops[i].Kind == catalog.OpFailover && ops[i].Cluster == cluster && !ops[i].IsFinished() {
			for _, ref := range ops[i].Topics {
				busy[ref.ID] = busy[ref.ID] || !t.hasEnded(ops[i].ID, ref.ID)
			}
		}
	}
	cancelled := cancelledFailovers(ops, cluster)
	for topic := range s.AllTopics() {
		if goesOn(topic) && !topic.Deleting && !busy[topic.ID] && cancelled[topic.ID] == "" && s.Extend(topic.ID) == nil &&
			slices.Contains(openOn(s.Chains(topic.ID)), cluster) {
			out = append(out, topic)
		}
	}
	slices.SortFunc(out, func(a, b *catalog.Topic) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

// cancelledFailovers gives by topic the cancelled operation that last was to take it off the cluster, since the cluster was failed last.
func cancelledFailovers(ops []catalog.Op, cluster string) map[catalog.ID]string {
	out := map[catalog.ID]string{}
	for i := range ops { // oldest first
		op := &ops[i]
		if op.Kind != catalog.OpFailover || op.Cluster != cluster {
			continue
		}
		if !op.Again {
			clear(out)
		}
		for _, ref := range op.Topics {
			delete(out, ref.ID)
			if op.Cancel {
				out[ref.ID] = op.ID
			}
		}
	}
	return out
}

// failoverTo is where an operator has ordered the cluster's topics to; "" if placement chooses.
func failoverTo(ops []catalog.Op, cluster string) (to string) {
	for i := range ops { // oldest first
		if ops[i].Kind == catalog.OpFailover && ops[i].Cluster == cluster {
			to = ops[i].To
		}
	}
	return to
}

// hasEnded tells whether an operation that this controller runs is through with a topic.
func (t *term) hasEnded(op string, topic catalog.ID) bool {
	t.mu.Lock()
	r := t.runs[op]
	t.mu.Unlock()
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over[topic]
}

// takers plans the topics onto clusters that take appends at this moment; those that none takes are left out.
func (t *term) takers(ctx context.Context, s *catalog.Snapshot, topics []*catalog.Topic, cluster, to string) ([]PlannedMove, error) {
	refused := map[string]bool{}
	for {
		from := candidates(s, t.loads)
		for i := range from {
			from[i].active = from[i].active && !refused[from[i].name] && (to == "" || from[i].name == to)
		}
		p := Plan{Kind: catalog.OpFailover}
		for _, topic := range topics {
			p.add(s, topic, "", from, cluster)
		}
		p.Moves = slices.DeleteFunc(p.Moves, func(m PlannedMove) bool { return m.To == "" })
		all, asked := true, map[string]bool{}
		for _, m := range p.Moves {
			if asked[m.To] {
				continue
			}
			asked[m.To] = true
			if err := t.lookAtTarget(ctx, m.To, catalog.OpFailover, againPatience); err != nil {
				if ctx.Err() != nil || errors.Is(err, catalog.ErrUnavailable) {
					return nil, err
				}
				t.o.Logger.Debug("a cluster does not take what was left on one that is failed", "cluster", m.To, "failed", cluster, "err", err)
				all, refused[m.To] = false, true
			}
		}
		if all {
			return p.Moves, nil
		}
	}
}

// submitAgain submits a failover of topics that an earlier one has left.
func (t *term) submitAgain(ctx context.Context, cluster, to string, moves []PlannedMove) error {
	op := catalog.Op{Kind: catalog.OpFailover, State: catalog.OpPending, Cluster: cluster, To: to, Automatic: true, Again: true, Total: len(moves),
		Reason: "the cluster is still away, and another takes what was left on it"}
	for _, m := range moves {
		op.Topics = append(op.Topics, m.Topic)
	}
	op, err := t.o.Catalog.CreateOp(ctx, op)
	if err != nil {
		return err
	}
	t.o.Audit.Record(audit.Event{Kind: audit.Change, Who: "controller", Action: "failover", Resource: "CLUSTER " + cluster,
		Detail: fmt.Sprintf("operation %s, %d topics: %s", op.ID, len(op.Topics), op.Reason), Result: audit.Done})
	t.o.Logger.Warn("topics that were left on a failed cluster are failed over", "cluster", cluster, "op", op.ID, "topics", len(op.Topics))
	return nil
}
