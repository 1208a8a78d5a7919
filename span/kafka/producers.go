package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Producers implements [span.Log]. It asks the leader: followers answer too, with
// what they have. The answer covers records above the high watermark; on a
// sealed partition there are none, so it is exact. Kafka tells no offsets.
func (p *partition) Producers(ctx context.Context) ([]span.Producer, error) {
	var out []span.Producer
	err := p.atLeader(ctx, func(lead partMeta, b *broker) (wire.Code, error) {
		resp, err := b.request(ctx, describeProducers(p.topic, map[int32]int32{p.index: lead.epoch}), 0, 0)
		if err != nil {
			return 0, err
		}
		out = []span.Producer{}
		code := producersOf(resp.(*kmsg.DescribeProducersResponse), p.topic, p.index, func(a *kmsg.DescribeProducersResponseTopicPartitionActiveProducer) {
			out = append(out, activeProducer(a))
		})
		return code, nil
	})
	return out, p.s.wrap(fmt.Sprintf("producers of partition %d of", p.index), p.topic, err)
}

func activeProducer(a *kmsg.DescribeProducersResponseTopicPartitionActiveProducer) span.Producer {
	return span.Producer{ID: a.ProducerID, Epoch: int16(a.ProducerEpoch), LastSequence: a.LastSequence,
		LastOffset: -1, LastTimestamp: a.LastTimestamp, TxnStart: a.CurrentTxnStartOffset}
}

// describeProducers asks about the partitions that are epochs' keys.
func describeProducers(t span.Topic, epochs map[int32]int32) kmsg.Request {
	req := kmsg.NewPtrDescribeProducersRequest()
	rt := kmsg.NewDescribeProducersRequestTopic()
	rt.Topic = t.Name
	for p := range epochs {
		rt.Partitions = append(rt.Partitions, p)
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// producersOf calls f for each producer of one partition and returns the
// partition's code. A partition that is left out counts as an error that passes.
func producersOf(resp *kmsg.DescribeProducersResponse, t span.Topic, index int32, f func(*kmsg.DescribeProducersResponseTopicPartitionActiveProducer)) wire.Code {
	for _, rt := range resp.Topics {
		for i := range rt.Partitions {
			r := &rt.Partitions[i]
			if rt.Topic != t.Name || r.Partition != index {
				continue
			}
			for j := range r.ActiveProducers {
				if f != nil {
					f(&r.ActiveProducers[j])
				}
			}
			return wire.Code(r.ErrorCode)
		}
	}
	return wire.UnknownServerError
}
