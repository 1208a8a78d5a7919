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

// Demands tells whether the records of a batch have to be looked at.
func (a Admission) Demands(h *Header) bool { return a.ahead(h) || a.Keys || a.Before >= 0 }

func (a Admission) ahead(h *Header) bool {
	return a.After >= 0 && h.MaxTimestamp != NoTimestamp && h.MaxTimestamp-a.Now > a.After
}

// Check returns nil, a *[FaultsError], a *[TimeError] where only the batch's header
// is out of range, or what is wrong with the records. As in Apache Kafka's
// LogValidator each record is looked at: of one without a key the time does not
// matter, and where several are refused a time decides what is told.
// The batch is unpacked only where that can matter, up to 64 MiB of it ([ErrTooLarge] beyond), piece by piece, for which
// owners take turns as in [SoundOf].
func (a Admission) Check(owner string, b []byte, h *Header) error {
	if !a.Demands(h) {
		return nil
	}
	var found *FaultsError
	var err error
	if h.Codec() == None {
		found, err = a.plain(b, h)
	} else {
		found, err = a.packed(owner, b, h)
	}
	switch {
	case err != nil:
		return err
	case found != nil:
		return found
	case a.ahead(h):
		// Kafka writes such a header anew from its records; here batches stay as they are.
		return &TimeError{h.MaxTimestamp}
	}
	return nil
}

// plain looks at records that are not compressed, and allocates nothing for those that are fit.
func (a Admission) plain(b []byte, h *Header) (*FaultsError, error) {
	var rr RecordReader
	if err := rr.Reset(b, soundBudget); err != nil {
		return nil, err
	}
	defer rr.Close()
	to := a.walk(h)
	for i := int32(0); rr.Next(); i++ {
		to.see(i, 0, rr.Record.Timestamp-h.BaseTimestamp, rr.Record.Key == nil)
	}
	return to.found, rr.err
}

func (a Admission) packed(owner string, b []byte, h *Header) (*FaultsError, error) {
	to := a.walk(h)
	err := soundIn(soundGate(), owner, b, &to)
	return to.found, err
}

func (a Admission) walk(h *Header) admission {
	to := admission{Admission: a, base: h.BaseTimestamp}
	if h.LogAppendTime() {
		to.all, to.base = true, h.MaxTimestamp
	}
	return to
}

// admission is a walk over the records of one batch.
type admission struct {
	Admission
	base  int64 // ms, of the records' times
	all   bool  // it is the time of all of them
	found *FaultsError
}

func (a *admission) again() { a.found = nil }

func (a *admission) see(index int32, _, after int64, keyless bool) (enough bool) {
	ts := a.base + after
	if a.all {
		ts = a.base
	}
	switch {
	case a.Keys && keyless:
		a.refuse(index, ErrNoKey)
	case ts == NoTimestamp:
	case a.Before >= 0 && a.Now-ts > a.Before, a.After >= 0 && ts-a.Now > a.After:
		a.refuse(index, &TimeError{ts})
	}
	return false
}

func (a *admission) refuse(index int32, err error) {
	if a.found == nil {
		a.found = &FaultsError{Err: err}
	}
	out := a.found
	if _, late := err.(*TimeError); late && out.Err == ErrNoKey {
		out.Err = err
	}
	if out.Total++; len(out.Faults) < MaxFaults {
		out.Faults = append(out.Faults, Fault{Index: index, Err: err})
	}
}
