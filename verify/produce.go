package verify

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// pace is how often a producer looks what is due.
const pace = 2 * time.Millisecond

// producer is one client that sends, and what it waits for.
type producer struct {
	*run
	id          int32
	client      *kgo.Client
	next        []int64        // sequence, by partition
	outstanding []atomic.Int64 // by partition
	blind       blind
}

// blind finds the records that were acknowledged without an offset. A broker that took a batch for a
// repeat of one it knows no longer (DUPLICATE_SEQUENCE_NUMBER) tells none, and the client then counts up from -1.
// Promises come in a batch's order from one goroutine, so the rest of such a batch is what goes on at 0.
type blind struct {
	on        bool
	topic     string
	partition int32
	next      int64
}

// offset is the acknowledged offset of the next record that a client's promises tell of, -1 if there is none.
func (b *blind) offset(rec *kgo.Record) int64 {
	switch {
	case rec.Offset < 0:
		*b = blind{true, rec.Topic, rec.Partition, 0}
	case b.on && b.topic == rec.Topic && b.partition == rec.Partition && b.next == rec.Offset:
		b.next++
	default:
		b.on = false
		return rec.Offset
	}
	return -1
}

func (r *run) producerOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(r.Linger),
		kgo.ProducerBatchMaxBytes(int32(max(1<<20-1<<10, r.RecordSize+1<<10))),
		kgo.MaxBufferedRecords(r.Outstanding*r.Partitions + 1),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	if r.NonIdempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	return opts
}

// produce sends at the producer's share of the rate for the run's duration, and waits for answers.
func (r *run) produce(ctx context.Context, id int32) error {
	cl, err := r.client(r.producerOptions()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	p := &producer{
		run: r, id: id, client: cl, next: make([]int64, r.Partitions),
		outstanding: make([]atomic.Int64, r.Partitions),
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := p.send(ctx); err != nil {
		return err
	}
	// What has no answer when this is over stays unknown; the end of the context makes the client
	// give it up, and Close waits for that.
	settle, stop := context.WithTimeout(ctx, r.Settle)
	defer stop()
	if err := cl.Flush(settle); err != nil && ctx.Err() == nil {
		r.problem("producer %d: %d records had no answer within %s", id, cl.BufferedProduceRecords(), r.Settle)
	}
	return nil
}

func (p *producer) send(ctx context.Context) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	rate := float64(p.Rate) / float64(p.Producers)
	made, at := 0, int(p.id)%p.Partitions
	for {
		elapsed := time.Since(p.start)
		if elapsed >= p.Duration {
			return nil
		}
		due := int(elapsed.Seconds() * rate)
		// After a pause at most a second's worth is caught up: the rate is a load, not a debt.
		made = max(made, due-int(rate)-1)
		for full := 0; made < due && full < p.Partitions; at = (at + 1) % p.Partitions {
			// A partition that does not answer must not keep the others waiting.
			if p.outstanding[at].Load() >= int64(p.Outstanding) {
				full++
				continue
			}
			full = 0
			made++
			if err := p.one(ctx, int32(at)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil // the caller knows why
		case <-p.Until:
			return nil
		case <-tick.C:
		}
	}
}

// one sends the next value of a partition.
func (p *producer) one(ctx context.Context, partition int32) error {
	v := Value{p.id, partition, p.next[partition]}
	p.next[partition]++
	if err := p.history.Sent(v); err != nil {
		return fmt.Errorf("record the history: %w", err)
	}
	p.sent.Add(1)
	p.outstanding[partition].Add(1)
	sent := time.Now()
	payload := appendPayload(make([]byte, 0, p.RecordSize), p.run.id, sent.Sub(p.start), v, p.RecordSize)
	p.client.Produce(ctx, &kgo.Record{Topic: p.Topic, Partition: partition, Value: payload}, p.answered)
	return nil
}

// answered is called by the client, one at a time.
func (p *producer) answered(rec *kgo.Record, err error) {
	p.outstanding[rec.Partition].Add(-1)
	now := time.Now()
	v, after, perr := parsePayload(rec.Value, p.run.id)
	if perr != nil {
		p.problem("producer %d: the client changed a record: %v", p.id, perr)
		return
	}
	sent := p.start.Add(after)
	if err != nil {
		// Unknown: an earlier try may have been written.
		if rec.Context == nil || rec.Context.Err() == nil {
			p.problem("producer %d: partition %d: %v", p.id, rec.Partition, err)
		}
		p.longer(p.history.gaveUp(v, sent, now))
		return
	}
	pause, err := p.history.acked(v, p.blind.offset(rec), sent, now)
	if err != nil {
		p.problem("producer %d: %v", p.id, err)
		return
	}
	p.acked.Add(1)
	p.longer(pause)
}

// longer keeps the longest pause, for the progress.
func (r *run) longer(pause time.Duration) {
	for {
		longest := r.longest.Load()
		if int64(pause) <= longest || r.longest.CompareAndSwap(longest, int64(pause)) {
			return
		}
	}
}

// mark writes each partition's last record.
func (r *run) mark(ctx context.Context) error {
	cl, err := r.client(r.producerOptions()...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, r.Settle)
	defer cancel()
	for p := range int32(r.Partitions) {
		v := Value{Producer: markerProducer, Partition: p}
		if err := r.history.Sent(v); err != nil {
			return fmt.Errorf("record the history: %w", err)
		}
		payload := appendPayload(nil, r.id, time.Since(r.start), v, minPayload)
		cl.Produce(ctx, &kgo.Record{Topic: r.Topic, Partition: p, Value: payload}, func(rec *kgo.Record, err error) {
			if err == nil {
				err = r.history.Acked(v, rec.Offset, time.Time{}, time.Time{})
			}
			if err != nil {
				r.problem("partition %d: its last record was not taken: %v", p, err)
				return
			}
			r.markers[p].Store(rec.Offset + 1)
		})
	}
	// Each promise has told of its own failure.
	_ = cl.Flush(ctx)
	return nil
}
