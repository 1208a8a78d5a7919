package gateway

import (
	"context"
	"fmt"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// errTransactional: the request's transactional id and the batch do not fit.
var errTransactional = &span.RejectedError{Code: wire.InvalidRecord,
	Detail: "Batches of a transaction need a transactional id in the request, and others must have none"}

// transaction is what the batches of a Produce request belong to, nil for none.
func (f *flight) transaction() *chain.Transaction {
	if f.req.TransactionalID == nil {
		return nil
	}
	g, tenant, version := f.c.g, f.c.tenant, f.version
	id := string(f.req.TransactionalID)
	return &chain.Transaction{
		// From version 12 on a client that appends adds the partition by that, and its
		// epoch ends with the transaction (KIP-890).
		Epochal: version >= 12,
		Enlist: func(ctx context.Context, e chain.Enlist) (chain.Enlisted, error) {
			as, code := g.coordinator.Enlist(ctx, &coordinator.Enlist{Tenant: tenant, ID: id, Producer: e.Producer,
				Epoch: e.Epoch, Implicit: version >= 12, At: e})
			return as, enlistError(code, version)
		},
	}
}

// enlistError is what a producer is told when its batch is not enlisted, as Apache
// Kafka's verification does.
func enlistError(code wire.Code, version int16) error {
	switch code {
	case wire.None:
		return nil
	case wire.ReassignmentInProgress:
		return chain.ErrTransactionsHeld
	case wire.NotCoordinator, wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable, wire.RequestTimedOut:
		return fmt.Errorf("%w: %w", chain.ErrTransactionBusy, code)
	case wire.ConcurrentTransactions:
		if version < 12 {
			return fmt.Errorf("%w: %w", chain.ErrTransactionBusy, code)
		}
	case wire.TransactionAbortable:
		if version < 11 {
			code = wire.InvalidTxnState
		}
	}
	return &span.RejectedError{Code: code}
}
