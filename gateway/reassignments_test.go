package gateway

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
)

// A topic that moves is listed until its records go to the new place.
func TestMovesAreListedAsReassignments(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("still", 2)
	topic := f.topic("moving", 3)
	r := f.raw()
	list := func(topics ...kmsg.ListPartitionReassignmentsRequestTopic) []kmsg.ListPartitionReassignmentsResponseTopic {
		t.Helper()
		if _, err := f.watcher.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		req := kmsg.NewPtrListPartitionReassignmentsRequest()
		req.Topics = topics
		resp := do[*kmsg.ListPartitionReassignmentsResponse](r, 0, req)
		if resp.ErrorCode != 0 {
			t.Fatalf("%+v", resp)
		}
		return resp.Topics
	}
	if l := list(); len(l) != 0 {
		t.Fatalf("%+v", l)
	}
	ctx := context.Background()
	e, err := f.cat.CreateExtend(ctx, catalog.Extend{Op: "op", Step: catalog.StepSeal, Mode: catalog.ModeSeal, Target: "elsewhere", TopicRevision: topic.Revision,
		Topic: catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}}, catalog.Fence{})
	if err != nil {
		t.Fatal(err)
	}
	l := list()
	if len(l) != 1 || l[0].Topic != "moving" || len(l[0].Partitions) != 3 || len(l[0].Partitions[0].Replicas) != 1 {
		t.Fatalf("%+v", l)
	}
	l = list(kmsg.ListPartitionReassignmentsRequestTopic{Topic: "moving", Partitions: []int32{1, 9}},
		kmsg.ListPartitionReassignmentsRequestTopic{Topic: "still", Partitions: []int32{0}})
	if len(l) != 1 || len(l[0].Partitions) != 1 || l[0].Partitions[0].Partition != 1 {
		t.Fatalf("%+v", l)
	}
	e.Step = catalog.StepCertify
	if _, err := f.cat.UpdateExtend(ctx, e, catalog.Fence{}); err != nil {
		t.Fatal(err)
	}
	if l := list(); len(l) != 0 {
		t.Fatalf("after the commit: %+v", l)
	}
}
