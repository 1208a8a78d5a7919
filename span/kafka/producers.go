package kafka

import (
	"context"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Producers implements [span.Log]. It asks the leader: followers answer too, with
// what they have. The answer covers records above the high watermark; on a
// sealed partition there are none, so it is exact. Kafka tells no offsets.
func (p *partition) Producers(ctx context.Context) ([]span.Producer, error) {
	var out []span.Producer
	err := p.atLeader(ctx, func(_ partMeta, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrDescribeProducersRequest()
		t := kmsg.NewDescribeProducersRequestTopic()
		t.Topic, t.Partitions = p.topic.Name, []int32{p.index}
		req.Topics = append(req.Topics, t)
		resp, err := b.request(ctx, req, 0, 0)
		if err != nil {
			return 0, err
		}
		for _, t := range resp.(*kmsg.DescribeProducersResponse).Topics {
			for _, r := range t.Partitions {
				if t.Topic != p.topic.Name || r.Partition != p.index {
					continue
				}
				out = make([]span.Producer, 0, len(r.ActiveProducers))
				for _, a := range r.ActiveProducers {
					if a.ProducerEpoch < 0 || a.ProducerEpoch > math.MaxInt16 {
						return 0, fmt.Errorf("%w: producer epoch %d", wire.ErrMalformed, a.ProducerEpoch)
					}
					out = append(out, span.Producer{
						ID: a.ProducerID, Epoch: int16(a.ProducerEpoch), LastSequence: a.LastSequence,
						LastOffset: -1, LastTimestamp: a.LastTimestamp, TxnStart: a.CurrentTxnStartOffset,
					})
				}
				return wire.Code(r.ErrorCode), nil
			}
		}
		return 0, fmt.Errorf("%w: answer leaves the partition out", wire.ErrMalformed)
	})
	return out, p.s.wrap(fmt.Sprintf("producers of partition %d of", p.index), p.topic, err)
}
