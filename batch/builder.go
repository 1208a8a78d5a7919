package batch

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Builder makes one batch. The zero value is not ready; use NewBuilder or Like.
// Setters return the builder. A builder is not safe for concurrent use.
type Builder struct {
	h           Header
	codec       Codec
	records     []byte // encoded, not compressed
	nextDelta   int32
	lastDelta   int32 // forced, -1: that of the last record
	haveBase    bool
	logAppendMS int64 // -1: create time
	emptyMax    int64 // largest timestamp of a batch that keeps no record
	err         error
}

// NewBuilder starts a batch at offset 0 without producer, epoch or compression.
func NewBuilder() *Builder {
	b := new(Builder)
	b.Reset()
	return b
}

// Reset drops the records and all settings.
func (b *Builder) Reset() {
	*b = Builder{
		records:     b.records[:0],
		lastDelta:   -1,
		logAppendMS: NoTimestamp,
		emptyMax:    NoTimestamp,
		h: Header{
			PartitionLeaderEpoch: NoLeaderEpoch,
			Magic:                Magic,
			MaxTimestamp:         NoTimestamp,
			ProducerID:           NoProducerID,
			ProducerEpoch:        NoProducerEpoch,
			BaseSequence:         NoSequence,
		},
	}
}

// Like starts a batch that stands for the one with header h: same offsets, producer,
// attributes, codec and leader epoch, whatever records it keeps. A cleaner
// writes what is left of a batch so; a batch without any record left is legal
// there, since it keeps the producer's state.
func Like(h Header) *Builder {
	b := NewBuilder()
	b.h.BaseOffset = h.BaseOffset
	b.h.PartitionLeaderEpoch = h.PartitionLeaderEpoch
	b.h.Attributes = h.Attributes &^ attrCodec
	b.h.ProducerID, b.h.ProducerEpoch, b.h.BaseSequence = h.ProducerID, h.ProducerEpoch, h.BaseSequence
	b.h.BaseTimestamp = h.BaseTimestamp
	b.haveBase = true
	b.emptyMax = h.MaxTimestamp
	b.lastDelta = h.LastOffsetDelta
	b.codec = h.Codec()
	if h.LogAppendTime() {
		b.logAppendMS = h.MaxTimestamp
	}
	return b
}

// BaseOffset sets the offset of the first record.
func (b *Builder) BaseOffset(offset int64) *Builder { b.h.BaseOffset = offset; return b }

// LeaderEpoch sets the partition leader epoch.
func (b *Builder) LeaderEpoch(epoch int32) *Builder { b.h.PartitionLeaderEpoch = epoch; return b }

// Codec sets the compression.
func (b *Builder) Codec(c Codec) *Builder { b.codec = c; return b }

// Producer sets producer id, epoch and the sequence of the first record.
func (b *Builder) Producer(id int64, epoch int16, baseSequence int32) *Builder {
	b.h.ProducerID, b.h.ProducerEpoch, b.h.BaseSequence = id, epoch, baseSequence
	return b
}

// Transactional marks the batch as part of the producer's transaction.
func (b *Builder) Transactional() *Builder { b.h.Attributes |= attrTransactional; return b }

// LogAppendTime stamps all records with the log's time in ms.
func (b *Builder) LogAppendTime(ms int64) *Builder {
	b.h.Attributes |= attrLogAppendTime
	b.logAppendMS = ms
	return b
}

// DeleteHorizon sets the time in ms from which tombstones may be dropped. It
// takes the place of the base timestamp, so it has to come before the records.
func (b *Builder) DeleteHorizon(ms int64) *Builder {
	if b.h.NumRecords > 0 {
		b.err = fmt.Errorf("%w: delete horizon after the first record", ErrInvalid)
		return b
	}
	b.h.Attributes |= attrDeleteHorizon
	b.h.BaseTimestamp, b.haveBase = ms, true
	return b
}

// Add appends a record at the next offset. r.Offset is not looked at.
func (b *Builder) Add(r Record) *Builder { return b.add(b.nextDelta, r) }

// AddAt appends a record at r.Offset, which must lie behind those before it. The
// offsets between stay empty, as in compacted topics.
func (b *Builder) AddAt(r Record) *Builder {
	delta := r.Offset - b.h.BaseOffset
	if delta < int64(b.nextDelta) || delta > math.MaxInt32 {
		b.err = fmt.Errorf("%w: record at %d, next is %d", ErrInvalid, r.Offset, b.h.BaseOffset+int64(b.nextDelta))
		return b
	}
	return b.add(int32(delta), r)
}

func (b *Builder) add(delta int32, r Record) *Builder {
	if b.err != nil {
		return b
	}
	if delta == math.MaxInt32 || b.h.NumRecords == math.MaxInt32 {
		b.err = fmt.Errorf("%w: too many records", ErrTooLarge)
		return b
	}
	if !b.haveBase {
		b.h.BaseTimestamp, b.haveBase = r.Timestamp, true
	}
	ts := r.Timestamp - b.h.BaseTimestamp
	size := 1 + varintSize(ts) + varintSize(int64(delta)) + bytesSize(r.Key) + bytesSize(r.Value) + varintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		size += bytesSize(nonNil(r.Headers[i].Key)) + bytesSize(r.Headers[i].Value)
	}
	if int64(len(b.records))+int64(size) > math.MaxInt32/2 {
		b.err = fmt.Errorf("%w: %d bytes of records", ErrTooLarge, len(b.records)+size)
		return b
	}
	out := binary.AppendVarint(b.records, int64(size))
	out = append(out, byte(r.Attributes))
	out = binary.AppendVarint(out, ts)
	out = binary.AppendVarint(out, int64(delta))
	out = appendBytes(out, r.Key)
	out = appendBytes(out, r.Value)
	out = binary.AppendVarint(out, int64(len(r.Headers)))
	for i := range r.Headers {
		out = appendBytes(out, nonNil(r.Headers[i].Key))
		out = appendBytes(out, r.Headers[i].Value)
	}
	b.records = out
	b.h.MaxTimestamp = max(b.h.MaxTimestamp, r.Timestamp)
	b.h.NumRecords++
	b.nextDelta = delta + 1
	return b
}

// Len is the number of records so far.
func (b *Builder) Len() int { return int(b.h.NumRecords) }

// Size is the size of the batch so far in bytes, before compression.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// Build returns the batch. The builder may be used on; it does not alias the result.
func (b *Builder) Build() ([]byte, error) {
	return b.AppendTo(make([]byte, 0, HeaderSize+len(b.records)))
}

// AppendTo appends the batch to dst.
func (b *Builder) AppendTo(dst []byte) ([]byte, error) {
	if b.err != nil {
		return dst, b.err
	}
	if b.h.NumRecords == 0 && b.lastDelta < 0 {
		return dst, fmt.Errorf("%w: no records", ErrInvalid)
	}
	h := b.h
	h.LastOffsetDelta = max(b.lastDelta, b.nextDelta-1)
	if b.logAppendMS != NoTimestamp {
		h.MaxTimestamp = b.logAppendMS
	}
	codec := b.codec
	if h.NumRecords == 0 {
		codec = None
		h.MaxTimestamp = b.emptyMax
	}
	h.Attributes |= int16(codec)
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst, err := compress(codec, dst, b.records)
	if err != nil {
		return dst[:at], err
	}
	whole := dst[at:]
	if len(whole) > math.MaxInt32 {
		return dst[:at], fmt.Errorf("%w: %d bytes", ErrTooLarge, len(whole))
	}
	h.Length = int32(len(whole) - prefixSize)
	h.put(whole)
	seal(whole)
	return dst, nil
}

// put writes the header; the checksum is not computed.
func (h *Header) put(b []byte) {
	be := binary.BigEndian
	be.PutUint64(b[atBaseOffset:], uint64(h.BaseOffset))
	be.PutUint32(b[atLength:], uint32(h.Length))
	be.PutUint32(b[atLeaderEpoch:], uint32(h.PartitionLeaderEpoch))
	b[atMagic] = byte(h.Magic)
	be.PutUint32(b[atCRC:], h.CRC)
	be.PutUint16(b[atAttributes:], uint16(h.Attributes))
	be.PutUint32(b[atLastOffsetDelta:], uint32(h.LastOffsetDelta))
	be.PutUint64(b[atBaseTimestamp:], uint64(h.BaseTimestamp))
	be.PutUint64(b[atMaxTimestamp:], uint64(h.MaxTimestamp))
	be.PutUint64(b[atProducerID:], uint64(h.ProducerID))
	be.PutUint16(b[atProducerEpoch:], uint16(h.ProducerEpoch))
	be.PutUint32(b[atBaseSequence:], uint32(h.BaseSequence))
	be.PutUint32(b[atNumRecords:], uint32(h.NumRecords))
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func bytesSize(b []byte) int {
	if b == nil {
		return 1
	}
	return varintSize(int64(len(b))) + len(b)
}

func varintSize(v int64) int {
	var buf [binary.MaxVarintLen64]byte
	return binary.PutVarint(buf[:], v)
}
