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

// MaxFaults bounds the records that a [FaultsError] names.
const MaxFaults = 1000

// Fault is a record that its topic does not take. Err is [ErrNoKey] or a *[TimeError].
type Fault struct {
	Index int32 // in its batch
	Err   error
}

// FaultsError is a batch that is refused for some of its records (KIP-467).
type FaultsError struct {
	Err    error   // what is told of the batch as a whole: the error of one of them
	Total  int     // how many they are
	Faults []Fault // the first of them, at most MaxFaults
}

func (e *FaultsError) Error() string {
	return fmt.Sprintf("%d records are refused, the first at index %d: %v", e.Total, e.Faults[0].Index, e.Err)
}

func (e *FaultsError) Unwrap() error { return e.Err }

// Check returns nil, a *[FaultsError], a *[TimeError] where only the batch's header
// is out of range, or what is wrong with the records. As in Apache Kafka's
// LogValidator each record is looked at: of one without a key the time does not
// matter, and where several are refused a time decides what is told.
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
	var out *FaultsError
	refuse := func(index int32, err error) {
		if out == nil {
			out = &FaultsError{Err: err}
		}
		if _, late := err.(*TimeError); late && out.Err == ErrNoKey {
			out.Err = err
		}
		if out.Total++; len(out.Faults) < MaxFaults {
			out.Faults = append(out.Faults, Fault{Index: index, Err: err})
		}
	}
	for i := int32(0); rr.Next(); i++ {
		ts := rr.Record.Timestamp
		switch {
		case a.Keys && rr.Record.Key == nil:
			refuse(i, ErrNoKey)
		case ts == NoTimestamp:
		case a.Before >= 0 && a.Now-ts > a.Before, a.After >= 0 && ts-a.Now > a.After:
			refuse(i, &TimeError{ts})
		}
	}
	switch {
	case rr.err != nil:
		return rr.err
	case out != nil:
		return out
	case ahead:
		// Kafka writes such a header anew from its records; here batches stay as they are.
		return &TimeError{h.MaxTimestamp}
	}
	return nil
}
