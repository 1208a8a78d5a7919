package gateway

// DeleteRecords, key 21, versions 0 to 2.
//
// Like Apache Kafka: -1 deletes up to the high watermark; a topic that is compacted
// and not deleted from is refused.
//
// Difference: the start of the chain is moved in the catalog at once; the
// clusters behind give up their space when retention comes by. Where the
// cluster that takes the appends does not answer within 5 s, the code is
// BROKER_NOT_AVAILABLE: others are tried again by clients until their time
// is up, and say nothing then.

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
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
	if before < -1 {
		return wire.OffsetOutOfRange
	}
	tries, cancel := context.WithTimeout(ctx, deleteWait)
	defer cancel()
	for {
		start, err := p.DeleteRecords(tries, before) // -1 is the high watermark to it, too
		switch {
		case err == nil:
			*low = start
			return wire.None
		case !isAway(err) && !(errors.Is(err, chain.ErrUnavailable) && tries.Err() != nil && ctx.Err() == nil): // it hangs
			return call.g.codeOf(keyDeleteRecords, call.c.peer, err)
		}
		select {
		case <-tries.Done():
			return wire.BrokerNotAvailable
		case <-time.After(deletePause):
		}
	}
}

// deleteWait is how long a cluster that does not answer is tried, deletePause the time between two tries.
const (
	deleteWait  = 5 * time.Second
	deletePause = 200 * time.Millisecond
)

// isAway tells whether it is a cluster behind that does not answer, and not this gateway that may not ask.
func isAway(err error) bool {
	return errors.Is(err, span.ErrUnavailable) && !errors.Is(err, catalog.ErrSessionLost) && !errors.Is(err, catalog.ErrUnavailable) && !errors.Is(err, chain.ErrClosed)
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
