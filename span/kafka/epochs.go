package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// ackedBatch is the last batch that was acknowledged, to be found again in the log.
type ackedBatch struct {
	base     int64
	end      int64
	producer int64
	sequence int32
	crc      uint32
}

// epochTries bounds how often a comparison meets a leader that has changed again.
const epochTries = 20

// leader is the verified leader with its broker. With a zero after, what is known will do.
func (p *partition) leader(ctx context.Context, after time.Time) (partMeta, *broker, error) {
	p.mu.Lock()
	lead, lost := p.lead, p.lost
	p.mu.Unlock()
	if lost != nil {
		return lead, nil, lost
	}
	if lead.leader < 0 || !after.IsZero() {
		var err error
		if lead, err = p.resolve(ctx, after, false); err != nil {
			return lead, nil, err
		}
	}
	b := p.s.broker(lead.leader)
	if b == nil {
		return lead, nil, unavailable(fmt.Errorf("broker %d is not known", lead.leader))
	}
	return lead, b, nil
}

// resolve finds out who leads, by metadata not older than after. When the leader
// epoch is a new one, or compare is set, or a connection was lost (after is set),
// the log is compared with what is known of it before anything more is
// appended or read: an unclean election or a lost page cache makes a log go back.
func (p *partition) resolve(ctx context.Context, after time.Time, compare bool) (partMeta, error) {
	select {
	case p.resolving <- struct{}{}:
	case <-ctx.Done():
		return partMeta{}, unavailable(ctx.Err())
	case <-p.s.closing.Done():
		return partMeta{}, unavailable(errClosed)
	}
	defer func() { <-p.resolving }()
	var last error
	for try := range epochTries {
		if try > 0 {
			if err := p.s.pause(ctx, min(retryFirst<<try, retryMost)); err != nil {
				return partMeta{}, unavailable(errors.Join(last, err))
			}
		}
		lead, again, err := p.resolveOnce(ctx, after, compare)
		if !again {
			return lead, err
		}
		last, after = err, time.Now()
	}
	return partMeta{}, unavailable(last)
}

func (p *partition) resolveOnce(ctx context.Context, after time.Time, compare bool) (lead partMeta, again bool, err error) {
	p.mu.Lock()
	known, sure, acked, lost := p.lead, p.sure, p.acked, p.lost
	p.mu.Unlock()
	if lost != nil {
		return partMeta{}, false, lost
	}
	lead, err = p.s.meta.partition(ctx, p.topic, p.index, after)
	if err != nil {
		return partMeta{}, false, err
	}
	if lead.epoch < known.epoch {
		return partMeta{}, true, fmt.Errorf("metadata of epoch %d, known is %d", lead.epoch, known.epoch)
	}
	if known.epoch < 0 || sure == 0 && acked.end == 0 {
		p.mu.Lock()
		p.lead = lead
		p.mu.Unlock()
		return lead, false, nil
	}
	if lead == known && after.IsZero() && !compare {
		return lead, false, nil
	}
	b := p.s.broker(lead.leader)
	if b == nil {
		return partMeta{}, true, fmt.Errorf("broker %d is not known", lead.leader)
	}
	end, code, err := p.epochEnd(ctx, b, lead.epoch, known.epoch)
	if err != nil {
		return partMeta{}, false, unavailable(err)
	}
	switch kindOf(code) {
	case kindNone:
	case kindGone, kindRetry, kindMoved, kindMaybe:
		return partMeta{}, true, code
	default:
		return partMeta{}, false, asError(code)
	}
	kept := max(sure, acked.end)
	if end < sure {
		return partMeta{}, false, p.wentBack(kept, end, lead.epoch)
	}
	if end < acked.end {
		// Either the epoch had changed before that append without our noticing (a
		// Produce request carries none), or the log has lost it. The batch itself
		// tells: a log that has it has all before it.
		there, err := p.holds(ctx, b, lead.epoch, acked)
		if err != nil {
			return partMeta{}, true, err
		}
		if !there {
			return partMeta{}, false, p.wentBack(kept, end, lead.epoch)
		}
	}
	p.mu.Lock()
	p.lead = lead
	p.sure = max(p.sure, acked.end)
	p.mu.Unlock()
	return lead, false, nil
}

// epochEnd asks the leader of epoch current where an epoch ends in its log.
func (p *partition) epochEnd(ctx context.Context, b *broker, current, epoch int32) (end int64, code wire.Code, err error) {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	t := kmsg.NewOffsetForLeaderEpochRequestTopic()
	t.Topic = p.topic.Name
	part := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	part.Partition, part.CurrentLeaderEpoch, part.LeaderEpoch = p.index, current, epoch
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	resp, err := b.request(ctx, req, 3, 4)
	if err != nil {
		return 0, 0, err
	}
	for _, t := range resp.(*kmsg.OffsetForLeaderEpochResponse).Topics {
		for _, r := range t.Partitions {
			if t.Topic != p.topic.Name || r.Partition != p.index {
				continue
			}
			if wire.Code(r.ErrorCode) != wire.None || r.EndOffset >= 0 {
				return r.EndOffset, wire.Code(r.ErrorCode), nil
			}
			// The epoch is not in the log's list: its records were deleted, or all of
			// the log is gone. Then its end decides.
			ends, err := p.s.listOffsets(ctx, b, p.topic, map[int32]int32{p.index: current}, timestampLatest, leaderReplica, false)
			if err != nil {
				return 0, 0, err
			}
			return ends[p.index].offset, ends[p.index].code, nil
		}
	}
	return 0, 0, fmt.Errorf("%w: answer leaves the partition out", wire.ErrMalformed)
}

// holds tells whether the log has an acknowledged batch where it was acknowledged.
func (p *partition) holds(ctx context.Context, b *broker, epoch int32, acked ackedBatch) (bool, error) {
	got, err := b.fetch.do(ctx, &fetch{
		id: p.topic.ID, index: p.index, epoch: epoch, last: -1, offset: acked.base, maxBytes: 64 << 10, first: true,
	})
	if err != nil {
		return false, err
	}
	defer got.release()
	switch kindOf(got.Code) {
	case kindNone:
	case kindRange:
		return got.LogStart > acked.base, nil // trimmed since, so it had been there
	default:
		return false, got.Code
	}
	if len(got.Records) == 0 && got.HighWatermark < acked.end {
		return false, nil
	}
	h, _, err := batch.Parse(got.Records)
	if err != nil {
		return false, err
	}
	same := h.BaseOffset == acked.base && h.NextOffset() == acked.end &&
		h.ProducerID == acked.producer && h.BaseSequence == acked.sequence
	// A broker that stamps its own time rewrites what the checksum covers.
	return same && (h.CRC == acked.crc || h.LogAppendTime() || h.Codec() != batch.None), nil
}

// wentBack records that the log has lost what was known to be committed.
func (p *partition) wentBack(kept, end int64, epoch int32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == nil {
		p.lost = &span.TruncatedError{Partition: p.index, Acknowledged: kept, End: end, LeaderEpoch: epoch}
		p.s.stats.truncate.Add(1)
		p.s.log.Error("physical log went back", "topic", p.topic.Name, "partition", p.index,
			"acknowledged", kept, "end", end, "epoch", epoch)
		p.block()
	}
	return p.lost
}

// diverged is wentBack for what a Fetch found: the log has another batch than
// the one that was read from it before.
func (p *partition) diverged(offset int64, end wire.EpochEnd, epoch int32) error {
	p.mu.Lock()
	kept := max(p.sure, p.acked.end, offset)
	p.mu.Unlock()
	return p.wentBack(kept, end.EndOffset, epoch)
}
