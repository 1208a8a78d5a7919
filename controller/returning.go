package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// returning is the operation under which a cluster's stranded records are taken in again. Nobody has asked for
// it, and no runner takes it up: it is there for people, who find by it what certificates speak of, and see
// what a return waits for. It ends when all of its topics are taken in.
type returning struct {
	op    catalog.Op
	has   map[catalog.ID]bool // topics of the operation
	taken map[catalog.ID]bool // those of them that are taken in
	waits map[string]string   // by topic, why it is not taken in yet
	told  time.Time           // when op was last written
}

// strandedOn lists the topics with spans that were lost with a cluster, and whose records outside of the chain
// are to be taken in.
func strandedOn(s *catalog.Snapshot, cluster string) (out []catalog.TopicRef) {
	for t := range s.AllTopics() {
		if !t.Deleting && slices.ContainsFunc(s.Chains(t.ID), func(ch *catalog.Chain) bool { return wasLost(ch, cluster) }) {
			out = append(out, catalog.TopicRef{Tenant: t.Tenant, Name: t.Name, ID: t.ID})
		}
	}
	return out
}

// wasLost tells whether a return of the cluster has something to take in for a chain.
func wasLost(ch *catalog.Chain, cluster string) bool {
	for i := range ch.Spans {
		if lostCopy(&ch.Spans[i], cluster) != nil {
			return true
		}
	}
	return false
}

// returning gives the operation for what is stranded on a cluster: the one that is open (nil: none; see
// openReturnings), or a new one. nil if nothing is stranded; what was open has ended then.
func (t *term) returning(ctx context.Context, open *returning, cluster string, stranded []catalog.TopicRef) (*returning, error) {
	// A topic that it has taken in, and that is stranded again, was lost a second time. Certificates are kept
	// by topic and operation, so that is another operation.
	again := open != nil && slices.ContainsFunc(stranded, func(ref catalog.TopicRef) bool { return open.taken[ref.ID] })
	if open != nil && (again || len(stranded) == 0) {
		open.op.Message = ""
		if again {
			open.op.Message = "what is stranded since cluster " + cluster + " was lost again is taken in by another operation"
		}
		if err := t.endReturning(ctx, open); err != nil {
			return nil, err
		}
		open = nil
	}
	if len(stranded) == 0 {
		return nil, nil
	}
	if open == nil {
		op, err := t.o.Catalog.CreateOp(ctx, catalog.Op{Kind: catalog.OpReturn, State: catalog.OpRunning, Cluster: cluster,
			Topics: stranded, Total: len(stranded), Reason: "the cluster is back"})
		if err != nil {
			return nil, err
		}
		open = newReturning(op)
		return open, nil
	}
	more := false
	for _, ref := range stranded {
		if !open.has[ref.ID] {
			open.has[ref.ID], more = true, true
			open.op.Topics = append(open.op.Topics, ref)
		}
	}
	if !more {
		return open, nil
	}
	open.op.Total = len(open.op.Topics)
	return open, t.writeReturning(ctx, open)
}

func newReturning(op catalog.Op) *returning {
	r := &returning{op: op, has: map[catalog.ID]bool{}, taken: map[catalog.ID]bool{}, waits: map[string]string{}, told: time.Now()}
	for _, ref := range op.Topics {
		r.has[ref.ID] = true
	}
	return r
}

// openReturnings are the operations that former leaders left open, by cluster, with what they came to.
func (t *term) openReturnings(ctx context.Context) (map[string]*returning, error) {
	ops, err := t.o.Catalog.Ops(ctx)
	if err != nil {
		return nil, err
	}
	open := map[string]*returning{}
	for _, op := range ops {
		if op.Kind != catalog.OpReturn || op.IsFinished() || open[op.Cluster] != nil {
			continue
		}
		r := newReturning(op)
		for _, ref := range op.Topics {
			_, err := t.o.Catalog.Certificate(ctx, ref.ID, op.ID)
			if err == nil {
				r.taken[ref.ID] = true
			} else if !errors.Is(err, catalog.ErrNotFound) {
				return nil, err
			}
		}
		open[op.Cluster] = r
	}
	return open, nil
}

// endForsaken ends what has nothing left to take in while its cluster is away or has left
// the catalog: its topics were deleted, or retention has dropped what was lost.
func (t *term) endForsaken(ctx context.Context, open map[string]*returning) error {
	for cluster, r := range open {
		if len(strandedOn(t.o.Watcher.Snapshot(), cluster)) > 0 {
			continue
		}
		// The snapshot may be older than the operation.
		s, err := t.o.Watcher.Refresh(ctx)
		if err != nil {
			return err
		}
		if len(strandedOn(s, cluster)) > 0 {
			continue
		}
		r.op.Message = ""
		if err := t.endReturning(ctx, r); err != nil {
			return err
		}
		delete(open, cluster)
	}
	return nil
}

// id is the operation under which a topic is brought back; "" if nothing of it is stranded.
func (r *returning) id(topic catalog.ID) string {
	if r == nil || !r.has[topic] {
		return ""
	}
	return r.op.ID
}

// took notes how a topic fared.
func (t *term) took(ctx context.Context, r *returning, ref catalog.TopicRef, failure error) error {
	if r == nil || !r.has[ref.ID] {
		return nil
	}
	was := r.op.Message
	if failure == nil {
		r.taken[ref.ID] = true
		delete(r.waits, ref.Name)
	} else {
		r.waits[ref.Name] = failure.Error()
	}
	r.op.Message = ""
	if len(r.waits) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(r.waits)))
		r.op.Message = fmt.Sprintf("topic %s is not taken in yet: %s", first, r.waits[first])
		if n := len(r.waits) - 1; n > 0 {
			r.op.Message += fmt.Sprintf("; and %d more wait", n)
		}
	}
	r.op.Done = len(r.taken)
	r.op.Progress = min(100*r.op.Done/max(r.op.Total, 1), 99)
	switch {
	case len(r.taken) == len(r.has):
		return t.endReturning(ctx, r)
	case r.op.Message == was && time.Since(r.told) < progressEvery:
		return nil
	}
	return t.writeReturning(ctx, r)
}

// endReturning writes that nothing is left to take in: what it has not taken in itself has left the chains,
// or was resumed by itself.
func (t *term) endReturning(ctx context.Context, r *returning) error {
	if r.op.IsFinished() {
		return nil
	}
	r.op.State, r.op.Done, r.op.Progress, r.op.Finished = catalog.OpDone, r.op.Total, 100, time.Now().UTC()
	return t.writeReturning(ctx, r)
}

func (t *term) writeReturning(ctx context.Context, r *returning) error {
	op, err := t.o.Catalog.UpdateOp(ctx, r.op, t.driver.fence)
	if err != nil {
		return err
	}
	r.op, r.told = op, time.Now()
	return nil
}
