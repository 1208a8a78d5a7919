package gateway

// ListOffsets, key 2, versions 1 to 11.
//
// Like Apache Kafka: latest (-1; for committed reads the last stable offset),
// earliest (-2), the record with the largest timestamp (-3, version 7), earliest
// local (-4, version 8), latest tiered (-5, version 9), earliest pending upload
// (-6, version 11), or the first record at or after a time.
//
// Differences: nothing is tiered in the sense of KIP-405, so earliest local is
// earliest, and -5 and -6 give -1, as a broker without tiering does. An end offset
// is never given from what this gateway happens to know: the chain proves it.

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

const (
	atLatest          = int64(-1)
	atEarliest        = int64(-2)
	atMaxTimestamp    = int64(-3)
	atEarliestLocal   = int64(-4)
	atLatestTiered    = int64(-5)
	atEarliestPending = int64(-6)
)

// positionVersions is the first version that knows each special timestamp.
var positionVersions = map[int64]int16{
	atLatest: 1, atEarliest: 1, atMaxTimestamp: 7, atEarliestLocal: 8, atLatestTiered: 9, atEarliestPending: 11,
}

func listOffsets(call *call, req *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrListOffsetsResponse()
	type ask struct {
		topic string
		in    *kmsg.ListOffsetsRequestTopicPartition
		out   *kmsg.ListOffsetsResponseTopicPartition
	}
	type key struct {
		topic string
		index int32
	}
	var asks []ask
	seen := map[key]int{}
	resp.Topics = make([]kmsg.ListOffsetsResponseTopic, len(req.Topics))
	for i := range req.Topics {
		in, out := &req.Topics[i], &resp.Topics[i]
		out.Topic = in.Topic
		out.Partitions = make([]kmsg.ListOffsetsResponseTopicPartition, len(in.Partitions))
		for j := range in.Partitions {
			k := key{in.Topic, in.Partitions[j].Partition}
			seen[k]++
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition, p.Timestamp, p.Offset, p.LeaderEpoch = k.index, -1, -1, -1
			out.Partitions[j] = p
			asks = append(asks, ask{topic: in.Topic, in: &in.Partitions[j], out: &out.Partitions[j]})
		}
	}
	ctx, cancel := call.limited(req.TimeoutMillis)
	defer cancel()
	each(len(asks), func(i int) {
		a := &asks[i]
		code := wire.InvalidRequest
		if seen[key{a.topic, a.in.Partition}] == 1 {
			code = call.listOffset(ctx, req, a.topic, a.in, a.out)
		}
		a.out.ErrorCode = call.failed(code)
	})
	return resp
}

func (call *call) listOffset(ctx context.Context, req *kmsg.ListOffsetsRequest, topic string,
	in *kmsg.ListOffsetsRequestTopicPartition, out *kmsg.ListOffsetsResponseTopicPartition) wire.Code {
	if code := call.onTopic(acl.Describe, topic); code != wire.None {
		return code
	}
	if first, known := positionVersions[in.Timestamp]; in.Timestamp < 0 && (!known || req.Version < first) {
		return wire.UnsupportedVersion
	}
	st, p, code := call.partition(topic, in.Partition)
	if code != wire.None {
		return code
	}
	id := st.topic.ID
	if req.Version >= 4 {
		if code := call.checkEpoch(id, in.Partition, in.CurrentLeaderEpoch); code != wire.None {
			return code
		}
	}
	committed := req.IsolationLevel == wire.ReadCommitted
	fail := func(err error) wire.Code { return call.g.codeOf(keyListOffsets, call.c.peer, err) }
	switch in.Timestamp {
	case atLatest, atEarliest, atEarliestLocal:
		start, end, epoch, err := p.Offsets(ctx, committed)
		if err != nil {
			return fail(err)
		}
		if in.Timestamp == atLatest {
			out.Offset, out.LeaderEpoch = end, epoch
		} else {
			out.Offset, out.LeaderEpoch = start, call.epochAt(id, in.Partition, start)
		}
	case atLatestTiered, atEarliestPending:
	default:
		ms := in.Timestamp
		if ms == atMaxTimestamp {
			ms = span.MaxTimestamp
		}
		offset, ts, epoch, found, err := p.OffsetFor(ctx, ms)
		if err != nil {
			return fail(err)
		}
		if found && committed {
			_, stable, _, err := p.Offsets(ctx, true)
			if err != nil {
				return fail(err)
			}
			found = offset < stable
		}
		if found {
			out.Offset, out.Timestamp, out.LeaderEpoch = offset, ts, epoch
		}
	}
	return wire.None
}

func millisDuration(ms int32) time.Duration { return time.Duration(ms) * time.Millisecond }
