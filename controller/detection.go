package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/audit"
)

// detect fails a cluster over when most gateways that serve it have called it
// down for the damping time.
func (t *term) detect(ctx context.Context) error {
	if t.o.Damping < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	changed, stop := t.changes(ctx, max(t.o.Damping/25, 20*time.Millisecond), func(c catalog.Change) bool { return c.Votes || c.Gateways })
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		s := t.o.Watcher.Snapshot()
		for _, c := range s.Clusters() {
			if c.State == catalog.ClusterFailed || !failed(asOf(opinions(s, c.Name), t.began), len(s.Gateways()), time.Now(), t.o.Damping) {
				continue
			}
			if err := t.failOver(ctx, c.Name); err != nil {
				return err
			}
		}
	}
}

// failOver submits the failover of a cluster, unless one is under way.
func (t *term) failOver(ctx context.Context, cluster string) error {
	ops, err := t.o.Catalog.Ops(ctx)
	if err != nil {
		return err
	}
	for i := range ops {
		if ops[i].Kind == catalog.OpFailover && ops[i].Cluster == cluster && !ops[i].IsFinished() {
			return nil
		}
	}
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	c := s.Cluster(cluster)
	if c == nil || c.State == catalog.ClusterFailed {
		return nil
	}
	p, err := makePlan(s, candidates(s, t.loads), OpRequest{Kind: catalog.OpFailover, Cluster: cluster})
	if err != nil {
		return err
	}
	op := catalog.Op{Kind: catalog.OpFailover, State: catalog.OpPending, Cluster: cluster, Automatic: true, Total: len(p.Moves),
		Reason: "most gateways cannot reach the cluster"}
	for _, m := range p.Moves {
		op.Topics = append(op.Topics, m.Topic)
	}
	op, err = t.o.Catalog.CreateOp(ctx, op)
	if err != nil {
		return err
	}
	t.o.Audit.Record(audit.Event{Kind: audit.Change, Who: "controller", Action: "failover", Resource: "CLUSTER " + cluster,
		Detail: fmt.Sprintf("operation %s, %d topics: %s", op.ID, len(op.Topics), op.Reason), Result: audit.Done})
	t.o.Logger.Warn("cluster is failed over", "cluster", cluster, "op", op.ID, "topics", len(op.Topics))
	// Marked here too, so that the next look does not submit it again.
	return t.setClusterState(ctx, cluster, catalog.ClusterFailed, true)
}
