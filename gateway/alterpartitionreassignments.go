package gateway

// AlterPartitionReassignments, key 45, versions 0 to 1 (KIP-455).
//
// Like Apache Kafka: a partition that is where it is wanted needs nothing done,
// and there is NO_REASSIGNMENT_IN_PROGRESS to cancel.
//
// Difference: gateways hold no replicas, so any other assignment is refused with
// INVALID_REPLICA_ASSIGNMENT. Topics move between clusters by the admin API, and
// a move that runs is not cancelled by this key.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func alterPartitionReassignments(call *call, req *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = req.AllowReplicationFactorChange
	denied := call.onCluster(acl.Alter)
	if denied != wire.None {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(denied)
	}
	v := call.caughtUp(namesOf(req.Topics, func(t *kmsg.AlterPartitionAssignmentsRequestTopic) string { return t.Topic }))
	for i := range req.Topics {
		in := &req.Topics[i]
		out := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		out.Topic = in.Topic
		t := known(v.snapshot, call.tenant, in.Topic)
		for j := range in.Partitions {
			p := &in.Partitions[j]
			part := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			part.Partition = p.Partition
			err := existing(t, in.Topic, p.Partition)
			switch {
			case denied != wire.None:
				err = denied
			case err != nil:
			case p.Replicas == nil:
				err = wire.NoReassignmentInProgress
			case !slices.Equal(p.Replicas, []int32{v.brokers.leader(t.ID, p.Partition)}):
				err = &span.RejectedError{Code: wire.InvalidReplicaAssignment,
					Detail: "Brokers here hold no replicas: topics are moved between clusters by the admin API"}
			}
			if err != nil {
				part.ErrorCode, part.ErrorMessage = call.refusal(err)
			}
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}
