package kafka

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/span"
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
	ownersMu                                     sync.RWMutex
	owners                                       map[string]*atomic.Int64 // queued bytes by owner
	waiting                                      atomic.Int64             // owners that have any
	requests, batches, producedBytes, retries    atomic.Int64
	fetches, fetchedBytes, produceTime, truncate atomic.Int64
	// busy wakes the sweep when the first append comes.
	busy chan struct{}
}

// admit counts an append in, unless it would go over the limit or, beside others, over what
// its owner may have of it. One append is always taken.
func (c *counters) admit(a *span.Append, limit int64) bool {
	size := int64(len(a.Batch))
	n := c.queuedBytes.Add(size)
	own := c.owner(a.Owner)
	if n > limit && n != size || own != nil && own.Load() > 0 && !fair.Allows(own.Load()+size-1, n-size, limit, c.waiting.Load() > 1) {
		c.queuedBytes.Add(-size)
		return false
	}
	if own != nil && own.Add(size) == size {
		c.waiting.Add(1)
	}
	if c.queued.Add(1) == 1 {
		select {
		case c.busy <- struct{}{}:
		default:
		}
	}
	return true
}

// leave counts an append out that was admitted.
func (c *counters) leave(a *span.Append) {
	size := int64(len(a.Batch))
	c.queuedBytes.Add(-size)
	if own := c.owner(a.Owner); own != nil && own.Add(-size) == 0 {
		c.waiting.Add(-1)
	}
	c.queued.Add(-1)
}

// owner is what an owner has of the queue. Nil is nobody: appends of Braid's own are never too many.
func (c *counters) owner(name string) *atomic.Int64 {
	if name == "" {
		return nil
	}
	c.ownersMu.RLock()
	own := c.owners[name]
	c.ownersMu.RUnlock()
	if own != nil {
		return own
	}
	c.ownersMu.Lock()
	defer c.ownersMu.Unlock()
	if own = c.owners[name]; own != nil {
		return own
	}
	if c.owners == nil {
		c.owners = map[string]*atomic.Int64{}
	}
	own = new(atomic.Int64)
	c.owners[name] = own
	return own
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
