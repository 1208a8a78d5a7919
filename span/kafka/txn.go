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

// Transactions on the cluster itself. Their requests are those of a producer
// before KIP-890, that it works alike on all releases from 3.9 on: partitions are added one by one. Only
// a commit bumps the epoch, where the cluster does that; else it stays until the next BeginTransaction.

var _ span.Transactor = (*Store)(nil)

func (s *Store) txnWrap(what, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cluster %s: %s %s: %w", s.opts.Name, what, id, err)
}

// leastTxnTimeout is the least timeout that is asked for.
const leastTxnTimeout = 10 * time.Second

// BeginTransaction implements [span.Transactor].
func (s *Store) BeginTransaction(ctx context.Context, id string, timeout time.Duration) (span.Transaction, error) {
	t := span.Transaction{ID: id, Producer: -1, Epoch: -1}
	for {
		err := s.withCoordinator(ctx, id, func(ctx context.Context, b *broker) (wire.Code, error) {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID = &id
			req.TransactionTimeoutMillis = int32(timeout.Milliseconds())
			req.ProducerID, req.ProducerEpoch = -1, -1
			resp, err := b.txnRequest(ctx, id, req, 0, 4, time.Time{})
			if err != nil {
				return 0, err
			}
			r := resp.(*kmsg.InitProducerIDResponse)
			t.Producer, t.Epoch = r.ProducerID, r.ProducerEpoch
			return wire.Code(r.ErrorCode), nil
		})
		var rejected *span.RejectedError
		if errors.As(err, &rejected) && rejected.Code == wire.InvalidTransactionTimeout && timeout > leastTxnTimeout {
			// The cluster allows less (transaction.max.timeout.ms).
			timeout = max(timeout/2, leastTxnTimeout)
			continue
		}
		return t, s.txnWrap("begin transaction", id, err)
	}
}

// AddToTransaction implements [span.Transactor].
func (s *Store) AddToTransaction(ctx context.Context, t span.Transaction, topic string, partitions []int32, until time.Time) error {
	return s.txnWrap("add to transaction", t.ID, s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.ID, t.Producer, t.Epoch
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = topic, partitions
		req.Topics = append(req.Topics, rt)
		resp, err := b.txnRequest(ctx, t.ID, req, 0, 3, until)
		if err != nil {
			return 0, err
		}
		code, n := wire.None, 0
		for _, rt := range resp.(*kmsg.AddPartitionsToTxnResponse).Topics {
			for _, r := range rt.Partitions {
				n++
				if r.ErrorCode != 0 && (code == wire.None || code == wire.OperationNotAttempted) {
					code = wire.Code(r.ErrorCode)
				}
			}
		}
		if n < len(partitions) {
			return 0, fmt.Errorf("%w: AddPartitionsToTxn answer leaves a partition out", wire.ErrMalformed)
		}
		return code, nil
	}))
}

// TransactionOpen implements [span.Transactor].
func (s *Store) TransactionOpen(ctx context.Context, t span.Transaction) error {
	return s.txnWrap("ask for transaction", t.ID, s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		r, err := b.states.do(ctx, t.ID)
		switch {
		case err != nil:
			return 0, err
		case wire.Code(r.ErrorCode) == wire.TransactionalIDNotFound:
			return wire.InvalidProducerIDMapping, nil
		case r.ErrorCode != 0:
			return wire.Code(r.ErrorCode), nil
		case r.ProducerID != t.Producer || r.ProducerEpoch != t.Epoch:
			return wire.ProducerFenced, nil
		case r.State != "Ongoing" && r.State != "Empty" && r.State != "CompleteCommit":
			// CompleteCommit is the state of the one before, whose end gave this one its epoch: nothing was added yet.
			return wire.InvalidTxnState, nil
		}
		return wire.None, nil
	}))
}

// endsAs tells whether a state follows from the decision to commit, or to abort.
func endsAs(state string, commit bool) bool {
	if commit {
		return state == "PrepareCommit" || state == "CompleteCommit"
	}
	return state == "PrepareAbort" || state == "CompleteAbort"
}

// markerPatience is how long markers are waited for at a time.
const markerPatience = 3 * time.Second

// Only the end of the next transaction waits for markers. So it is looked after them at common points of time, the transactions of many in one
// request: each request costs the coordinator about as much as a small one of a client.
const (
	markerLook  = 4 * time.Millisecond
	markerEven  = 16  // looks at that pace, before the pauses grow
	markerPause = 128 // longest pause, in looks
)

// untilLook is the time to the next look, at the pace of the nth.
func untilLook(now time.Time, nth int) time.Duration {
	step := markerLook * time.Duration(min(1<<min(max(nth-markerEven, 0), 10), markerPause))
	return now.Truncate(step).Add(step).Sub(now)
}

// EndTransaction implements [span.Transactor].
//
// Where the cluster bumps a producer's epoch with each end (transaction.version=2, KIP-890) a commit is told by such a request:
// whatever of the transaction comes late is refused from then on, and nothing need be asked before the id is used again. The part
// may have been begun and be ended once more by gateways that know less of the cluster: see ended for what is found then.
func (s *Store) EndTransaction(ctx context.Context, t span.Transaction, commit bool) (next span.Transaction, err error) {
	high := int16(3)
	if commit && s.bumpsEpochs.Load() {
		high = 5
	}
	err = s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = t.ID, t.Producer, t.Epoch, commit
		answer, err := b.txnRequest(ctx, t.ID, req, 0, high, time.Time{})
		if err != nil {
			return 0, err
		}
		resp := answer.(*kmsg.EndTxnResponse)
		code := wire.Code(resp.ErrorCode)
		if code == wire.None && resp.Version >= 5 && resp.ProducerID >= 0 && resp.ProducerEpoch >= 0 {
			next = span.Transaction{ID: t.ID, Producer: resp.ProducerID, Epoch: resp.ProducerEpoch}
		}
		if code == wire.ConcurrentTransactions {
			// Decided before, and being carried out: as it is told now, or by the cluster's own timeout.
			r, err := b.states.do(ctx, t.ID)
			if err == nil && r.ErrorCode == 0 && decidedAs(r, t, commit) {
				return wire.None, nil
			}
		}
		return code, nil
	})
	if err == nil || !errors.Is(err, wire.InvalidTxnState) {
		return next, s.txnWrap("end transaction", t.ID, err)
	}
	return span.Transaction{}, s.txnWrap("end transaction", t.ID, s.ended(ctx, t, commit, err))
}

// decidedAs tells whether the transaction is decided as it was to be. A commit that bumps the epoch shows the bumped one.
func decidedAs(r stateAnswer, t span.Transaction, commit bool) bool {
	return r.ProducerID == t.Producer && (r.ProducerEpoch == t.Epoch || commit && r.ProducerEpoch == t.Epoch+1) && endsAs(r.State, commit)
}

// ended finds out what INVALID_TXN_STATE says of a transaction: nothing had been added to it, or it had ended the other way.
func (s *Store) ended(ctx context.Context, t span.Transaction, commit bool, refused error) error {
	var is stateAnswer
	wait, cancel := context.WithTimeout(ctx, markerPatience)
	defer cancel()
	err := s.withCoordinator(wait, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		r, err := b.states.do(ctx, t.ID)
		switch is = r; {
		case err != nil:
			return 0, err
		case r.ErrorCode != 0:
			return wire.Code(r.ErrorCode), nil
		case r.State == "PrepareCommit" || r.State == "PrepareAbort":
			return wire.ConcurrentTransactions, nil
		}
		return wire.None, nil
	})
	same := is.ProducerID == t.Producer && is.ProducerEpoch == t.Epoch
	switch {
	case err != nil:
		return err
	case same && is.State == "Empty":
		return nil
	case same && commit && is.State == "CompleteCommit":
		// It was begun with the epoch that the end of the one before gave it, and that one's state is still there; or it is
		// committed already, by a request that leaves the epoch. An abort by the cluster itself bumps it.
		return nil
	}
	return refused
}

// TransactionWritten implements [span.Transactor].
func (s *Store) TransactionWritten(ctx context.Context, t span.Transaction) error {
	pending := false
	wait, cancel := context.WithTimeout(ctx, markerPatience)
	defer cancel()
	err := s.withCoordinator(wait, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		for nth := 0; ; nth++ {
			if err := s.pause(ctx, untilLook(time.Now(), nth)); err != nil {
				return 0, err
			}
			r, err := b.states.do(ctx, t.ID)
			if err != nil {
				return 0, err
			}
			code := wire.Code(r.ErrorCode)
			pending = code == wire.None && (r.State == "PrepareCommit" || r.State == "PrepareAbort")
			switch {
			case code == wire.TransactionalIDNotFound:
				return wire.None, nil // forgotten, which comes long after
			case !pending:
				return code, nil
			}
		}
	})
	if err != nil && pending {
		err = fmt.Errorf("%w: %w", span.ErrTransactionPending, err)
	}
	return s.txnWrap("wait for the markers of", t.ID, err)
}
