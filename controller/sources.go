package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// failoverHint says what moves a topic off a cluster that cannot be sealed.
func failoverHint(t *catalog.Topic, cluster string) string {
	if goesOn(t) {
		return "braid failover " + cluster + " goes on elsewhere"
	}
	return "braid failover " + cluster + " --force goes on elsewhere and breaks braid.guarantee=ordered; else it waits until the cluster is back"
}

// checkSource refuses to take a topic off a cluster that most gateways call down and that does not answer the controller
// either, before anything is made: it cannot be sealed. A failover does without that.
func (r *opRun) checkSource(ctx context.Context, topic *catalog.Topic, chains []*catalog.Chain, mode catalog.Mode) error {
	if mode == catalog.ModeLossy || r.op.Kind == catalog.OpRepair {
		return nil
	}
	s := r.t.o.Watcher.Snapshot()
	for _, cluster := range openOn(chains) {
		if !votedDown(s, cluster) {
			continue
		}
		err := r.look("from "+cluster, func() error {
			st, err := r.t.o.Stores.Store(cluster)
			if err != nil {
				return err
			}
			call, cancel := context.WithTimeout(ctx, r.t.driver.limits.call)
			defer cancel()
			_, err = st.Health(call)
			return err
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return &RequestError{Problem: Unavailable, Hint: failoverHint(topic, cluster), Err: err,
				Message: fmt.Sprintf("cluster %s, which has the open partitions, is down: %v", cluster, err)}
		}
	}
	return nil
}

// unreadable refuses an extend whose open copies cannot be read before the seal.
func (r *run) unreadable(err error) error {
	if !errors.Is(err, span.ErrUnavailable) || len(r.e.Old) == 0 {
		return r.refuse(err, "the open copies cannot be read")
	}
	if err := r.refuse(err, "the open copies cannot be read"); err != nil {
		return err
	}
	r.obs.Refused += " (" + failoverHint(&r.topic, r.e.Old[0].Cluster) + ")"
	return nil
}

// tellDown says in a plan which clusters of its moves do not answer: no topic can be sealed on such a one, and none made.
func (q *pricing) tellDown(s *catalog.Snapshot, p *Plan) {
	type use struct {
		from, to int
		ordered  bool
	}
	uses := map[string]*use{}
	at := func(cluster string) *use {
		if uses[cluster] == nil {
			uses[cluster] = &use{}
		}
		return uses[cluster]
	}
	for i := range p.Moves {
		m := &p.Moves[i]
		t := s.TopicByID(m.Topic.ID)
		for from := range strings.SplitSeq(m.From, ",") {
			if m.Mode == catalog.ModeLossy {
				break // told by answers
			}
			at(from).from++
			at(from).ordered = at(from).ordered || t != nil && !goesOn(t)
		}
		at(m.To).to++
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var costs []string
	for cluster, u := range uses {
		if s.Cluster(cluster) == nil {
			continue // refused
		}
		wg.Go(func() {
			why, silent := q.down(cluster)
			mu.Lock()
			defer mu.Unlock()
			if u.to > 0 && why != "" {
				costs = append(costs, "target cluster "+cluster+" "+why+": "+topicCount(u.to, " would be refused there", " would be refused there"))
			}
			if u.from > 0 && silent {
				force := ""
				if u.ordered {
					force = " (--force for those with braid.guarantee=ordered, which it breaks)"
				}
				costs = append(costs, "cluster "+cluster+" "+why+": nothing can be sealed there, and "+topicCount(u.from, " stays where it is", " stay where they are")+
					" while it is so: braid failover "+cluster+force+" goes on elsewhere")
			}
		})
	}
	wg.Wait()
	slices.Sort(costs)
	q.costs = costs
}

// down tells what speaks against a cluster at the moment, "" if nothing does, and whether it did not answer at all.
func (q *pricing) down(cluster string) (why string, silent bool) {
	st, err := q.a.Stores.Store(cluster)
	var h span.Health
	if err == nil {
		h, err = st.Health(q.ctx)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "does not answer (" + errNoAnswer.Error() + ")", true
	case err != nil:
		return "does not answer (" + err.Error() + ")", true
	case !h.Writable:
		return "takes no appends (" + h.Detail + ")", false
	}
	return "", false
}
