package chain

import (
	"errors"
	"fmt"
)

// Kinds of errors. They arrive wrapped with context; use errors.Is and errors.As.
// Besides these, appends pass on [span.RejectedError] as the copy gave it, which
// for a sequence or a producer epoch is of the kind here too.
//
// The comment of each says whether anything landed and which Kafka code fits.
var (
	// ErrUnknownTopic: no topic of that id (any more). UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION.
	ErrUnknownTopic = errors.New("unknown topic")
	// ErrUnknownPartition: the topic has fewer partitions. UNKNOWN_TOPIC_OR_PARTITION.
	ErrUnknownPartition = errors.New("unknown partition")
	// ErrUnavailable: what is needed did not answer; nothing landed. NOT_LEADER_OR_FOLLOWER for appends
	// and reads (clients retry it at once), LEADER_NOT_AVAILABLE for offsets.
	ErrUnavailable = errors.New("partition is unavailable")
	// ErrHeldTooLong: the append was held while the chain changed, longer than allowed or past the bound
	// in bytes; it did not land. NOT_LEADER_OR_FOLLOWER.
	ErrHeldTooLong = errors.New("append was held too long")
	// ErrTimedOut: the append may or may not have landed. REQUEST_TIMED_OUT.
	ErrTimedOut = errors.New("outcome of the append is unknown")
	// ErrDuplicate: the batch is in the chain, its offset is not known. DUPLICATE_SEQUENCE_NUMBER, which
	// clients take for success.
	ErrDuplicate = errors.New("duplicate of a batch that is in the chain")
	// ErrOutOfOrder: a sequence is missing before the batch. OUT_OF_ORDER_SEQUENCE_NUMBER.
	ErrOutOfOrder = errors.New("sequence out of order")
	// ErrOldProducerEpoch: a newer epoch of the producer has appended. INVALID_PRODUCER_EPOCH.
	ErrOldProducerEpoch = errors.New("producer epoch is old")
	// ErrTooLarge: larger than the topic's max.message.bytes. MESSAGE_TOO_LARGE.
	ErrTooLarge = errors.New("batch is too large for the topic")
	// ErrOffsetOutOfRange: proved to be outside of the log. OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrFencedLeaderEpoch: the client's leader epoch is older than the chain's. FENCED_LEADER_EPOCH.
	ErrFencedLeaderEpoch = errors.New("leader epoch is old")
	// ErrUnknownLeaderEpoch: the client's leader epoch is newer than the chain's, as far as
	// could be found out. UNKNOWN_LEADER_EPOCH.
	ErrUnknownLeaderEpoch = errors.New("leader epoch is not known yet")
	// ErrStorage: the storage behind failed or is full. KAFKA_STORAGE_ERROR.
	ErrStorage = errors.New("storage failed")
	// ErrClosed: the Logs were closed. Nothing landed. NOT_LEADER_OR_FOLLOWER.
	ErrClosed = errors.New("logs are closed")
	// ErrInvalidChain: a chain breaks its structural rules; see [Validate].
	ErrInvalidChain = errors.New("invalid chain")
	// ErrCorruptState: producers' state that does not decode.
	ErrCorruptState = errors.New("producers' state is corrupt")
)

// wrapped joins a kind of this package with its cause, so that both are found.
type wrapped struct {
	kind  error
	cause error
}

func (w *wrapped) Error() string   { return fmt.Sprintf("%v: %v", w.kind, w.cause) }
func (w *wrapped) Unwrap() []error { return []error{w.kind, w.cause} }

// unsure is a kind whose cause is only told. An unknown outcome must not be
// taken for what made it unknown: that the last attempt was refused for good
// says nothing about the one before.
type unsure struct {
	cause error
}

func (u *unsure) Error() string { return fmt.Sprintf("%v: %v", ErrTimedOut, u.cause) }
func (u *unsure) Unwrap() error { return ErrTimedOut }

func because(kind, cause error) error {
	switch {
	case cause == nil:
		return kind
	case kind == ErrTimedOut:
		return &unsure{cause}
	}
	return &wrapped{kind, cause}
}
