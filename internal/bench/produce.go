package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
)

// sent is a request that waits for its answer.
type sent struct {
	due     time.Time
	records int64
	bytes   int64
}

// produce is one idempotent producer on a connection of its own.
func (l *loader) produce(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	partitions := make([]int32, 0, p.Partitions)
	for i := range p.Partitions {
		partitions = append(partitions, i)
	}
	if p.Own {
		partitions = partitions[number%len(partitions):][:1]
	}
	// A topic that was just made may have no leaders yet.
	if _, err := c.offsets(p.Topic, partitions, -1); err != nil {
		return err
	}
	id, epoch, err := c.producerID()
	if err != nil {
		return err
	}
	template, err := l.template(number, id, epoch)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	waiting := make(chan sent, p.InFlight)
	slots := make(chan struct{}, p.InFlight)
	ended := make(chan error, 1)
	go func() { ended <- l.acknowledged(c, waiting, slots, warm) }()
	fail := func(err error) error {
		close(waiting)
		c.close()
		if aerr := <-ended; aerr != nil {
			return aerr
		}
		return err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 30_000
	req.Topics = []kmsg.ProduceRequestTopic{kmsg.NewProduceRequestTopic()}
	req.Topics[0].Topic = p.Topic
	sequence := make([]int32, p.Partitions)
	perRequest := float64(p.Records * min(p.Spread, len(partitions)))
	pace := newPacer(p.Rate/float64(p.Connections)/perRequest, number, p.Connections)
	next := number
	for {
		if p.Limit > 0 && l.started.Add(int64(perRequest)) > p.Limit {
			close(waiting)
			return <-ended
		}
		due, err := pace.wait(ctx, 1)
		if err != nil {
			return fail(err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return fail(ctx.Err())
		case err := <-ended:
			ended <- err
			return fail(err)
		}
		if p.Rate == 0 {
			due = time.Now()
		}
		parts := req.Topics[0].Partitions[:0]
		for range min(p.Spread, len(partitions)) {
			at := partitions[next%len(partitions)]
			next++
			rp := kmsg.NewProduceRequestTopicPartition()
			rp.Partition = at
			// The formatter copies, so one template may stand for several partitions only if they
			// carry the same sequence; each has its own.
			rp.Records = template[at]
			if err := batch.SetProducer(rp.Records, id, epoch, sequence[at]); err != nil {
				return fail(err)
			}
			sequence[at] = batch.IncrementSequence(sequence[at], int32(p.Records))
			parts = append(parts, rp)
		}
		req.Topics[0].Partitions = parts
		s := sent{due: due, records: int64(p.Records * len(parts)), bytes: int64(len(template[parts[0].Partition]) * len(parts))}
		waiting <- s
		if err := c.send(req); err != nil {
			return fail(err)
		}
	}
}

// template makes one batch for each partition, of random bytes: nothing on the way may compress them.
func (l *loader) template(number int, id int64, epoch int16) ([][]byte, error) {
	r := rand.New(rand.NewPCG(uint64(number), 1))
	value := make([]byte, l.plan.RecordBytes)
	out := make([][]byte, l.plan.Partitions)
	for i := range out {
		b := batch.NewBuilder().Producer(id, epoch, 0)
		now := time.Now().UnixMilli()
		for range l.plan.Records {
			for k := range value {
				value[k] = byte(r.Uint32())
			}
			b.Add(batch.Record{Timestamp: now, Value: value})
		}
		made, err := b.Build()
		if err != nil {
			return nil, err
		}
		out[i] = made
	}
	return out, nil
}

// acknowledged reads the answers until the sender ends. It keeps each partition's times.
func (l *loader) acknowledged(c *rawConn, waiting <-chan sent, slots <-chan struct{}, warm func()) error {
	acks := map[int32][]int64{}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for p, times := range acks {
			l.acks[p] = append(l.acks[p], times...)
		}
	}()
	resp := kmsg.NewPtrProduceResponse()
	for s := range waiting {
		b, err := c.receive()
		if err != nil {
			return err
		}
		now := time.Now()
		*resp = kmsg.ProduceResponse{Version: 9}
		if err := decode(resp, b); err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("append to %s-%d: %w", t.Topic, p.Partition, err)
				}
				if l.plan.KeepAcks {
					acks[p.Partition] = append(acks[p.Partition], now.UnixMicro())
				}
			}
		}
		l.answered(s.records, s.bytes, now.Sub(s.due))
		warm()
		<-slots
	}
	return nil
}
