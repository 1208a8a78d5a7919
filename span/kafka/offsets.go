package kafka

import (
	"context"
	"errors"
	"fmt"
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
	q := []question{{timestamp: timestamp, who: who, committed: committed}}
	err := s.askAll(ctx, b, t, epochs, q)
	return q[0].answers, err
}

func (q *question) request(t span.Topic, epochs map[int32]int32) *kmsg.ListOffsetsRequest {
	req := q.header()
	q.add(req, t.Name, epochs)
	return req
}

func (q *question) header() *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = q.who
	if q.committed {
		req.IsolationLevel = 1
	}
	return req
}

// add asks for partitions of a topic that the request does not name yet.
func (q *question) add(req *kmsg.ListOffsetsRequest, topic string, epochs map[int32]int32) {
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for p, epoch := range epochs {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = p, epoch, q.timestamp
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
}

func (q *question) take(topic string, epochs map[int32]int32, resp *kmsg.ListOffsetsResponse) error {
	q.answers = make(map[int32]listed, len(epochs))
	for _, rt := range resp.Topics {
		for _, r := range rt.Partitions {
			if _, ok := epochs[r.Partition]; ok && rt.Topic == topic {
				q.answers[r.Partition] = listed{r.Offset, r.Timestamp, r.LeaderEpoch, wire.Code(r.ErrorCode)}
			}
		}
	}
	if len(q.answers) != len(epochs) {
		return fmt.Errorf("%w: ListOffsets answer leaves partitions out", wire.ErrMalformed)
	}
	return nil
}

// question is one ListOffsets of several that are sent at once and answered in
// their order: a later answer is of a later moment.
type question struct {
	timestamp int64
	who       int32
	committed bool
	answers   map[int32]listed
}

func (s *Store) askAll(ctx context.Context, b *broker, t span.Topic, epochs map[int32]int32, questions []question) error {
	return startAll(ctx, b, t, epochs, questions)()
}

// startAll sends the questions; what it returns waits for the answers, and has to be called.
func startAll(ctx context.Context, b *broker, t span.Topic, epochs map[int32]int32, questions []question) func() error {
	waits := make([]func() (kmsg.Response, error), len(questions))
	for i := range questions {
		waits[i] = b.start(ctx, questions[i].request(t, epochs), 7, 8)
	}
	return func() error {
		var errs []error
		for i, wait := range waits {
			resp, err := wait()
			if err == nil {
				err = questions[i].take(t.Name, epochs, resp.(*kmsg.ListOffsetsResponse))
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
}

// atLeader runs f with the leader, and again with the next one when it has moved.
// f returns the code of the partition.
func (p *partition) atLeader(ctx context.Context, f func(lead partMeta, b *broker) (wire.Code, error)) error {
	ctx, cancel := p.s.short(ctx)
	defer cancel()
	after := time.Time{}
	var last error
	began := time.Now()
	for try := range readTries {
		if p.s.givesUp(began) {
			return unavailable(errors.Join(last, errAway))
		}
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

// offsetsOf asks for one partition's offsets.
type offsetsOf struct {
	topic     span.Topic
	partition int32
	epoch     int32
}

type offsetsAre struct {
	span.Offsets
	code wire.Code
}

// maxOffsetsOf bounds the partitions of one round of questions.
const maxOffsetsOf = 1000

// newOffsets joins the questions for the offsets of several partitions: each takes
// four requests, and a certificate of a topic asks for all of its partitions at once.
func newOffsets(b *broker) *gather[offsetsOf, offsetsAre] {
	return &gather[offsetsOf, offsetsAre]{s: b.s, most: maxOffsetsOf,
		send: func(ctx context.Context, qs []offsetsOf) ([]offsetsAre, error) {
			return b.s.offsetsAll(ctx, b, qs)
		}}
}

func (s *Store) offsetsAll(ctx context.Context, b *broker, qs []offsetsOf) ([]offsetsAre, error) {
	// A broker refuses a request that names a partition twice, so who asks for the
	// same one shares the answer. The requests know topics by their names.
	epochs := map[string]map[int32]int32{}
	for _, q := range qs {
		if epochs[q.topic.Name] == nil {
			epochs[q.topic.Name] = map[int32]int32{}
		}
		epochs[q.topic.Name][q.partition] = q.epoch
	}
	// In this order each is at least the one before.
	questions := []question{
		{timestamp: timestampEarliest, who: consumer},
		{timestamp: timestampLatest, who: consumer, committed: true},
		{timestamp: timestampLatest, who: consumer},
		{timestamp: timestampLatest, who: leaderReplica},
	}
	waits := make([]func() (kmsg.Response, error), len(questions))
	for i := range questions {
		req := questions[i].header()
		for name, of := range epochs {
			questions[i].add(req, name, of)
		}
		waits[i] = b.start(ctx, req, 7, 8)
	}
	answers := make([]map[string]map[int32]listed, len(questions))
	var errs []error
	for i, wait := range waits {
		resp, err := wait()
		answers[i] = map[string]map[int32]listed{}
		for name, of := range epochs {
			if err == nil {
				err = questions[i].take(name, of, resp.(*kmsg.ListOffsetsResponse))
				answers[i][name] = questions[i].answers
			}
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	out := make([]offsetsAre, len(qs))
	for i, q := range qs {
		if epochs[q.topic.Name][q.partition] != q.epoch {
			out[i].code = wire.FencedLeaderEpoch // another caller knows another leader
			continue
		}
		var at [4]int64
		for j := range questions {
			a := answers[j][q.topic.Name][q.partition]
			at[j] = a.offset
			if out[i].code == wire.None {
				out[i].code = a.code
			}
		}
		out[i].Offsets = span.Offsets{Start: at[0], LastStable: at[1], HighWatermark: at[2], End: at[3]}
	}
	return out, nil
}

// Offsets implements [span.Log].
func (p *partition) Offsets(ctx context.Context) (span.Offsets, error) {
	var o span.Offsets
	err := p.atLeader(ctx, func(lead partMeta, b *broker) (wire.Code, error) {
		got, err := b.offsets.do(ctx, offsetsOf{p.topic, p.index, lead.epoch})
		if err != nil || got.code != wire.None {
			return got.code, err
		}
		o = got.Offsets
		o.LeaderEpoch = lead.epoch
		// A connection that was replaced in between may have put the answers out of order.
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
