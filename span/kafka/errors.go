package kafka

import (
	"errors"
	"fmt"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

var (
	errClosed      = errors.New("store is closed")
	errRetired     = errors.New("connection to the broker was ended")
	errDeniedLogin = errors.New("credentials were refused")
	errNoBroker    = errors.New("no broker answers")
	errNoLeader    = errors.New("partition has no leader")
	errTrouble     = errors.New("partition takes no appends for a while")
)

// kind is what a broker's error code means to an append, a read or a request.
type kind uint8

const (
	kindNone      kind = iota
	kindRetry          // something passes: the same broker, a little later
	kindMoved          // another broker leads, or another epoch: look at metadata
	kindMaybe          // appended at the leader, not known to be kept
	kindTooLarge       // sealed, or really too large or stamped wrongly
	kindOrder          // a batch before this one is missing
	kindDuplicate      // the broker has it, and no longer knows where
	kindGone           // the broker does not know the topic (yet, or any more)
	kindDenied
	kindRange
	kindRejected // the sender's own doing
)

// kinds is the one table of what codes mean. A code that is not in it is
// retried if Kafka's clients would retry it, else passed on as it is.
var kinds = map[wire.Code]kind{
	wire.None:                         kindNone,
	wire.NotLeaderOrFollower:          kindMoved,
	wire.FencedLeaderEpoch:            kindMoved,
	wire.UnknownLeaderEpoch:           kindMoved,
	wire.LeaderNotAvailable:           kindMoved,
	wire.ReplicaNotAvailable:          kindMoved,
	wire.BrokerNotAvailable:           kindMoved,
	wire.KafkaStorageError:            kindMoved, // the log directory is offline: another broker will lead
	wire.OffsetNotAvailable:           kindRetry,
	wire.NotEnoughReplicas:            kindRetry,
	wire.NotEnoughReplicasAfterAppend: kindMaybe,
	wire.RequestTimedOut:              kindMaybe,
	wire.UnknownServerError:           kindMaybe,
	wire.MessageTooLarge:              kindTooLarge,
	wire.InvalidTimestamp:             kindTooLarge, // what a late append meets in a seal, see sealConfigs
	wire.OutOfOrderSequenceNumber:     kindOrder,
	wire.UnknownProducerID:            kindOrder,
	wire.DuplicateSequenceNumber:      kindDuplicate,
	wire.UnknownTopicOrPartition:      kindGone,
	wire.UnknownTopicID:               kindGone,
	wire.InconsistentTopicID:          kindGone,
	wire.TopicAuthorizationFailed:     kindDenied,
	wire.ClusterAuthorizationFailed:   kindDenied,
	wire.OffsetOutOfRange:             kindRange,
}

func kindOf(code wire.Code) kind {
	if k, ok := kinds[code]; ok {
		return k
	}
	if code.Retriable() {
		return kindRetry
	}
	return kindRejected
}

// asError maps the code of a request other than an append to an error of package span.
func asError(code wire.Code) error {
	switch kindOf(code) {
	case kindNone:
		return nil
	case kindGone:
		return fmt.Errorf("%w: %w", span.ErrGone, code)
	case kindDenied:
		return fmt.Errorf("%w: %w", span.ErrDenied, code)
	case kindRange:
		return fmt.Errorf("%w: %w", span.ErrOffsetOutOfRange, code)
	case kindRetry, kindMoved, kindMaybe:
		return fmt.Errorf("%w: %w", span.ErrUnavailable, code)
	}
	return &span.RejectedError{Code: code}
}

// unavailable wraps what kept us from getting an answer.
func unavailable(err error) error {
	if errors.Is(err, span.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", span.ErrUnavailable, err)
}
