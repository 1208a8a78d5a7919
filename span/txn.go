package span

import (
	"context"
	"errors"
	"time"
)

// Two kinds of stores hold parts of transactions. On one, a transaction is what its
// batches say: they carry our producer, and a control batch with the marker ends it,
// by [Log.Append]. The other kind is a [Transactor]: its cluster runs transactions
// of its own and writes the markers itself, so batches carry a producer of that cluster.

// Transaction names a transaction of ours on a cluster that runs its own.
type Transaction struct {
	ID       string // transactional id on that cluster
	Producer int64
	Epoch    int16
}

// Transactor is a [Store] whose cluster runs transactions of its own. All methods
// do I/O and may be called concurrently.
type Transactor interface {
	// BeginTransaction fences whoever used the id before, aborts what is open of it, and
	// returns the producer for its next transaction. timeout is asked for, and may come out shorter.
	BeginTransaction(ctx context.Context, id string, timeout time.Duration) (Transaction, error)
	// AddToTransaction takes partitions of one topic into the transaction; appends to
	// others are refused. It succeeds for those that are in it already, and fails with
	// [ErrTransactionEnded] when the transaction is not open any more.
	// No try begins after until, if it is not zero: [ErrTransactionLate].
	AddToTransaction(ctx context.Context, t Transaction, topic string, partitions []int32, until time.Time) error
	// TransactionOpen asks whether the transaction can be committed: it is open, or nothing was added to it yet. [ErrTransactionEnded]:
	// it was ended. Unlike AddToTransaction it adds nothing.
	TransactionOpen(ctx context.Context, t Transaction) error
	// EndTransaction commits or aborts, and returns when the cluster has decided so for good: it writes the markers by itself
	// from then on. It may be repeated until the id's next transaction begins, and fails with [ErrTransactionEnded] if it had
	// ended otherwise. next is the producer of the id's next transaction, which may begin once the markers are written; with
	// an empty ID it has to be begun by BeginTransaction.
	EndTransaction(ctx context.Context, t Transaction, commit bool) (next Transaction, err error)
	// TransactionWritten waits, for seconds at most, until the markers of a transaction that was ended are written.
	// [ErrTransactionPending]: they are not yet.
	TransactionWritten(ctx context.Context, t Transaction) error
}

// PartPlace is a partition that may hold records of a transaction, none below Floor.
type PartPlace struct {
	Topic     Topic
	Partition int32
	Floor     int64 // physical offset
}

// MarkerWriter is a [Transactor] that can write the markers which its cluster has lost.
type MarkerWriter interface {
	// EndHanging writes the marker wherever the transaction, which its cluster does not know any more or calls complete, is open
	// still, and returns how many it has written. commit is how it was decided; the caller makes sure that none of its partitions has
	// been ended otherwise. The id must not have been begun anew for another use. [ErrTransactionPending]: the cluster is at it still;
	// [ErrTransactionEnded]: it was committed there, which is to be aborted; [ErrDenied]: the right is missing. It may be repeated.
	EndHanging(ctx context.Context, t Transaction, at []PartPlace, commit bool) (written int, err error)
}

// ErrTransactionEnded: the cluster has ended the transaction by itself, or its
// producer is fenced.
var ErrTransactionEnded = errors.New("transaction was ended by its cluster")

// ErrTransactionLate: a partition was not added while it might be. Also of the kind [ErrUnavailable].
var ErrTransactionLate = errors.New("partition was not added to a transaction in time")

// ErrTransactionPending: the cluster has decided the transaction as it was told,
// and has not written all markers yet.
var ErrTransactionPending = errors.New("transaction's markers are not all written")
