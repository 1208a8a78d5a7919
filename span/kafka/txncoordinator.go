package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// txnCoordinators remembers which broker coordinates a transactional id.
type txnCoordinators struct {
	mu    sync.Mutex
	nodes map[string]int32
}

// maxCoordinators bounds what is remembered.
const maxCoordinators = 50_000

func (c *txnCoordinators) get(id string) (int32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[id]
	return n, ok
}

func (c *txnCoordinators) set(id string, node int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes == nil || len(c.nodes) >= maxCoordinators {
		c.nodes = map[string]int32{}
	}
	c.nodes[id] = node
}

func (c *txnCoordinators) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, id)
}

// coordinator finds the broker of a transactional id.
func (s *Store) coordinator(ctx context.Context, id string) (*broker, error) {
	if node, ok := s.coordinators.get(id); ok {
		if b := s.broker(node); b != nil {
			return b, nil
		}
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType = 1
	req.CoordinatorKey = id
	req.CoordinatorKeys = []string{id}
	var node int32
	accept := func(resp kmsg.Response) error {
		r := resp.(*kmsg.FindCoordinatorResponse)
		code, at := wire.Code(r.ErrorCode), r.NodeID
		if r.Version >= 4 {
			if len(r.Coordinators) != 1 {
				return fmt.Errorf("%w: FindCoordinator answers for %d keys", wire.ErrMalformed, len(r.Coordinators))
			}
			code, at = wire.Code(r.Coordinators[0].ErrorCode), r.Coordinators[0].NodeID
		}
		if code != wire.None {
			return code
		}
		node = at
		return nil
	}
	for _, b := range s.candidates() {
		// The version is written into the request, so each broker gets its own.
		one := *req
		resp, err := b.request(ctx, &one, 1, 4)
		if err == nil {
			err = accept(resp)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, unavailable(err)
			}
			if errors.Is(err, wire.TransactionalIDAuthorizationFailed) || errors.Is(err, wire.ClusterAuthorizationFailed) {
				return nil, fmt.Errorf("%w: %w", span.ErrDenied, err)
			}
			continue
		}
		if b := s.broker(node); b != nil {
			s.coordinators.set(id, node)
			return b, nil
		}
	}
	return nil, unavailable(errNoBroker)
}

// errTxnBusy: the coordinator is to be asked again.
var errTxnBusy = errors.New("transaction coordinator is busy")

// withCoordinator asks the coordinator of an id until it gives a definite answer.
// ask returns the answer's code; busy ones are tried again.
func (s *Store) withCoordinator(ctx context.Context, id string, ask func(ctx context.Context, b *broker) (wire.Code, error)) error {
	ctx, cancel := s.short(ctx)
	defer cancel()
	var last error = errTxnBusy
	began := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if s.givesUp(began) {
			return unavailable(errors.Join(last, errAway))
		}
		b, err := s.coordinator(ctx, id)
		if err == nil {
			var code wire.Code
			code, err = ask(ctx, b)
			switch {
			case errors.Is(err, span.ErrTransactionLate):
				return unavailable(errors.Join(last, err))
			case err != nil:
				s.coordinators.forget(id)
				err = unavailable(err)
			case code == wire.None:
				return nil
			case code == wire.NotCoordinator, code == wire.CoordinatorNotAvailable:
				s.coordinators.forget(id)
				err = fmt.Errorf("%w: %w", span.ErrUnavailable, code)
			case code == wire.ConcurrentTransactions, code == wire.CoordinatorLoadInProgress, code == wire.OperationNotAttempted,
				code == wire.UnknownTopicOrPartition, kindOf(code) == kindRetry, kindOf(code) == kindMaybe, kindOf(code) == kindMoved:
				// A broker may not have heard of a new topic yet.
				err = fmt.Errorf("%w: %w: %w", span.ErrUnavailable, errTxnBusy, code)
			default:
				return txnError(code)
			}
		}
		if errors.Is(err, span.ErrDenied) {
			return err
		}
		last = err
		if err := s.pause(ctx, wait); err != nil {
			return unavailable(errors.Join(last, err))
		}
	}
}

// txnError maps the code of a transaction's request.
func txnError(code wire.Code) error {
	switch code {
	case wire.InvalidProducerEpoch, wire.ProducerFenced, wire.InvalidProducerIDMapping, wire.InvalidTxnState, wire.TransactionAbortable:
		return fmt.Errorf("%w: %w", span.ErrTransactionEnded, code)
	case wire.TransactionalIDAuthorizationFailed, wire.ClusterAuthorizationFailed, wire.TopicAuthorizationFailed:
		return fmt.Errorf("%w: %w", span.ErrDenied, code)
	}
	return asError(code)
}
