package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Bounds of what heads may hold.
const (
	maxName       = 1 << 10
	maxConfigs    = 1 << 10
	maxText       = 64 << 10
	maxPartitions = 1 << 20
)

// encoder appends fields.
type encoder struct{ b []byte }

func (e *encoder) int(v int64) { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) flag(v bool) {
	if v {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

// bits writes two flags; see decoder.bits.
func (e *encoder) bits(first, second bool) {
	e.flag(first)
	if first && second {
		e.b[len(e.b)-1] |= 2
	}
}

func (e *encoder) text(s string) {
	e.int(int64(len(s)))
	e.b = append(e.b, s...)
}
func (e *encoder) topic(t span.Topic) {
	e.text(t.Name)
	e.b = append(e.b, t.ID[:]...)
}
func (e *encoder) config(m map[string]string) {
	e.int(int64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		e.text(k)
		e.text(m[k])
	}
}

// decoder reads fields; once bad, it stays so and yields zeros. No count makes it
// allocate more than the input could hold.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) flag() bool {
	if len(d.b) == 0 {
		d.fail()
		return false
	}
	v := d.b[0] != 0
	d.b = d.b[1:]
	return v
}

// bits are two flags in one byte. A peer that knows only the first reads it as a flag,
// so the second is set only together with it.
func (d *decoder) bits() (first, second bool) {
	if len(d.b) == 0 {
		d.fail()
		return false, false
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v != 0, v&2 != 0
}

// count reads a number of items of at least size bytes each.
func (d *decoder) count(size int) int {
	v := d.int()
	if v < 0 || v > int64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(v)
}

func (d *decoder) text(limit int) string {
	n := d.count(1)
	if n > limit {
		d.fail()
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) topic() (t span.Topic) {
	t.Name = d.text(maxName)
	if len(d.b) < len(t.ID) {
		d.fail()
		return t
	}
	copy(t.ID[:], d.b)
	d.b = d.b[len(t.ID):]
	return t
}

func (d *decoder) config() map[string]string {
	n := d.count(2)
	if n > maxConfigs {
		d.fail()
		return nil
	}
	m := make(map[string]string, n)
	for range n {
		k := d.text(maxName)
		m[k] = d.text(maxText)
	}
	return m
}

func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: head", errFrame)
	}
	return nil
}

// Kinds of errors on the wire.
var kinds = []error{
	1: span.ErrSealed, 2: span.ErrUnknownOutcome, 3: span.ErrUnavailable, 4: span.ErrGone, 5: span.ErrExists,
	6: span.ErrCannotSeal, 7: span.ErrDenied, 8: span.ErrStorage, 9: span.ErrOffsetOutOfRange,
}

const (
	kindOther     = 0
	kindRejected  = 64
	kindTruncated = 65
)

// remoteError is an error that a store of another process returned.
type remoteError struct {
	kinds []error
	text  string
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.kinds }

func encodeError(e *encoder, err error) {
	var rejected *span.RejectedError
	var truncated *span.TruncatedError
	switch {
	case errors.As(err, &rejected):
		e.int(kindRejected)
		e.int(int64(rejected.Code))
		e.text(clip(rejected.Detail))
	case errors.As(err, &truncated):
		e.int(kindTruncated)
		e.int(int64(truncated.Partition))
		e.int(truncated.Acknowledged)
		e.int(truncated.End)
		e.int(int64(truncated.LeaderEpoch))
	default:
		e.int(kindOther)
		var found []int
		for i, k := range kinds {
			if k != nil && errors.Is(err, k) {
				found = append(found, i)
			}
		}
		e.int(int64(len(found)))
		for _, i := range found {
			e.int(int64(i))
		}
		e.text(clip(err.Error()))
	}
}

func clip(s string) string { return s[:min(len(s), 4096)] }

func (d *decoder) error() error {
	switch d.int() {
	case kindRejected:
		return &span.RejectedError{Code: wire.Code(d.int()), Detail: d.text(maxText)}
	case kindTruncated:
		return &span.TruncatedError{Partition: int32(d.int()), Acknowledged: d.int(), End: d.int(), LeaderEpoch: int32(d.int())}
	case kindOther:
		e := new(remoteError)
		for range d.count(1) {
			// A newer peer may know kinds that we do not.
			if i := d.int(); i > 0 && i < int64(len(kinds)) {
				e.kinds = append(e.kinds, kinds[i])
			}
		}
		e.text = d.text(maxText)
		if len(e.kinds) == 1 && e.text == e.kinds[0].Error() {
			return e.kinds[0]
		}
		return e
	}
	d.fail()
	return nil
}

func encodeProducers(e *encoder, list []span.Producer) {
	e.int(int64(len(list)))
	for i := range list {
		p := &list[i]
		e.int(p.ID)
		e.int(int64(p.Epoch))
		e.int(int64(p.LastSequence))
		e.int(p.LastOffset)
		e.int(p.LastTimestamp)
		e.int(p.TxnStart)
		e.int(int64(len(p.Batches)))
		for _, b := range p.Batches {
			e.int(int64(b.FirstSequence))
			e.int(int64(b.LastSequence))
			e.int(b.FirstOffset)
			e.int(b.LastOffset)
			e.int(b.Timestamp)
		}
	}
}

func (d *decoder) producers() []span.Producer {
	n := d.count(7)
	list := make([]span.Producer, 0, n)
	for range n {
		p := span.Producer{ID: d.int(), Epoch: int16(d.int()), LastSequence: int32(d.int()), LastOffset: d.int(),
			LastTimestamp: d.int(), TxnStart: d.int()}
		for range d.count(5) {
			p.Batches = append(p.Batches, span.ProducedBatch{FirstSequence: int32(d.int()), LastSequence: int32(d.int()),
				FirstOffset: d.int(), LastOffset: d.int(), Timestamp: d.int()})
		}
		list = append(list, p)
	}
	return list
}
