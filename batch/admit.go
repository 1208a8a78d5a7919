package batch

import (
	"errors"
	"fmt"
	"time"
)

// Admission is what a topic's configs ask of the records of a batch.
type Admission struct {
	Keys bool // each record needs a key: the topic is compacted
	// How many ms a record's time may lie before and after Now, which is ms since the
	// epoch; -1 is no limit.
	Before, After, Now int64
}

// ErrNoKey: a record that needs a key has none.
var ErrNoKey = errors.New("record without a key")

// TimeError is a record's time, in ms, outside of the limits.
type TimeError struct{ Timestamp int64 }

func (e *TimeError) Error() string {
	return fmt.Sprintf("time %s is out of range", time.UnixMilli(e.Timestamp).UTC().Format(time.RFC3339))
}

// Check returns nil, [ErrNoKey], a *[TimeError], or what is wrong with the records. As
// in Apache Kafka's LogValidator each record is looked at: of one without a key the
// time does not matter, and where several are refused a time decides what is told.
// The batch is unpacked, within the budget, only where that can matter.
func (a Admission) Check(b []byte, h *Header, budget int) error {
	ahead := a.After >= 0 && h.MaxTimestamp != NoTimestamp && h.MaxTimestamp-a.Now > a.After
	if !ahead && !a.Keys && a.Before < 0 {
		return nil
	}
	var rr RecordReader
	if err := rr.Reset(b, budget); err != nil {
		return err
	}
	defer rr.Close()
	keyless := false
	for rr.Next() {
		ts := rr.Record.Timestamp
		switch {
		case a.Keys && rr.Record.Key == nil:
			keyless = true
		case ts == NoTimestamp:
		case a.Before >= 0 && a.Now-ts > a.Before, a.After >= 0 && ts-a.Now > a.After:
			return &TimeError{ts}
		}
	}
	switch {
	case rr.err != nil:
		return rr.err
	case keyless:
		return ErrNoKey
	case ahead:
		// Kafka writes such a header anew from its records; here batches stay as they are.
		return &TimeError{h.MaxTimestamp}
	}
	return nil
}
