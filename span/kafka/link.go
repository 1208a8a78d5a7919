package kafka

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/wire"
)

// link is one connection of a lane and what is under way on it.
type link struct {
	cn      *conn
	sock    *wire.Socket // nil where writes may have to wait: TLS
	version int16
	slots   chan struct{} // one for each request under way
	reader  sync.WaitGroup
	broken  chan struct{}
	once    sync.Once
	why     error
	checked atomic.Int64 // when somebody last asked whether another broker leads

	mu      sync.Mutex
	pending []*call // in the order of their answers
	ended   bool    // the reader is done: it tells no more
}

// hasSlot tells whether another request may be sent.
func (k *link) hasSlot() bool { return len(k.slots) < cap(k.slots) }

// push queues a call for its answer. The reader waits without a deadline while
// nothing is under way: so a connection that the broker closes is noticed before
// an append is sent on it whose outcome would be unknown.
//
// It fails when the connection has ended and its reader with it.
func (k *link) push(c *call) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.pending = append(k.pending, c)
	if len(k.pending) == 1 {
		_ = k.cn.nc.SetReadDeadline(c.expiry) // fails only on a closed socket: the read tells
	}
	return true
}

// pop takes the call that is to be answered next, nil if there is none.
func (k *link) pop() *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 {
		return nil
	}
	c := k.pending[0]
	k.pending[0] = nil
	k.pending = k.pending[1:]
	next := time.Time{}
	if len(k.pending) > 0 {
		next = k.pending[0].expiry
	}
	_ = k.cn.nc.SetReadDeadline(next) // fails only on a closed socket: the read tells
	return c
}

// drain takes the next call of a broken connection. With nil the reader is done,
// and push refuses.
func (k *link) drain() *call {
	c := k.pop()
	if c != nil {
		return c
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 {
		k.ended = true
		return nil
	}
	c = k.pending[0]
	k.pending = k.pending[1:]
	return c
}

// head is the call that is to be answered next, nil if there is none.
func (k *link) head() *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 {
		return nil
	}
	return k.pending[0]
}

// call is one Produce request.
type call struct {
	lane    *lane
	link    *link
	entries []*entry
	bytes   int // of their batches
	corr    int32
	sent    time.Time
	expiry  time.Time // when the connection is given up
	// wrote is closed when the socket has let go of the batches; whole tells then
	// whether it took all of the frame.
	wrote chan struct{}
	whole bool
}

// fail breaks the connection, once.
func (k *link) fail(err error) {
	k.once.Do(func() {
		k.why = err
		close(k.broken)
		_ = k.cn.nc.Close()
	})
}

// lost tells all entries that there will be no answer.
func (c *call) lost(err error) {
	<-c.wrote
	for _, e := range c.entries {
		e.p.lostConn(e, c.whole, err)
	}
}

// match finds each entry's result. A broker that leaves one out is not believed.
func match(entries []*entry, resp *wire.ProduceResponse, byID bool) ([]*wire.ProduceResult, error) {
	is := func(e *entry, r *wire.ProduceResult) bool {
		t := &resp.Topics[r.Topic]
		return r.Index == e.p.index && (byID && t.ID == e.p.topic.ID || !byID && string(t.Name) == e.p.topic.Name)
	}
	found := make([]*wire.ProduceResult, len(entries))
	var index map[partitionKey]*wire.ProduceResult
	for i, e := range entries {
		if i < len(resp.Partitions) && is(e, &resp.Partitions[i]) {
			found[i] = &resp.Partitions[i]
			continue
		}
		if index == nil && byID && len(entries) > 16 {
			index = make(map[partitionKey]*wire.ProduceResult, len(resp.Partitions))
			for j := range resp.Partitions {
				r := &resp.Partitions[j]
				index[partitionKey{resp.Topics[r.Topic].ID, r.Index}] = r
			}
		}
		if index != nil {
			found[i] = index[partitionKey{e.p.topic.ID, e.p.index}]
		} else {
			for j := range resp.Partitions {
				if is(e, &resp.Partitions[j]) {
					found[i] = &resp.Partitions[j]
					break
				}
			}
		}
		if found[i] == nil {
			return nil, fmt.Errorf("%w: Produce answer leaves a partition out", wire.ErrMalformed)
		}
	}
	return found, nil
}

// isWritten tells whether the socket has let go of the batches.
func (c *call) isWritten() bool {
	select {
	case <-c.wrote:
		return true
	default:
		return false
	}
}
