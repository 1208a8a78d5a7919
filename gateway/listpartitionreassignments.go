package gateway

// ListPartitionReassignments, key 46, version 0 (KIP-455).
//
// Difference: what is listed are the partitions of topics that are moving to
// another cluster at this moment. Their replicas, as brokers go, stay as they
// are: none is being added or removed.

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func listPartitionReassignments(call *call, req *kmsg.ListPartitionReassignmentsRequest) kmsg.Response {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	if code := call.onCluster(acl.Describe); code != wire.None {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(code)
		return resp
	}
	v := call.c.view()
	asked := map[string][]int32{}
	for i := range req.Topics {
		t := &req.Topics[i]
		asked[t.Topic] = append(asked[t.Topic], t.Partitions...)
	}
	var moving []*catalog.Topic
	for e := range v.snapshot.Extends() {
		if e.Topic.Tenant != call.tenant || committed(e.Step) {
			continue
		}
		if t := v.snapshot.TopicByID(e.Topic.ID); t != nil && !t.Deleting {
			moving = append(moving, t)
		}
	}
	slices.SortFunc(moving, func(a, b *catalog.Topic) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range moving {
		wanted, named := asked[t.Name]
		if req.Topics != nil && !named {
			continue
		}
		out := kmsg.NewListPartitionReassignmentsResponseTopic()
		out.Topic = t.Name
		for p := range t.Partitions {
			if req.Topics != nil && !slices.Contains(wanted, p) {
				continue
			}
			part := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			part.Partition, part.Replicas = p, []int32{v.brokers.leader(t.ID, p)}
			out.Partitions = append(out.Partitions, part)
		}
		if len(out.Partitions) > 0 {
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp
}

// committed tells whether a move's records go to the new place already, or it
// has come to nothing.
func committed(s catalog.Step) bool {
	return s == catalog.StepCertify || s == catalog.StepDone || s == catalog.StepUndone
}
