// Package batch reads, checks and patches Kafka record batches of format
// version 2 (magic 2) in their raw bytes.
//
// Nothing here copies or decompresses a batch unless the function says so. All
// integers on the wire are big-endian; offsets are in records, timestamps in
// milliseconds since the epoch.
//
// Source: "Record Batch" in the Apache Kafka documentation (KIP-98, KIP-101,
// KIP-534 for the delete horizon).
package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Sizes in bytes.
const (
	// HeaderSize is the size of a batch without its records.
	HeaderSize = 61
	// prefixSize covers base offset and length, which the length does not count.
	prefixSize = 12
	// crcStart is where the checksummed part begins: the attributes.
	crcStart = 21
)

// Magic is the only batch format this package takes.
const Magic = 2

// Values of fields that are not set.
const (
	NoProducerID    = int64(-1)
	NoProducerEpoch = int16(-1)
	NoSequence      = int32(-1)
	NoLeaderEpoch   = int32(-1)
	NoTimestamp     = int64(-1)
)

const (
	atBaseOffset      = 0
	atLength          = 8
	atLeaderEpoch     = 12
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atProducerID      = 43
	atProducerEpoch   = 51
	atBaseSequence    = 53
	atNumRecords      = 57
)

const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
	attrDeleteHorizon = 0x40
)

// Kinds of errors; they arrive wrapped with context, use errors.Is.
var (
	// ErrTruncated: fewer bytes than a batch header, or than the header claims.
	ErrTruncated = errors.New("record batch is truncated")
	// ErrCorrupt: the checksum or the structure is wrong.
	ErrCorrupt = errors.New("record batch is corrupt")
	// ErrMagic: a format other than magic 2.
	ErrMagic = errors.New("record batch has an unsupported magic")
	// ErrInvalid: well-formed, yet not what a client may produce.
	ErrInvalid = errors.New("record batch is invalid")
	// ErrTooLarge: larger than the limit, packed or unpacked.
	ErrTooLarge = errors.New("record batch is too large")
	// ErrCodec: a compression codec that is unknown, or not allowed here.
	ErrCodec = errors.New("record batch has an unsupported compression codec")
)

// Header is a decoded batch header.
type Header struct {
	BaseOffset           int64
	Length               int32 // of what follows this field, bytes
	PartitionLeaderEpoch int32
	Magic                int8
	CRC                  uint32
	Attributes           int16
	LastOffsetDelta      int32
	BaseTimestamp        int64 // ms; the delete horizon if that bit is set
	MaxTimestamp         int64 // ms
	ProducerID           int64
	ProducerEpoch        int16
	BaseSequence         int32
	NumRecords           int32
}

// Parse decodes the header of the batch that b begins with. size is the whole
// batch's size in bytes, header included; b may be shorter than that, but must
// hold the header. The checksum is not looked at.
func Parse(b []byte) (h Header, size int, err error) {
	if len(b) < HeaderSize {
		// The magic is reported first: a short message of an old format is no
		// truncated batch of ours.
		if len(b) > atMagic && b[atMagic] != Magic {
			return h, 0, fmt.Errorf("%w: %d", ErrMagic, int8(b[atMagic]))
		}
		return h, 0, fmt.Errorf("%w: %d bytes, a header has %d", ErrTruncated, len(b), HeaderSize)
	}
	if b[atMagic] != Magic {
		return h, 0, fmt.Errorf("%w: %d", ErrMagic, int8(b[atMagic]))
	}
	be := binary.BigEndian
	h = Header{
		BaseOffset:           int64(be.Uint64(b[atBaseOffset:])),
		Length:               int32(be.Uint32(b[atLength:])),
		PartitionLeaderEpoch: int32(be.Uint32(b[atLeaderEpoch:])),
		Magic:                int8(b[atMagic]),
		CRC:                  be.Uint32(b[atCRC:]),
		Attributes:           int16(be.Uint16(b[atAttributes:])),
		LastOffsetDelta:      int32(be.Uint32(b[atLastOffsetDelta:])),
		BaseTimestamp:        int64(be.Uint64(b[atBaseTimestamp:])),
		MaxTimestamp:         int64(be.Uint64(b[atMaxTimestamp:])),
		ProducerID:           int64(be.Uint64(b[atProducerID:])),
		ProducerEpoch:        int16(be.Uint16(b[atProducerEpoch:])),
		BaseSequence:         int32(be.Uint32(b[atBaseSequence:])),
		NumRecords:           int32(be.Uint32(b[atNumRecords:])),
	}
	if h.Length < HeaderSize-prefixSize || h.Length > math.MaxInt32-prefixSize {
		return h, 0, fmt.Errorf("%w: length %d", ErrCorrupt, h.Length)
	}
	if h.LastOffsetDelta < 0 || h.NumRecords < 0 {
		return h, 0, fmt.Errorf("%w: last offset delta %d, %d records", ErrCorrupt, h.LastOffsetDelta, h.NumRecords)
	}
	return h, h.Size(), nil
}

// Size is the size of the whole batch in bytes.
func (h *Header) Size() int { return int(h.Length) + prefixSize }

// Codec is how the records are compressed.
func (h *Header) Codec() Codec { return Codec(h.Attributes & attrCodec) }

// IsTransactional tells whether the batch belongs to a transaction.
func (h *Header) IsTransactional() bool { return h.Attributes&attrTransactional != 0 }

// IsControl tells whether the batch holds a control record (a transaction marker).
func (h *Header) IsControl() bool { return h.Attributes&attrControl != 0 }

// LogAppendTime tells whether MaxTimestamp is the broker's time and holds for
// every record of the batch.
func (h *Header) LogAppendTime() bool { return h.Attributes&attrLogAppendTime != 0 }

// DeleteHorizon is the time in ms from which a cleaner may drop the tombstones
// and markers of the batch, if one was set.
func (h *Header) DeleteHorizon() (ms int64, ok bool) {
	if h.Attributes&attrDeleteHorizon == 0 {
		return 0, false
	}
	return h.BaseTimestamp, true
}

// LastOffset is the offset of the last record that the batch was written with.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// NextOffset is the first offset past the batch.
func (h *Header) NextOffset() int64 { return h.LastOffset() + 1 }

// HasProducer tells whether the batch carries a producer id.
func (h *Header) HasProducer() bool { return h.ProducerID > NoProducerID }

// LastSequence is the sequence of the last record, -1 without one.
func (h *Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return IncrementSequence(h.BaseSequence, h.LastOffsetDelta)
}

// IncrementSequence adds n >= 0 to a sequence number; after 2^31-1 comes 0.
func IncrementSequence(seq, n int32) int32 {
	if seq > math.MaxInt32-n {
		return n - (math.MaxInt32 - seq) - 1
	}
	return seq + n
}

// DecrementSequence takes n >= 0 from a sequence number; before 0 is 2^31-1.
func DecrementSequence(seq, n int32) int32 {
	if seq < n {
		return math.MaxInt32 - (n - seq) + 1
	}
	return seq - n
}

// IsTransactional tells whether b, which must hold a whole header, belongs to a transaction.
func IsTransactional(b []byte) bool { return b[atAttributes+1]&attrTransactional != 0 }

// BaseOffset reads the base offset of b, which must hold a whole header.
func BaseOffset(b []byte) int64 { return int64(binary.BigEndian.Uint64(b[atBaseOffset:])) }
