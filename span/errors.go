package span

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/wire"
)

// Kinds of errors. Stores wrap them with context; callers use errors.Is.
var (
	// ErrSealed: the copy refuses appends for good; this one did not land.
	ErrSealed = errors.New("span is sealed")
	// ErrUnknownOutcome: the append may or may not have landed.
	ErrUnknownOutcome = errors.New("outcome of the append is unknown")
	// ErrUnavailable: the cluster did not answer; the operation did not land.
	ErrUnavailable = errors.New("cluster is unavailable")
	// ErrGone: the physical topic does not exist (any more), or it is another one of the same name.
	ErrGone = errors.New("physical topic is gone")
	// ErrExists: a physical topic of that name exists.
	ErrExists = errors.New("physical topic exists")
	// ErrCannotSeal: the cluster does not let us seal (no ALTER_CONFIGS).
	ErrCannotSeal = errors.New("cluster grants no seal")
	// ErrOpenTransaction: a transaction is open in the span, and a seal would wedge
	// it. Nothing is sealed.
	ErrOpenTransaction = errors.New("a transaction is open in the span")
	// ErrDenied: the cluster's authorizer refuses us.
	ErrDenied = errors.New("cluster denies access")
	// ErrStorage: the storage behind is full or failed.
	ErrStorage = errors.New("storage failed")
	// ErrOffsetOutOfRange: below the log start or past the log end.
	ErrOffsetOutOfRange = errors.New("offset out of range")
)

// RejectedError is a definite refusal of an append or request for a reason
// that is the sender's, with Kafka's code (OUT_OF_ORDER_SEQUENCE_NUMBER,
// INVALID_PRODUCER_EPOCH, INVALID_TIMESTAMP, ...). Nothing landed.
type RejectedError struct {
	Code wire.Code
	// Detail never holds physical names, addresses or ids: it may reach a client.
	Detail string
}

func (e *RejectedError) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("rejected: %v", e.Code)
	}
	return fmt.Sprintf("rejected: %v: %s", e.Code, e.Detail)
}

// TruncatedError: the physical log went back below what was acknowledged
// (unclean election, lost page cache). Until the chain has been extended past
// the lost range nothing more is appended to or read from the copy.
type TruncatedError struct {
	Partition    int32
	Acknowledged int64 // first offset past the last that was acknowledged
	End          int64 // first offset past what is left of it
	LeaderEpoch  int32 // physical epoch at which it was found
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("physical log of partition %d went back from %d to %d at leader epoch %d",
		e.Partition, e.Acknowledged, e.End, e.LeaderEpoch)
}
