package kafka

import (
	"sync/atomic"
	"time"
)

// Stats are a store's counters, in total since it was opened, and gauges.
type Stats struct {
	Connections   int64 // gauge: open connections
	QueuedBatches int64 // gauge: appends that wait or are under way
	QueuedBytes   int64 // gauge
	ReadBytes     int64 // gauge: buffers of reads that were not released
	Reads         int64 // gauge: reads under way
	Requests      int64 // Produce requests
	Batches       int64 // sent, retries included
	ProducedBytes int64 // of batches sent
	Retries       int64 // batches to be sent again
	Fetches       int64 // Fetch requests
	FetchedBytes  int64 // of batches received
	Truncations   int64 // logs found to have gone back
	// ProduceTime is how long brokers took for all Produce requests together.
	ProduceTime time.Duration
}

type counters struct {
	conns, queued, queuedBytes, reads            atomic.Int64
	requests, batches, producedBytes, retries    atomic.Int64
	fetches, fetchedBytes, produceTime, truncate atomic.Int64
	// busy wakes the sweep when the first append comes.
	busy chan struct{}
}

// admit counts an append in, unless it would go over the limit. One append is always taken.
func (c *counters) admit(size, limit int64) bool {
	if n := c.queuedBytes.Add(size); n > limit && n != size {
		c.queuedBytes.Add(-size)
		return false
	}
	if c.queued.Add(1) == 1 {
		select {
		case c.busy <- struct{}{}:
		default:
		}
	}
	return true
}

func (c *counters) leave(size int64) {
	c.queuedBytes.Add(-size)
	c.queued.Add(-1)
}

func (c *counters) sent(batches, bytes int) {
	c.requests.Add(1)
	c.batches.Add(int64(batches))
	c.producedBytes.Add(int64(bytes))
}

func (c *counters) answered(took time.Duration) { c.produceTime.Add(int64(took)) }

// Stats reads the counters.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Connections: c.conns.Load(), QueuedBatches: c.queued.Load(), QueuedBytes: c.queuedBytes.Load(),
		ReadBytes: s.read.used(), Reads: c.reads.Load(),
		Requests: c.requests.Load(), Batches: c.batches.Load(), ProducedBytes: c.producedBytes.Load(), Retries: c.retries.Load(),
		Fetches: c.fetches.Load(), FetchedBytes: c.fetchedBytes.Load(), Truncations: c.truncate.Load(),
		ProduceTime: time.Duration(c.produceTime.Load()),
	}
}
