package gateway

// OffsetForLeaderEpoch, key 23, versions 2 to 4.
//
// Differences: epochs are those of the chain's spans; the epochs of the brokers
// behind are never shown. Where the next span begins with a transaction, the end of an
// epoch before the last one is that of the log, and the largest number while its cluster
// does not tell it: consumers use it to find out whether records that they read are gone,
// they go past aborted ones without a look at the epoch, and no offset is ever given twice.

import (
	"context"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// epochWait bounds how long the open span's cluster is asked for the end of the log
// when an earlier epoch is asked for.
const epochWait = 500 * time.Millisecond

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
				if epoch >= 0 && epoch < call.epoch(st.topic.ID, a.in.Partition) {
					end = pastAborted(ctx, p, end)
				}
				a.out.LeaderEpoch, a.out.EndOffset = epoch, end
			}
		}
		a.out.ErrorCode = call.failed(code)
	})
	return resp
}

// pastAborted is where a consumer may stand at most whose last record was of an epoch that has
// ended there: at the first record behind the end that every consumer keeps. That is beyond the end
// if it went on over records of the next epochs that it did not keep, those of an aborted
// transaction: franz-go takes no epoch from them, and would tell its application of a loss at the
// next move. Kafka's leaders rarely change under a transaction; here topics move.
func pastAborted(ctx context.Context, p *chain.Partition, end int64) int64 {
	ctx, cancel := context.WithTimeout(ctx, epochWait)
	defer cancel()
	// Of one byte: a batch, which comes whole.
	if res, err := p.Read(ctx, chain.ReadRequest{Offset: end, MaxBytes: 1, ClientEpoch: -1, LastFetchedEpoch: -1}); err == nil {
		at := keptFrom(res.Batches)
		res.Release()
		if at >= 0 {
			return max(end, at)
		}
	}
	_, logEnd, _, err := p.Offsets(ctx, false)
	if err != nil {
		// Nobody who reads of earlier spans waits for this cluster. Whoever stands past the end of
		// the log is told so when fetching.
		return math.MaxInt64
	}
	return max(end, logEnd)
}

// keptFrom gives where the first batch begins if a consumer of any isolation level is given records
// of it, and so their epoch; -1 if one of committed records may go past it without, or if there is none.
// What compaction has emptied is gone past, too.
func keptFrom(batches []byte) int64 {
	it := batch.NewIter(batches)
	if h := &it.Header; it.Next() && !h.IsTransactional() && !h.IsControl() && h.NumRecords > 0 {
		return h.BaseOffset
	}
	return -1
}
