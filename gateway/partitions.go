package gateway

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/wire"
)

// askWorkers is how many partitions of one request are asked at the same time.
const askWorkers = 16

// each calls f for 0 to n-1, some at the same time, and returns when all have
// returned. The reader of the connection works too, so that a request for one
// partition costs no goroutine.
func each(n int, f func(i int)) {
	var taken atomic.Int32
	work := func() {
		for {
			i := int(taken.Add(1)) - 1
			if i >= n {
				return
			}
			f(i)
		}
	}
	var wg sync.WaitGroup
	for range min(n, askWorkers) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// partition finds a partition by name for the keys that ask one. If this
// gateway has not heard of it, the catalog is asked first.
func (call *call) partition(topic string, index int32) (*topicState, *chain.Partition, wire.Code) {
	find := func() (*topicState, *chain.Partition, error) {
		st := call.g.topics.named(call.tenant, []byte(topic))
		if st == nil {
			return nil, nil, wire.UnknownTopicOrPartition
		}
		p, err := st.partition(call.g.logs, index)
		return st, p, err
	}
	st, p, err := find()
	if err != nil {
		call.g.fresh.refresh(call.ctx)
		st, p, err = find()
	}
	if err != nil {
		return nil, nil, call.g.codeOf(call.header.Key, call.c.peer, err)
	}
	return st, p, wire.None
}

// checkEpoch holds the epoch that a client believes in (-1: none) against the
// partition's, as far as this gateway knows; KIP-320.
func (call *call) checkEpoch(topic catalog.ID, index, believed int32) wire.Code {
	if believed < 0 {
		return wire.None
	}
	current := call.epoch(topic, index)
	if believed > current {
		// Another gateway has told it of a span that we have not heard of.
		call.g.fresh.refresh(call.ctx)
		current = call.epoch(topic, index)
	}
	switch {
	case believed < current:
		return wire.FencedLeaderEpoch
	case believed > current:
		return wire.UnknownLeaderEpoch
	}
	return wire.None
}

// epoch is the partition's leader epoch in the latest snapshot, -1 if there is none.
func (call *call) epoch(topic catalog.ID, index int32) int32 {
	c, _ := call.g.watcher.Snapshot().Chain(topic, index)
	if c == nil {
		return -1
	}
	return chainEpoch(c)
}

// epochAt is the leader epoch of the record at an offset, -1 if it is not known.
func (call *call) epochAt(topic catalog.ID, index int32, offset int64) int32 {
	c, _ := call.g.watcher.Snapshot().Chain(topic, index)
	if c == nil {
		return -1
	}
	for i := len(c.Spans) - 1; i >= 0; i-- {
		if c.Spans[i].Start <= offset {
			return c.Spans[i].Epoch
		}
	}
	return -1
}

// limited is the request's context with the time that it may take; d of 0 is
// the default.
func (call *call) limited(millis int32) (context.Context, context.CancelFunc) {
	d := call.g.cfg.RequestTimeout
	if asked := millisDuration(millis); asked > 0 {
		d = min(d, asked)
	}
	return context.WithTimeout(call.ctx, d)
}
