package gateway

// DeleteRecords, key 21, versions 0 to 2.
//
// Like Apache Kafka: -1 deletes up to the high watermark; a topic that is compacted
// and not deleted from is refused.
//
// Difference: the start of the chain is moved in the catalog at once; the
// clusters behind give up their space when retention comes by.

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func deleteRecords(call *call, req *kmsg.DeleteRecordsRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteRecordsResponse()
	type ask struct {
		topic string
		in    *kmsg.DeleteRecordsRequestTopicPartition
		out   *kmsg.DeleteRecordsResponseTopicPartition
	}
	var asks []ask
	resp.Topics = make([]kmsg.DeleteRecordsResponseTopic, len(req.Topics))
	for i := range req.Topics {
		in, out := &req.Topics[i], &resp.Topics[i]
		out.Topic = in.Topic
		out.Partitions = make([]kmsg.DeleteRecordsResponseTopicPartition, len(in.Partitions))
		for j := range in.Partitions {
			p := kmsg.NewDeleteRecordsResponseTopicPartition()
			p.Partition, p.LowWatermark = in.Partitions[j].Partition, -1
			out.Partitions[j] = p
			asks = append(asks, ask{topic: in.Topic, in: &in.Partitions[j], out: &out.Partitions[j]})
		}
	}
	ctx, cancel := call.limited(req.TimeoutMillis)
	defer cancel()
	each(len(asks), func(i int) {
		a := &asks[i]
		code := call.deleteBefore(ctx, a.topic, a.in.Partition, a.in.Offset, &a.out.LowWatermark)
		a.out.ErrorCode = call.failed(code)
	})
	return resp
}

func (call *call) deleteBefore(ctx context.Context, topic string, index int32, before int64, low *int64) wire.Code {
	if code := call.onTopic(acl.Delete, topic); code != wire.None {
		return code
	}
	if internalTopic(topic) {
		return wire.InvalidTopicException
	}
	st, p, code := call.partition(topic, index)
	if code != wire.None {
		return code
	}
	if !deletes(st.topic) {
		return wire.PolicyViolation
	}
	fail := func(err error) wire.Code { return call.g.codeOf(keyDeleteRecords, call.c.peer, err) }
	if before == -1 {
		_, end, _, err := p.Offsets(ctx, false)
		if err != nil {
			return fail(err)
		}
		before = end
	}
	if before < 0 {
		return wire.OffsetOutOfRange
	}
	start, err := p.DeleteRecords(ctx, before)
	if err != nil {
		return fail(err)
	}
	*low = start
	return wire.None
}

// deletes tells whether the topic's policy lets records go by request: one of nothing does, too.
func deletes(t *catalog.Topic) bool {
	compacts := false
	for p := range strings.SplitSeq(t.Config["cleanup.policy"], ",") {
		switch strings.TrimSpace(p) {
		case "delete":
			return true
		case "compact":
			compacts = true
		}
	}
	return !compacts
}
