package gateway

// DescribeQuorum, key 55, versions 0 to 2 (KIP-595).
//
// Differences: there is no Raft among gateways: what they share is in the
// catalog. The broker that clients take for the controller is shown as the only
// voter, the other gateways as observers. Revisions of the catalog count what all
// tenants do, so offsets are those of a log that nothing happens in: Kafka's controller appends a
// record each half a second then (metadata.max.idle.interval.ms). They are told of the
// gateway that answers only (-1 of others). The leader epoch is 0.

import (
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// idleInterval is metadata.max.idle.interval.ms.
const idleInterval = 500 * time.Millisecond

const metadataTopic = "__cluster_metadata"

func describeQuorum(call *call, req *kmsg.DescribeQuorumRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	if code := call.onCluster(acl.Describe); code != wire.None {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(code)
		return resp
	}
	v := call.c.view()
	listed := false
	for i := range req.Topics {
		in := &req.Topics[i]
		out := kmsg.NewDescribeQuorumResponseTopic()
		out.Topic = in.Topic
		for j := range in.Partitions {
			part := kmsg.NewDescribeQuorumResponseTopicPartition()
			part.Partition = in.Partitions[j].Partition
			if in.Topic != metadataTopic || part.Partition != 0 {
				code := wire.UnknownTopicOrPartition
				message := code.Message()
				part.ErrorCode, part.ErrorMessage = call.failed(code), &message
			} else {
				call.quorum(v, &part)
				listed = true
			}
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	for i := range v.brokers.list {
		if !listed {
			break
		}
		b := &v.brokers.list[i]
		node := kmsg.NewDescribeQuorumResponseNode()
		node.NodeID = b.node
		l := kmsg.NewDescribeQuorumResponseNodeListener()
		// The Java client takes upper case only.
		l.Name, l.Host, l.Port = strings.ToUpper(call.c.l.cfg.Name), b.host, uint16(b.port)
		node.Listeners = append(node.Listeners, l)
		resp.Nodes = append(resp.Nodes, node)
	}
	return resp
}

func (call *call) quorum(v *view, part *kmsg.DescribeQuorumResponseTopicPartition) {
	now := time.Now().UnixMilli()
	end := now / idleInterval.Milliseconds()
	part.LeaderID = v.brokers.controller(call.tenant)
	part.HighWatermark = end
	for i := range v.brokers.list {
		r := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		r.ReplicaID = v.brokers.list[i].node
		r.LogEndOffset, r.LastFetchTimestamp, r.LastCaughtUpTimestamp = -1, -1, -1
		if r.ReplicaID == call.c.l.self.node || r.ReplicaID == part.LeaderID {
			r.LogEndOffset, r.LastFetchTimestamp, r.LastCaughtUpTimestamp = end, now, now
		}
		if r.ReplicaID == part.LeaderID {
			part.CurrentVoters = append(part.CurrentVoters, r)
		} else {
			part.Observers = append(part.Observers, r)
		}
	}
}
