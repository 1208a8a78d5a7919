package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// A move or drain off a cluster that is known to be down fails before anything is made, and names what does not need the cluster.
func TestMoveOffADeadCluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	waits := f.topic("waits", 1, "a", nil)
	f.writer(waits, 0, 100).append(2)
	made := 0
	f.doubles["b"].set(func() { f.doubles["b"].makes = func(context.Context, span.Spec) { made++ } })
	f.gateway(1)
	f.doubles["a"].set(func() { f.doubles["a"].away = true })
	f.until("the votes", func() bool { return votedDown(f.watch.Snapshot(), "a") })
	for _, op := range []func() catalog.Op{
		func() catalog.Op { return f.move("b", "waits") },
		func() catalog.Op {
			op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpDrain, Cluster: "a", To: "b"})
			f.check(err)
			return op
		},
	} {
		op := f.done(op())
		for _, want := range []string{"cluster a", "is down", "braid failover a --force"} {
			if op.State != catalog.OpFailed || !strings.Contains(op.Message, want) {
				t.Errorf("%s is %s, and does not say %q: %s", op.Kind, op.State, want, op.Message)
			}
		}
	}
	f.doubles["b"].set(func() {
		if made != 0 {
			t.Errorf("%d topics were made on the target", made)
		}
	})
	if ch := f.chain(waits, 0); len(ch.Spans) != 1 || f.watch.Snapshot().Extend(waits.ID) != nil {
		t.Errorf("the topic was touched: %+v", ch)
	}
}

// Where gateways have not voted yet, the refusal of what was begun says it too.
func TestUnreadableCopiesNameTheFailover(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		guarantee string
		err       error
		says      string
	}{
		{guaranteeOrdered, span.ErrUnavailable, "braid failover east --force goes on elsewhere"},
		{guaranteeAvailable, span.ErrUnavailable, "braid failover east goes on elsewhere"},
		{guaranteeOrdered, span.ErrStorage, ""},
	} {
		r := &run{topic: catalog.Topic{Tenant: catalog.DefaultTenant, Name: "orders", Config: map[string]string{ConfigGuarantee: tc.guarantee}},
			e: catalog.Extend{Old: []catalog.PhysicalTopic{{Cluster: "east"}}}}
		if err := r.unreadable(fmt.Errorf("offsets: %w", tc.err)); err != nil {
			t.Fatal(err)
		}
		if got := r.obs.Refused; !strings.Contains(got, tc.says) || tc.says == "" && strings.Contains(got, "failover") {
			t.Errorf("%s, %v: %s", tc.guarantee, tc.err, got)
		}
	}
}

// The time that a physical topic has to be made in grows with its partitions, within bounds.
func TestManyPartitionsHaveTimeToBeMade(t *testing.T) {
	t.Parallel()
	l := defaultLimits()
	for _, tc := range []struct {
		partitions int32
		want       time.Duration
	}{{0, l.call}, {100, l.call + 100*createPer}, {1000, l.call + 1000*createPer}, {100_000, createMost}} {
		if got := l.create(tc.partitions); got != tc.want {
			t.Errorf("%d partitions: %s, want %s", tc.partitions, got, tc.want)
		}
	}
	f := newFleet(t, "a", "b")
	f.controller()
	f.topic("wide", 1000, "a", nil)
	var left time.Duration
	f.doubles["b"].set(func() {
		f.doubles["b"].makes = func(ctx context.Context, _ span.Spec) {
			if end, ok := ctx.Deadline(); ok {
				left = time.Until(end)
			}
		}
	})
	if op := f.done(f.move("b", "wide")); op.State != catalog.OpDone {
		t.Fatalf("the move is %s: %s", op.State, op.Message)
	}
	f.doubles["b"].set(func() {
		if left <= l.call { // of a minute
			t.Errorf("the topic of 1000 partitions had %s to be made in", left)
		}
	})
}
