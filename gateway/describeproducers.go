package gateway

// DescribeProducers, key 61, version 0.
//
// Differences: only producers that are known by their own ids are listed, so not
// those whose open transaction lies on a Kafka cluster, which knows them by
// others; DescribeTransactions tells of them. The coordinator's epoch is the
// term of the coordinator's shard; -1 where the open span lies on the engine of another process.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func describeProducers(call *call, req *kmsg.DescribeProducersRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeProducersResponse()
	ctx, cancel := call.limited(0)
	defer cancel()
	for i := range req.Topics {
		t := kmsg.NewDescribeProducersResponseTopic()
		t.Topic = req.Topics[i].Topic
		t.Partitions = make([]kmsg.DescribeProducersResponseTopicPartition, len(req.Topics[i].Partitions))
		each(len(t.Partitions), func(j int) {
			r := kmsg.NewDescribeProducersResponseTopicPartition()
			r.Partition = req.Topics[i].Partitions[j]
			var p *chain.Partition
			code := call.onTopic(acl.Read, t.Topic)
			if code == wire.None {
				_, p, code = call.partition(t.Topic, r.Partition)
			}
			if code == wire.None {
				list, err := p.Producers(ctx)
				code = call.g.codeOf(keyDescribeProducers, call.c.peer, err)
				for i := range list {
					s := &list[i]
					if s.ID < catalog.ProducerIDBase {
						continue // a cluster's own
					}
					a := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					a.ProducerID, a.ProducerEpoch, a.LastSequence = s.ID, int32(s.Epoch), s.LastSequence
					a.LastTimestamp, a.CurrentTxnStartOffset, a.CoordinatorEpoch = s.LastTimestamp, s.TxnStart, -1
					if s.CoordinatorEpoch > 0 {
						a.CoordinatorEpoch = s.CoordinatorEpoch
					}
					r.ActiveProducers = append(r.ActiveProducers, a)
				}
			}
			if code != wire.None {
				message := code.Message()
				r.ErrorMessage = &message
			}
			r.ErrorCode = call.failed(code)
			t.Partitions[j] = r
		})
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}
