package coordinator

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The log format is specified in docs/formats/coordinator.md. A record's value
// begins with the format version and the kind; integers are varints, strings
// and bytes have their length before them. Its key is null.

// errRecord: a record of the log cannot be decoded.
var errRecord = errors.New("coordinator record is malformed")

// errRecordVersion: a record was written by a newer release.
var errRecordVersion = errors.New("coordinator record is of a newer format")

const recordVersion = 1

// Limits of the decoder and of what is taken from clients.
const (
	maxRecordLimit = 16 << 20 // bytes of one record
	maxStringBytes = 64 << 10
	maxName        = 1<<15 - 1 // bytes of a name that a client gives, as Kafka takes them
	maxPending     = 10_000    // member ids of one group that were given out and not used yet
	maxMembers     = 1 << 20
	maxProtocols   = 1 << 10
)

type kind byte

// Kinds of records. Numbers are never used again; 16 to 31 are kept for consumer
// groups (KIP-848), 32 to 47 for transactions, 48 to 63 for share groups.
const (
	kindBarrier       kind = 1
	kindSnapshotStart kind = 2
	kindSnapshotEnd   kind = 3
	kindGroup         kind = 4
	kindGroupGone     kind = 5
	kindOffsets       kind = 6
	kindOffsetsGone   kind = 7

	// Consumer groups. The order matters to severalRecord.
	kindConsumerGroup   kind = 16
	kindConsumerMember  kind = 17
	kindConsumerTarget  kind = 18
	kindConsumerCurrent kind = 19
	kindConsumerGone    kind = 20
	kindConsumerRegex   kind = 21
	kindSeveral         kind = 31
)

// record is one change of a shard's state, encoded.
type record []byte

// encoder appends fields.
type encoder struct{ b []byte }

func newEncoder(k kind, size int) *encoder {
	e := &encoder{b: make([]byte, 0, size+16)}
	e.b = append(e.b, recordVersion, byte(k))
	return e
}

func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) count(n int)   { e.uint(uint64(n)) }
func (e *encoder) raw(b []byte)  { e.b = append(e.b, b...) }
func (e *encoder) string(s string) {
	e.count(len(s))
	e.b = append(e.b, s...)
}

func (e *encoder) bytes(b []byte) {
	e.count(len(b))
	e.b = append(e.b, b...)
}

// optional writes a string that may be absent: 0, or 1 and the string.
func (e *encoder) optional(s *string) {
	if s == nil {
		e.b = append(e.b, 0)
		return
	}
	e.b = append(e.b, 1)
	e.string(*s)
}

// decoder reads fields; once bad it stays so and gives zeroes.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.bad = true
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int32() int32 {
	v := d.int()
	if int64(int32(v)) != v {
		d.fail()
		return 0
	}
	return int32(v)
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads a number of elements of which each takes at least size bytes, so
// that what is allocated stays in proportion to what was read.
func (d *decoder) count(limit, size int) int {
	v := d.uint()
	if v > uint64(limit) || v*uint64(size) > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(v)
}

// view is bytes that alias the record.
func (d *decoder) view(limit int) []byte {
	n := d.count(limit, 1)
	if d.bad {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return string(d.view(maxStringBytes)) }

// bytes is a copy, never nil.
func (d *decoder) bytes() []byte { return append([]byte{}, d.view(maxRecordLimit)...) }

func (d *decoder) id() (id [16]byte) {
	if len(d.b) < len(id) {
		d.fail()
		return id
	}
	copy(id[:], d.b)
	d.b = d.b[len(id):]
	return id
}

func (d *decoder) optional() *string {
	switch d.byte() {
	case 0:
	case 1:
		s := d.string()
		if !d.bad {
			return &s
		}
	default:
		d.fail()
	}
	return nil
}

// strings is an array of at most limit strings, nil if it is empty.
func (d *decoder) strings(limit int) []string {
	n := d.count(limit, 1)
	if n == 0 {
		return nil
	}
	all := make([]string, n)
	for i := range all {
		all[i] = d.string()
	}
	return all
}

// end tells whether all was read and was right.
func (d *decoder) end(what string) error {
	if d.bad {
		return fmt.Errorf("%w: %s", errRecord, what)
	}
	if len(d.b) > 0 {
		return fmt.Errorf("%w: %d bytes behind %s", errRecord, len(d.b), what)
	}
	return nil
}

// open reads what every record begins with.
func open(r record) (kind, *decoder, error) {
	if len(r) < 2 {
		return 0, nil, fmt.Errorf("%w: %d bytes", errRecord, len(r))
	}
	if len(r) > maxRecordLimit {
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d", errRecord, len(r), maxRecordLimit)
	}
	if r[0] == 0 {
		return 0, nil, fmt.Errorf("%w: version 0", errRecord)
	}
	if r[0] > recordVersion {
		return 0, nil, fmt.Errorf("%w: version %d, this release knows up to %d", errRecordVersion, r[0], recordVersion)
	}
	return kind(r[1]), &decoder{b: r[2:]}, nil
}
