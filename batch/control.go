package batch

import (
	"encoding/binary"
	"fmt"
)

// Marker is the control record that ends a transaction in a partition.
type Marker struct {
	Commit           bool // else abort
	CoordinatorEpoch int32
	ProducerID       int64
	ProducerEpoch    int16
	Offset           int64
	Timestamp        int64 // ms
	LeaderEpoch      int32 // of the partition
}

// Types of control records that end a transaction.
const (
	controlVersion = 0
	controlAbort   = 0
	controlCommit  = 1
)

// Build makes the control batch of a marker.
func (m Marker) Build() ([]byte, error) {
	kind := uint16(controlAbort)
	if m.Commit {
		kind = controlCommit
	}
	key := binary.BigEndian.AppendUint16(nil, controlVersion)
	key = binary.BigEndian.AppendUint16(key, kind)
	value := binary.BigEndian.AppendUint16(nil, controlVersion)
	value = binary.BigEndian.AppendUint32(value, uint32(m.CoordinatorEpoch))
	b := NewBuilder().BaseOffset(m.Offset).LeaderEpoch(m.LeaderEpoch).
		Producer(m.ProducerID, m.ProducerEpoch, NoSequence).Transactional()
	b.h.Attributes |= attrControl
	return b.Add(Record{Timestamp: m.Timestamp, Key: key, Value: value}).Build()
}

// ParseMarker reads a transaction marker. A control batch of another kind, which
// no client topic holds, is an error of kind ErrInvalid, as is a batch that is
// no control batch.
func ParseMarker(b []byte) (Marker, error) {
	h, size, err := Parse(b)
	if err != nil {
		return Marker{}, err
	}
	if !h.IsControl() {
		return Marker{}, fmt.Errorf("%w: not a control batch", ErrInvalid)
	}
	var rr RecordReader
	// A marker is some dozens of bytes and never compressed.
	if err := rr.Reset(b, size); err != nil {
		return Marker{}, err
	}
	defer rr.Close()
	if !rr.Next() {
		if rr.err != nil {
			return Marker{}, rr.err
		}
		return Marker{}, fmt.Errorf("%w: control batch without a record", ErrInvalid)
	}
	r := rr.Record
	if len(r.Key) < 4 {
		return Marker{}, fmt.Errorf("%w: control key of %d bytes", ErrCorrupt, len(r.Key))
	}
	kind := binary.BigEndian.Uint16(r.Key[2:])
	if kind != controlAbort && kind != controlCommit {
		return Marker{}, fmt.Errorf("%w: control record of type %d", ErrInvalid, kind)
	}
	if len(r.Value) < 6 {
		return Marker{}, fmt.Errorf("%w: control value of %d bytes", ErrCorrupt, len(r.Value))
	}
	return Marker{
		Commit:           kind == controlCommit,
		CoordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:])),
		ProducerID:       h.ProducerID,
		ProducerEpoch:    h.ProducerEpoch,
		Offset:           r.Offset,
		Timestamp:        r.Timestamp,
		LeaderEpoch:      h.PartitionLeaderEpoch,
	}, nil
}
