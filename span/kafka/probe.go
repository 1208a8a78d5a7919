package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// probeBatch is a batch of one record whose checksum is wrong. A leader looks at
// the size first: MESSAGE_TOO_LARGE says sealed, CORRUPT_MESSAGE says open.
// Either way nothing is appended.
var probeBatch = sync.OnceValue(func() []byte {
	b, err := batch.NewBuilder().Add(batch.Record{Value: []byte("probe")}).Build()
	if err != nil {
		panic("kafka: one small record makes no batch: " + err.Error())
	}
	const crcAt = 17
	for i := range 4 {
		b[crcAt+i] ^= 0xff
	}
	return b
})

// probeOf are partitions of one topic that a broker is asked about.
type probeOf struct {
	topic      span.Topic
	partitions []int32
}

// maxProbes bounds the topics of one request of probes.
const maxProbes = 200

func newProbes(b *broker) *gather[probeOf, map[int32]wire.Code] {
	return &gather[probeOf, map[int32]wire.Code]{s: b.s, most: maxProbes,
		send: func(ctx context.Context, qs []probeOf) ([]map[int32]wire.Code, error) {
			return b.s.probeAll(ctx, b, qs)
		}}
}

// probe asks one broker about partitions of one topic, over the control
// connection: probes do not stand in line behind appends. Those of many topics
// share requests.
func (s *Store) probe(ctx context.Context, b *broker, t span.Topic, partitions []int32) (map[int32]wire.Code, error) {
	return b.probes.do(ctx, probeOf{t, slices.Clone(partitions)})
}

func (s *Store) probeAll(ctx context.Context, b *broker, qs []probeOf) ([]map[int32]wire.Code, error) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	req.TimeoutMillis = int32(s.opts.RequestTimeout.Milliseconds())
	at := map[span.Topic]int{} // each topic, and each of its partitions, once
	asked := map[partitionKey]bool{}
	for i := range qs {
		t := qs[i].topic
		n, ok := at[t]
		if !ok {
			n, at[t] = len(req.Topics), len(req.Topics)
			rt := kmsg.NewProduceRequestTopic()
			rt.Topic, rt.TopicID = t.Name, t.ID
			req.Topics = append(req.Topics, rt)
		}
		for _, p := range qs[i].partitions {
			if key := (partitionKey{t.ID, p}); !asked[key] {
				asked[key] = true
				rp := kmsg.NewProduceRequestTopicPartition()
				rp.Partition, rp.Records = p, probeBatch()
				req.Topics[n].Partitions = append(req.Topics[n].Partitions, rp)
			}
		}
	}
	resp, err := b.request(ctx, req, 9, 13)
	if err != nil {
		return nil, err
	}
	answer := resp.(*kmsg.ProduceResponse)
	out := make([]map[int32]wire.Code, len(qs))
	for i := range qs {
		t := qs[i].topic
		out[i] = make(map[int32]wire.Code, len(qs[i].partitions))
		for _, rt := range answer.Topics {
			if answer.Version >= 13 && rt.TopicID != t.ID || answer.Version < 13 && rt.Topic != t.Name {
				continue
			}
			for _, r := range rt.Partitions {
				out[i][r.Partition] = wire.Code(r.ErrorCode)
			}
		}
		for _, p := range qs[i].partitions {
			if _, ok := out[i][p]; !ok {
				return nil, fmt.Errorf("%w: Produce answer leaves a partition out", wire.ErrMalformed)
			}
		}
	}
	return out, nil
}

// Probe implements [span.Log].
func (p *partition) Probe(ctx context.Context) error {
	open := false
	err := p.atLeader(ctx, func(_ partMeta, b *broker) (wire.Code, error) {
		codes, err := p.s.probe(ctx, b, p.topic, []int32{p.index})
		if err != nil {
			return 0, err
		}
		switch code := codes[p.index]; code {
		case wire.MessageTooLarge:
			open = false
			return wire.None, nil
		case wire.CorruptMessage:
			open = true
			return wire.None, nil
		case wire.None:
			return 0, errors.New("a batch with a wrong checksum was taken")
		default:
			return code, nil
		}
	})
	if err == nil && !open {
		err = span.ErrSealed
	}
	return p.s.wrap(fmt.Sprintf("probe partition %d of", p.index), p.topic, err)
}
