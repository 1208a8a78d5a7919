package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
)

// The table says of every code what the client library says, but for these,
// where Kafka's own enumeration of errors differs from the library.
var (
	otherNames     = map[Code]string{NotLeaderOrFollower: "NOT_LEADER_FOR_PARTITION"}
	otherRetriable = map[Code]bool{BrokerNotAvailable: true, ConcurrentTransactions: true, ShareSessionNotFound: true, InvalidShareSessionEpoch: true}
)

func TestCodesAgainstClientLibrary(t *testing.T) {
	for code := Code(-1); int(code) < len(codeTable)-1; code++ {
		if code == None {
			continue
		}
		e := kerr.TypedErrorForCode(int16(code))
		if e.Code != int16(code) {
			t.Errorf("%d %v: not known to the library", code, code)
			continue
		}
		if code.Name() != e.Message && otherNames[code] != e.Message {
			t.Errorf("%d: %s, the library has %s", code, code.Name(), e.Message)
		}
		if code.Retriable() != e.Retriable && !otherRetriable[code] {
			t.Errorf("%d %v: retriable %v, the library has %v", code, code, code.Retriable(), e.Retriable)
		}
		if code.Message() == "" {
			t.Errorf("%d %v: no message", code, code)
		}
	}
}

func TestCodeAsError(t *testing.T) {
	err := fmt.Errorf("append: %w", NotLeaderOrFollower.Err())
	var code Code
	if !errors.As(err, &code) || code != 6 || !code.Retriable() || !errors.Is(err, NotLeaderOrFollower) {
		t.Fatalf("%v: code %d", err, code)
	}
	if None.Err() != nil {
		t.Fatal("no error is an error")
	}
	if OffsetOutOfRange.Retriable() || UnknownServerError != -1 || OffsetOutOfRange != 1 || TransactionAbortable != 120 {
		t.Fatal("values differ from the protocol's")
	}
	for _, unknown := range []Code{-2, 9999, 32767} {
		if unknown.Name() == "" || unknown.Error() == "" || unknown.Retriable() || unknown.Message() != "" {
			t.Errorf("unknown code %d: %v", int16(unknown), unknown)
		}
	}
}
