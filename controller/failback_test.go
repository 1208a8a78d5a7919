package controller

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// A cluster that is failed or draining is active after a failback, also when no
// topic has to go home, and takes topics again.
func TestFailbackWithNothingToMove(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kind  catalog.OpKind
		topic string // where the topic is, that stays there
		state catalog.ClusterState
	}{
		{catalog.OpFailover, "a", catalog.ClusterFailed}, // an ordered topic waits for its cluster
		{catalog.OpFailover, "b", catalog.ClusterFailed},
		{catalog.OpDrain, "b", catalog.ClusterDraining},
	} {
		t.Run(string(tc.kind)+" with a topic on "+tc.topic, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, "a", "b")
			f.controller(func(o *Options) { o.Damping = time.Hour }) // the vote below causes no failover
			f.topic("stays", 1, tc.topic, nil)
			f.topic("orders", 1, "b", nil)
			state := func() catalog.ClusterState {
				c, err := f.cat.Cluster(f.ctx, "a")
				f.check(err)
				return c.State
			}
			back := OpRequest{Kind: catalog.OpFailback, Cluster: "a"}
			submit := func(req OpRequest) catalog.Op {
				t.Helper()
				op, err := f.admin.Submit(f.ctx, req)
				f.check(err)
				if op = f.done(op); op.State != catalog.OpDone || op.Total != 0 {
					t.Fatalf("%s: %+v", req.Kind, op)
				}
				return op
			}
			submit(OpRequest{Kind: tc.kind, Cluster: "a"})
			if s := state(); s != tc.state {
				t.Fatalf("cluster is %s after %s", s, tc.kind)
			}
			var refused *RequestError
			if _, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "a"}); !errors.As(err, &refused) || refused.Problem != Refused {
				t.Errorf("move to a cluster that is %s: %v", tc.state, err)
			}

			// While gateways call it down it stays as it is.
			s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, time.Minute)
			f.check(err)
			t.Cleanup(func() { f.check(s.Close(context.Background())) })
			opinion := func(up bool) {
				t.Helper()
				f.check(f.cat.PutClusterVote(f.ctx, s, catalog.ClusterVote{Cluster: "a", Up: up, Since: time.Now().Add(-time.Second)}))
			}
			opinion(false)
			if _, err := f.admin.Submit(f.ctx, back); !errors.As(err, &refused) || refused.Problem != Refused || !strings.Contains(refused.Message, "still down") {
				t.Errorf("failback of a cluster that is down: %v", err)
			}
			opinion(true)

			plan, err := f.admin.Plan(f.ctx, back)
			f.check(err)
			if plan.Refused != "" || len(plan.Moves) != 0 || !strings.Contains(plan.Effect, "becomes active") {
				t.Errorf("plan: %+v", plan)
			}
			submit(back)
			if s := state(); s != catalog.ClusterActive {
				t.Errorf("cluster is %s after the failback", s)
			}
			plan, err = f.admin.Plan(f.ctx, back)
			f.check(err)
			if plan.Effect != "" {
				t.Errorf("plan for an active cluster: %+v", plan)
			}
			if op := submit(back); op.Message != "nothing to do" {
				t.Errorf("failback of an active cluster: %q", op.Message)
			}
			if op := f.done(f.move("a", "orders")); op.State != catalog.OpDone {
				t.Errorf("move to the cluster: %+v", op)
			}
		})
	}
}
