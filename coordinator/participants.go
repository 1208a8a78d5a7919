package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// Participants are the clusters in whose partitions transactions have parts. All
// methods do I/O and may be called concurrently; each may be repeated.
type Participants interface {
	// Begin fences whoever used the transactional id on the cluster before, and
	// returns the producer for its next transaction.
	Begin(ctx context.Context, cluster, id string) (producer int64, epoch int16, err error)
	// Add takes partitions of one physical topic into the transaction; for those that are in it already it only asks whether it is
	// open. [ErrParticipantEnded]: it was ended. No try begins after until, unless that is zero: [span.ErrTransactionLate].
	Add(ctx context.Context, cluster string, t span.Transaction, topic string, partitions []int32, until time.Time) error
	// Open asks whether it can be committed, and adds nothing. [ErrParticipantEnded]: it was ended.
	Open(ctx context.Context, cluster string, t span.Transaction) error
	// End commits or aborts it, and returns when its cluster has decided so for good. Doing it
	// again succeeds until the id's next one begins, by next if that has an ID, else by Begin. [ErrParticipantEnded]: it had ended otherwise.
	End(ctx context.Context, cluster string, t span.Transaction, commit bool) (next span.Transaction, err error)
	// Written waits, for seconds at most, until the markers of one that was ended are written: nothing is begun with its id
	// before. [span.ErrTransactionPending]: they are not.
	Written(ctx context.Context, cluster string, t span.Transaction) error
	// Mark ends a producer's transaction in a partition whose records lie on a
	// copy that takes markers. A partition that is no more counts as marked.
	Mark(ctx context.Context, topic catalog.ID, partition int32, m batch.Marker) error
	// Find finds what a copy holds of a cluster's transaction. [span.ErrGone]: the copy is no more.
	Find(ctx context.Context, at chain.PartCopy, t span.Transaction) (chain.Part, error)
	// Repeat appends it anew in a transaction of ours, see [chain.Logs.AppendPart].
	Repeat(ctx context.Context, part chain.Part, topic catalog.ID, partition int32, producer int64, epoch int16, first int32,
		txn *chain.Transaction) (next int32, left chain.LeftOut, err error)
	// Held tells since when (ms, this machine's clock) new transactions may not begin
	// in a topic, since it is about to be sealed; 0 when the copy is being sealed, or was, and none may come to it that
	// is not in it.
	Held(at *chain.Enlist) (since int64, held bool)
}

// witness is a [Participants] that counts the markers which clusters write by themselves.
type witness interface {
	Marked(topic catalog.ID, partition int32, physical catalog.ID)
}

// hangEnder is a [Participants] that can end what is left open on a cluster which has lost a marker, see [span.MarkerWriter].
type hangEnder interface {
	EndHanging(ctx context.Context, cluster string, t span.Transaction, at []span.PartPlace, commit bool) (written int, err error)
}

// ErrParticipantEnded: the transaction on a cluster is not the one that was begun
// there: its timeout has passed, or it was ended by hand.
var ErrParticipantEnded = errors.New("the cluster has ended its part of the transaction")
