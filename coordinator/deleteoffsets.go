package coordinator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

func deleteOffsetsError(req *kmsg.OffsetDeleteRequest, code wire.Code) *kmsg.OffsetDeleteResponse {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = req.Version
	resp.ErrorCode = int16(code)
	return resp
}

// OffsetDelete answers OffsetDelete, version 0, as Apache Kafka 4.3.
func (c *Coordinator) OffsetDelete(ctx context.Context, caller Caller, req *kmsg.OffsetDeleteRequest) *kmsg.OffsetDeleteResponse {
	if req.Group == "" {
		return deleteOffsetsError(req, wire.InvalidGroupID)
	}
	resp := deleteOffsetsError(req, wire.None)
	topics := make([]topicPartitions, 0, len(req.Topics))
	resp.Topics = make([]kmsg.OffsetDeleteResponseTopic, len(req.Topics))
	asked := make([]int, 0, len(req.Topics)) // index in resp of each of topics
	for i := range req.Topics {
		t := kmsg.NewOffsetDeleteResponseTopic()
		t.Topic = req.Topics[i].Topic
		t.Partitions = make([]kmsg.OffsetDeleteResponseTopicPartition, len(req.Topics[i].Partitions))
		topic, ok := c.lookUp(ctx, caller.Tenant, t.Topic, [16]byte{}, false)
		ask := topicPartitions{name: t.Topic}
		for j := range t.Partitions {
			p := req.Topics[i].Partitions[j].Partition
			t.Partitions[j].Partition = p
			if !ok || p < 0 || p >= topic.Partitions {
				t.Partitions[j].ErrorCode = int16(wire.UnknownTopicOrPartition)
				continue
			}
			ask.partitions = append(ask.partitions, p)
		}
		resp.Topics[i] = t
		if len(ask.partitions) > 0 {
			topics = append(topics, ask)
			asked = append(asked, i)
		}
	}
	var codes []wire.Code
	code := await(ctx, func(done func(wire.Code)) {
		code := c.within(caller.Tenant, req.Group, func(m *machine) {
			var code wire.Code
			if codes, code = m.deleteOffsets(groupKey{caller.Tenant, req.Group}, topics); code != wire.None {
				m.reply(func() { done(code) })
				return
			}
			m.durably(func() { done(wire.None) }, done)
		})
		if code != wire.None {
			done(code)
		}
	}, func() wire.Code { return wire.RequestTimedOut })
	if code != wire.None {
		return deleteOffsetsError(req, code)
	}
	for i, code := range codes {
		for j := range resp.Topics[asked[i]].Partitions {
			if p := &resp.Topics[asked[i]].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = int16(code)
			}
		}
	}
	return resp
}

// deleteOffsets drops offsets of topics that no member consumes; one code for
// each topic.
func (m *machine) deleteOffsets(key groupKey, topics []topicPartitions) ([]wire.Code, wire.Code) {
	g := m.groups[key]
	if g == nil {
		return nil, wire.GroupIDNotFound
	}
	if g.consumer == nil && g.state != stateEmpty && !g.isConsumer() {
		// What other members work on cannot be told.
		return nil, wire.NonEmptyGroup
	}
	codes := make([]wire.Code, len(topics))
	var gone []topicPartitions
	for i, t := range topics {
		if g.isSubscribed(t.name) {
			codes[i] = wire.GroupSubscribedToTopic
			continue
		}
		store := g.offsets[t.name]
		if store == nil {
			continue
		}
		drop := topicPartitions{name: t.name}
		for _, p := range t.partitions {
			if store.partitions[p] != nil {
				drop.partitions = append(drop.partitions, p)
			}
		}
		if len(drop.partitions) > 0 {
			gone = append(gone, drop)
		}
	}
	m.forget(key, gone)
	return codes, wire.None
}
