package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Special timestamps of ListOffsets.
const (
	timestampLatest   = -1
	timestampEarliest = -2
	timestampMax      = -3
)

// Who asks, in ListOffsets: to a consumer the end of the log is the high
// watermark, or the last stable offset; to any replica it is the log's own end.
const (
	consumer      = -1
	leaderReplica = 0
)

// listed is one partition's answer.
type listed struct {
	offset    int64
	timestamp int64
	epoch     int32
	code      wire.Code
}

// listOffsets asks one broker for partitions of one topic; epochs holds the leader
// epoch by partition, and the broker refuses another.
func (s *Store) listOffsets(ctx context.Context, b *broker, t span.Topic, epochs map[int32]int32, timestamp int64, who int32, committed bool) (map[int32]listed, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = who
	if committed {
		req.IsolationLevel = 1
	}
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = t.Name
	for p, epoch := range epochs {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = p, epoch, timestamp
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	resp, err := b.request(ctx, req, 7, 8)
	if err != nil {
		return nil, err
	}
	out := make(map[int32]listed, len(epochs))
	for _, rt := range resp.(*kmsg.ListOffsetsResponse).Topics {
		for _, r := range rt.Partitions {
			if _, ok := epochs[r.Partition]; ok && rt.Topic == t.Name {
				out[r.Partition] = listed{r.Offset, r.Timestamp, r.LeaderEpoch, wire.Code(r.ErrorCode)}
			}
		}
	}
	if len(out) != len(epochs) {
		return nil, fmt.Errorf("%w: ListOffsets answer leaves partitions out", wire.ErrMalformed)
	}
	return out, nil
}

// question is one ListOffsets of several that are sent at once; they are answered
// in their order, since they share a connection.
type question struct {
	timestamp int64
	who       int32
	committed bool
	answers   map[int32]listed
	err       error
}

func (s *Store) askAll(ctx context.Context, b *broker, t span.Topic, epochs map[int32]int32, questions []question) error {
	var wg sync.WaitGroup
	for i := range questions {
		q := &questions[i]
		wg.Go(func() { q.answers, q.err = s.listOffsets(ctx, b, t, epochs, q.timestamp, q.who, q.committed) })
	}
	wg.Wait()
	var errs []error
	for i := range questions {
		errs = append(errs, questions[i].err)
	}
	return errors.Join(errs...)
}

// atLeader runs f with the leader, and again with the next one when it has moved.
// f returns the code of the partition.
func (p *partition) atLeader(ctx context.Context, f func(lead partMeta, b *broker) (wire.Code, error)) error {
	after := time.Time{}
	var last error
	for try := range readTries {
		if try > 1 {
			if err := p.s.pause(ctx, min(retryFirst<<try, retryMost)); err != nil {
				return unavailable(errors.Join(last, err))
			}
		}
		lead, b, err := p.leader(ctx, after)
		if err != nil {
			if !errors.Is(err, span.ErrUnavailable) || ctx.Err() != nil || p.s.closing.Err() != nil {
				return err
			}
			last, after = err, time.Now()
			continue
		}
		sent := time.Now()
		code, err := f(lead, b)
		if err != nil {
			if ctx.Err() != nil || p.s.closing.Err() != nil {
				return unavailable(err)
			}
			last, after = unavailable(err), sent
			continue
		}
		switch kindOf(code) {
		case kindRetry, kindMoved, kindMaybe:
			last, after = unavailable(code), sent
		case kindGone:
			if _, err := p.s.meta.fresh(ctx, p.topic); err != nil {
				return err
			}
			last, after = unavailable(code), sent
		default:
			return asError(code)
		}
	}
	return last
}

// Offsets implements [span.Log].
func (p *partition) Offsets(ctx context.Context) (span.Offsets, error) {
	var o span.Offsets
	err := p.atLeader(ctx, func(lead partMeta, b *broker) (wire.Code, error) {
		// In this order each is at least the one before.
		qs := []question{
			{timestamp: timestampEarliest, who: consumer},
			{timestamp: timestampLatest, who: consumer, committed: true},
			{timestamp: timestampLatest, who: consumer},
			{timestamp: timestampLatest, who: leaderReplica},
		}
		if err := p.s.askAll(ctx, b, p.topic, map[int32]int32{p.index: lead.epoch}, qs); err != nil {
			return 0, err
		}
		for _, q := range qs {
			if code := q.answers[p.index].code; code != wire.None {
				return code, nil
			}
		}
		o = span.Offsets{
			Start: qs[0].answers[p.index].offset, LastStable: qs[1].answers[p.index].offset,
			HighWatermark: qs[2].answers[p.index].offset, End: qs[3].answers[p.index].offset, LeaderEpoch: lead.epoch,
		}
		// The questions may be answered out of order where a connection was replaced.
		o.HighWatermark = min(o.HighWatermark, o.End)
		o.LastStable = min(o.LastStable, o.HighWatermark)
		o.Start = min(o.Start, o.HighWatermark)
		p.mu.Lock()
		if p.lead.epoch == lead.epoch {
			p.sure = max(p.sure, o.HighWatermark)
		}
		p.mu.Unlock()
		return wire.None, nil
	})
	return o, p.s.wrap(fmt.Sprintf("offsets of partition %d of", p.index), p.topic, err)
}

// OffsetFor implements [span.Log].
func (p *partition) OffsetFor(ctx context.Context, ms int64) (at span.Position, found bool, err error) {
	err = p.atLeader(ctx, func(lead partMeta, b *broker) (wire.Code, error) {
		got, err := p.s.listOffsets(ctx, b, p.topic, map[int32]int32{p.index: lead.epoch}, ms, consumer, false)
		if err != nil {
			return 0, err
		}
		r := got[p.index]
		at, found = span.Position{Offset: r.offset, Timestamp: r.timestamp}, r.code == wire.None && r.offset >= 0
		return r.code, nil
	})
	return at, found, p.s.wrap(fmt.Sprintf("offset by time in partition %d of", p.index), p.topic, err)
}

// DeleteBefore implements [span.Log].
func (p *partition) DeleteBefore(ctx context.Context, offset int64) (start int64, err error) {
	err = p.atLeader(ctx, func(_ partMeta, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrDeleteRecordsRequest()
		req.TimeoutMillis = int32(p.s.opts.RequestTimeout.Milliseconds())
		t := kmsg.NewDeleteRecordsRequestTopic()
		t.Topic = p.topic.Name
		part := kmsg.NewDeleteRecordsRequestTopicPartition()
		part.Partition, part.Offset = p.index, offset
		t.Partitions = append(t.Partitions, part)
		req.Topics = append(req.Topics, t)
		resp, err := b.request(ctx, req, 2, 2)
		if err != nil {
			return 0, err
		}
		for _, t := range resp.(*kmsg.DeleteRecordsResponse).Topics {
			for _, r := range t.Partitions {
				if t.Topic == p.topic.Name && r.Partition == p.index {
					start = r.LowWatermark
					return wire.Code(r.ErrorCode), nil
				}
			}
		}
		return 0, fmt.Errorf("%w: answer leaves the partition out", wire.ErrMalformed)
	})
	return start, p.s.wrap(fmt.Sprintf("trim partition %d of", p.index), p.topic, err)
}
