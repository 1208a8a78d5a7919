package gateway

// OffsetForLeaderEpoch, key 23, versions 2 to 4.
//
// Differences: epochs are those of the chain's spans, answered from the
// catalog; the epochs of the brokers behind are never shown.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func offsetForLeaderEpoch(call *call, req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	type ask struct {
		topic string
		in    *kmsg.OffsetForLeaderEpochRequestTopicPartition
		out   *kmsg.OffsetForLeaderEpochResponseTopicPartition
	}
	var asks []ask
	resp.Topics = make([]kmsg.OffsetForLeaderEpochResponseTopic, len(req.Topics))
	for i := range req.Topics {
		in, out := &req.Topics[i], &resp.Topics[i]
		out.Topic = in.Topic
		out.Partitions = make([]kmsg.OffsetForLeaderEpochResponseTopicPartition, len(in.Partitions))
		for j := range in.Partitions {
			p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			p.Partition, p.LeaderEpoch, p.EndOffset = in.Partitions[j].Partition, -1, -1
			out.Partitions[j] = p
			asks = append(asks, ask{topic: in.Topic, in: &in.Partitions[j], out: &out.Partitions[j]})
		}
	}
	ctx, cancel := call.limited(0)
	defer cancel()
	brokers := call.may(acl.ClusterAction, acl.Cluster, acl.ClusterName)
	each(len(asks), func(i int) {
		a := &asks[i]
		if !brokers {
			if code := call.onTopic(acl.Describe, a.topic); code != wire.None {
				a.out.ErrorCode = call.failed(code)
				return
			}
		}
		st, p, code := call.partition(a.topic, a.in.Partition)
		if code == wire.None {
			code = call.checkEpoch(st.topic.ID, a.in.Partition, a.in.CurrentLeaderEpoch)
		}
		if code == wire.None {
			epoch, end, err := p.EpochEnd(ctx, a.in.LeaderEpoch)
			if err != nil {
				code = call.g.codeOf(keyOffsetForLeaderEpoch, call.c.peer, err)
			} else {
				a.out.LeaderEpoch, a.out.EndOffset = epoch, end
			}
		}
		a.out.ErrorCode = call.failed(code)
	})
	return resp
}
