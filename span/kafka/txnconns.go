package kafka

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// A broker serves one request of a connection at a time, and most requests of a
// transaction are answered only when its coordinator's log has them. So they have
// connections of their own: each transactional id is pinned to one, on which its
// requests are served in the order in which they were made, also one that nobody
// waits for any more. What is asked later of the id is never overtaken by it.

// txnConnections to each broker carry the appends of transactions, and as many
// what is asked of their coordinators. They are made when they are first used.
const txnConnections = 16

// pinned are connections to which transactional ids are pinned.
type pinned struct {
	mu    sync.Mutex
	conns [txnConnections]*control
}

func (p *pinned) get(b *broker, id string) *control {
	h := fnv.New32a()
	_, _ = io.WriteString(h, id) // a hash takes everything
	at := h.Sum32() % txnConnections
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.conns[at]
	if c == nil {
		c = newControl(b.ctx, b.s, b.addr)
		c.alone = true
		p.conns[at] = c
		// By a goroutine of the store's own, which Close waits for.
		b.s.spawn(c.run)
	}
	return c
}

// txnAppend sends an append by the connection of its transaction.
func (b *broker) txnAppend(ctx context.Context, id string, req kmsg.Request, low, high int16) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, b.s.opts.RequestTimeout)
	defer cancel()
	c := b.txnAppends.get(b, id)
	call, err := c.start(ctx, req, low, high)
	if err != nil {
		return nil, err
	}
	return c.wait(ctx, call)
}

// txnRequest asks the broker as the coordinator of an id. The request is not written after until,
// unless that is zero: [span.ErrTransactionLate].
func (b *broker) txnRequest(ctx context.Context, id string, req kmsg.Request, low, high int16, until time.Time) (kmsg.Response, error) {
	return b.startOn(ctx, b.txnAsks.get(b, id), req, low, high, until)()
}

// stateAnswer is what a coordinator says of an id.
type stateAnswer = kmsg.DescribeTransactionsResponseTransactionState

// maxStates bounds the ids of one request.
const maxStates = 1000

// newStates joins the questions for the states of transactions: many wait for
// markers at the same time.
func newStates(b *broker) *gather[string, stateAnswer] {
	return &gather[string, stateAnswer]{s: b.s, most: maxStates, send: func(ctx context.Context, ids []string) ([]stateAnswer, error) {
		req := kmsg.NewPtrDescribeTransactionsRequest()
		seen := make(map[string]bool, len(ids))
		for _, id := range ids {
			if !seen[id] {
				seen[id] = true
				req.TransactionalIDs = append(req.TransactionalIDs, id)
			}
		}
		resp, err := b.startOn(ctx, b.txnLooks, req, 0, 0, time.Time{})()
		if err != nil {
			return nil, err
		}
		states := resp.(*kmsg.DescribeTransactionsResponse).TransactionStates
		by := make(map[string]*stateAnswer, len(states))
		for i := range states {
			by[states[i].TransactionalID] = &states[i]
		}
		out := make([]stateAnswer, len(ids))
		for i, id := range ids {
			if by[id] == nil {
				return nil, fmt.Errorf("%w: DescribeTransactions answer leaves an id out", wire.ErrMalformed)
			}
			out[i] = *by[id]
		}
		return out, nil
	}}
}
