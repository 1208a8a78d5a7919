package gateway

// DescribeTopicPartitions, key 75, version 0 (KIP-966).
//
// Like Apache Kafka: topics by name, in pages: the answer ends at the
// partition limit with a cursor that the next request gives back.
//
// Differences: as in Metadata, the leader is the only replica and no partition
// is offline; lists of eligible leader replicas are empty.

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func describeTopicPartitions(call *call, req *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	left := max(1, min(req.ResponsePartitionLimit, call.g.cfg.MaxTopicPartitions))
	from, first := "", int32(0)
	if req.Cursor != nil {
		from, first = req.Cursor.Topic, max(0, req.Cursor.Partition)
	}
	// one adds a topic; false means that the page is full.
	v := call.c.view()
	one := func(name string, t *catalog.Topic) bool {
		if left <= 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name}
			return false
		}
		out := kmsg.NewDescribeTopicPartitionsResponseTopic()
		out.Topic = &name
		if t == nil {
			code := call.onTopic(acl.Describe, name)
			if code != wire.None {
			} else if code = wire.UnknownTopicOrPartition; checkTopicName(name) != nil {
				code = wire.InvalidTopicException
			}
			out.ErrorCode = call.failed(code)
			out.AuthorizedOperations = notAsked
			resp.Topics = append(resp.Topics, out)
			return true
		}
		out.TopicID, out.IsInternal, out.AuthorizedOperations = t.ID, internalTopic(name), call.operations(acl.Topic, name)
		at := int32(0)
		if name == from {
			at = min(first, t.Partitions)
		}
		end := t.Partitions
		if end-at > left {
			end = at + left
		}
		for p := at; p < end; p++ {
			part := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
			leader := v.brokers.leader(t.ID, p)
			part.Partition, part.LeaderID = p, leader
			part.LeaderEpoch = -1
			if c, _ := v.snapshot.Chain(t.ID, p); c != nil {
				part.LeaderEpoch = chainEpoch(c)
			}
			part.Replicas, part.ISR = []int32{leader}, []int32{leader}
			// The Java client takes no null, whatever the definition says.
			part.EligibleLeaderReplicas, part.LastKnownELR = []int32{}, []int32{}
			out.Partitions = append(out.Partitions, part)
		}
		left -= end - at
		resp.Topics = append(resp.Topics, out)
		if end < t.Partitions {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: end}
			return false
		}
		return true
	}
	if len(req.Topics) == 0 {
		for t := range v.snapshot.TopicsFrom(call.tenant, from) {
			if call.may(acl.Describe, acl.Topic, t.Name) && !one(t.Name, t) {
				break
			}
		}
		return resp
	}
	names := make([]string, 0, len(req.Topics))
	for i := range req.Topics {
		if req.Topics[i].Topic >= from {
			names = append(names, req.Topics[i].Topic)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		if v.snapshot.TopicByName(call.tenant, name) == nil {
			call.g.fresh.refresh(call.ctx)
			v = call.c.view()
			break
		}
	}
	for _, name := range names {
		t := v.snapshot.TopicByName(call.tenant, name)
		if t != nil && (t.Deleting || !call.may(acl.Describe, acl.Topic, name)) {
			t = nil
		}
		if !one(name, t) {
			break
		}
	}
	return resp
}
