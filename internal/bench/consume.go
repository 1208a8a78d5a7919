package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
)

// consume is one consumer on a connection of its own, with one fetch under way.
func (l *loader) consume(ctx context.Context, number int, warm func()) error {
	p := &l.plan
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	var partitions []int32
	for i := range p.Partitions {
		if !p.Share || int(i)%p.Connections == number {
			partitions = append(partitions, i)
		}
	}
	at := int64(-2)
	if p.Tail {
		at = -1
	}
	next, err := c.offsets(p.Topic, partitions, at)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID = 12, -1
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 500, 1, p.MaxBytes
	req.SessionID, req.SessionEpoch = 0, -1
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = p.Topic
	resp := kmsg.NewPtrFetchResponse()
	pace := newPacer(p.Rate/float64(p.Connections), number, p.Connections)
	cost := 0.0
	for turn := 0; ; turn++ {
		due, err := pace.wait(ctx, cost)
		if err != nil {
			return err
		}
		topic.Partitions = topic.Partitions[:0]
		for i := range partitions {
			// As clients do: who was first is last the next time, so that none starves at MaxBytes.
			n := partitions[(i+turn)%len(partitions)]
			fp := kmsg.NewFetchRequestTopicPartition()
			fp.Partition, fp.FetchOffset, fp.PartitionMaxBytes = n, next[n], p.PartitionBytes
			fp.CurrentLeaderEpoch = -1
			topic.Partitions = append(topic.Partitions, fp)
		}
		req.Topics = append(req.Topics[:0], topic)
		if err := c.send(req); err != nil {
			return err
		}
		b, err := c.receive()
		if err != nil {
			return err
		}
		took := time.Since(due)
		*resp = kmsg.FetchResponse{Version: 12}
		if err := decode(resp, b); err != nil {
			return err
		}
		records, bytes, err := l.fetched(resp, next)
		if err != nil {
			return err
		}
		if records > 0 {
			l.answered(records, bytes, took)
			if !p.Tail {
				warm()
			}
		}
		if p.Tail {
			warm() // there may be nothing to read before the others are ready
		}
		cost = float64(records)
		if p.Once {
			partitions = slices.DeleteFunc(partitions, func(n int32) bool { return next[n] < 0 })
			if len(partitions) == 0 {
				return nil
			}
		}
	}
}

// fetched moves the positions past what came. A reader that is at the end starts anew, unless it tails.
func (l *loader) fetched(resp *kmsg.FetchResponse, next map[int32]int64) (records, bytes int64, err error) {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return 0, 0, err
	}
	for i := range resp.Topics {
		for k := range resp.Topics[i].Partitions {
			p := &resp.Topics[i].Partitions[k]
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return 0, 0, fmt.Errorf("fetch of %s-%d at %d: %w", l.plan.Topic, p.Partition, next[p.Partition], err)
			}
			for h, b := range batch.Walk(p.RecordBatches) {
				next[p.Partition] = h.NextOffset()
				records += int64(h.NumRecords)
				bytes += int64(len(b))
			}
			if !l.plan.Tail && next[p.Partition] >= p.HighWatermark {
				next[p.Partition] = 0
				if l.plan.Once {
					next[p.Partition] = -1 // is not asked for again
				}
			}
		}
	}
	return records, bytes, nil
}
