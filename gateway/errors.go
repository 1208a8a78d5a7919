package gateway

import (
	"context"
	"errors"
	"net"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Why a connection is ended by this side.
var (
	errDraining      = errors.New("gateway is draining")
	errClosed        = errors.New("gateway is closed")
	errStalled       = errors.New("the rest of a request did not arrive in time")
	errSlow          = errors.New("a request came too slowly")
	errHurried       = errors.New("a large request came slowly while others waited for its memory")
	errSilentFailure = errors.New("a produce request without acknowledgement failed")
)

// codes is the one table from kinds of errors to Kafka codes. What a client does
// is in mind: retriable codes where the same request may succeed later, and for
// appends only where nothing landed. The first kind that matches is taken, and an
// error may be of several: an unknown outcome stays one whatever caused it, and
// a chain's verdict goes before what a copy said.
var codes = []struct {
	kind error
	code wire.Code
}{
	// A client without idempotence may write the batch twice if it tries again: its own choice, as with a broker.
	{chain.ErrTimedOut, wire.RequestTimedOut},
	{span.ErrUnknownOutcome, wire.RequestTimedOut},
	{chain.ErrDuplicate, wire.DuplicateSequenceNumber},
	{chain.ErrUnknownTopic, wire.UnknownTopicOrPartition},
	{chain.ErrUnknownPartition, wire.UnknownTopicOrPartition},
	// The client looks at the metadata and tries again at once.
	{chain.ErrHeldTooLong, wire.NotLeaderOrFollower},
	{chain.ErrClosed, wire.NotLeaderOrFollower},
	{chain.ErrUnavailable, wire.NotLeaderOrFollower},
	// Producers of all ages try this again, without a look at the metadata.
	{chain.ErrTransactionBusy, wire.NotEnoughReplicas},
	{chain.ErrTransactionsHeld, wire.NotEnoughReplicas},
	{chain.ErrOutOfOrder, wire.OutOfOrderSequenceNumber},
	{chain.ErrOldProducerEpoch, wire.InvalidProducerEpoch},
	{chain.ErrTooLarge, wire.MessageTooLarge},
	{chain.ErrOffsetOutOfRange, wire.OffsetOutOfRange},
	{chain.ErrFencedLeaderEpoch, wire.FencedLeaderEpoch},
	{chain.ErrUnknownLeaderEpoch, wire.UnknownLeaderEpoch},
	{chain.ErrStorage, wire.KafkaStorageError},

	{errRejected, 0},

	{batch.ErrTooLarge, wire.MessageTooLarge},
	{batch.ErrMagic, wire.InvalidRecord},
	{batch.ErrCodec, wire.UnsupportedCompressionType},
	{batch.ErrInvalid, wire.InvalidRecord},
	{batch.ErrTruncated, wire.CorruptMessage},
	{batch.ErrCorrupt, wire.CorruptMessage},

	{span.ErrUnavailable, wire.NotLeaderOrFollower},
	{span.ErrDenied, wire.NotLeaderOrFollower}, // an operator can mend it
	{span.ErrGone, wire.KafkaStorageError},
	{span.ErrSealed, wire.NotLeaderOrFollower},
	{span.ErrStorage, wire.KafkaStorageError},
	{span.ErrOffsetOutOfRange, wire.OffsetOutOfRange},

	{catalog.ErrExists, wire.ReassignmentInProgress}, // another operation works on the topic
	{catalog.ErrNotFound, wire.UnknownTopicOrPartition},
	{catalog.ErrConflict, wire.NotController}, // admin clients try again
	{catalog.ErrUnavailable, wire.RequestTimedOut},
	{catalog.ErrSessionLost, wire.NotLeaderOrFollower},

	{context.DeadlineExceeded, wire.RequestTimedOut},
	{context.Canceled, wire.RequestTimedOut},
	{errDraining, wire.NotLeaderOrFollower},
	{errClosed, wire.NotLeaderOrFollower},
}

// codeOf maps an error to the code that the client is told, and logs the ones
// that the table does not know.
func (g *Gateway) codeOf(key int16, peer string, err error) wire.Code {
	code, known := lookupCode(err)
	if !known && g.limiter.allow() {
		g.log.Error("request failed", "api", apiName(key), "peer", peer, "err", err)
	}
	return code
}

func lookupCode(err error) (code wire.Code, known bool) {
	if err == nil {
		return wire.None, true
	}
	for i := range codes {
		if codes[i].kind == errRejected {
			var rejected *span.RejectedError
			if errors.As(err, &rejected) {
				return rejected.Code, true
			}
			if errors.As(err, &code) {
				return code, true
			}
			continue
		}
		if errors.Is(err, codes[i].kind) {
			return codes[i].code, true
		}
	}
	return wire.UnknownServerError, false
}

// errRejected marks the place in the table of errors that carry their code.
var errRejected = errors.New("rejected with a code")

// detailOf is what a client may be told about an error besides its code: only
// the words that were written for it. Error texts from below hold names,
// addresses and ids of what stands behind, which are nobody's business.
func detailOf(err error, code wire.Code) string {
	var rejected *span.RejectedError
	if errors.As(err, &rejected) && rejected.Detail != "" {
		return rejected.Detail
	}
	return code.Message()
}

// codeFromWire turns a code of a kmsg answer back.
func codeFromWire(code int16) wire.Code { return wire.Code(code) }

func apiName(key int16) string {
	if a, ok := wire.LookupAPI(key); ok {
		return a.Name
	}
	return "unknown"
}

// quietEnd tells whether a connection's end is nothing to speak of: the client
// left, or we did.
func quietEnd(err error) bool {
	var timeout net.Error
	return errors.Is(err, errDraining) || errors.Is(err, errClosed) || errors.Is(err, context.Canceled) ||
		errors.Is(err, net.ErrClosed) || isHangup(err) || errors.As(err, &timeout) && timeout.Timeout()
}
