package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/braidstream/braid/batch"
)

// Every record of the shared log is a frame: a header, a payload, zeros up to
// the next multiple of 8. docs/formats/local.md has the layout.
const (
	frameHeaderSize = 56
	frameAlign      = 8

	atFrameCRC       = 0
	atFrameLength    = 4
	atFrameLSN       = 8
	atFrameDurable   = 16
	atFrameTopic     = 24
	atFramePartition = 28
	atFrameOffset    = 32
	atFrameTime      = 40
	atFrameKind      = 48
	atFrameBatchCRC  = 52
)

// kind of a frame; the values are on disk.
type kind uint8

const (
	kindBatch   kind = 1 // payload: one record batch as it goes into a segment
	kindCreate  kind = 2 // payload: topicRecord
	kindGrow    kind = 3 // partition: the new total
	kindConfig  kind = 4 // payload: topicRecord with the whole new config
	kindDelete  kind = 5
	kindSeal    kind = 6
	kindUnseal  kind = 7 // read, no longer written
	kindTrim    kind = 8 // offset: the new log start
	kindMark    kind = 9 // nothing but the durable position it carries
	kindUnknown kind = 10
)

// castagnoli is CRC-32C, as in record batches.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is a decoded frame header. A position in the log (LSN) counts the bytes
// of all frames since the directory was made. The checksum is seeded with the
// salt that a file gets at each use, so a frame that was left in it from a former
// use, or behind a torn tail, never counts.
type frame struct {
	Length    uint32 // of the payload
	LSN       uint64
	Durable   uint64 // everything before this LSN was synced when the frame was written
	Topic     uint32
	Partition uint32
	Offset    int64
	Time      int64 // ms, the log's own monotone clock
	Kind      kind
	BatchCRC  uint32 // that of the payload if it is a batch, CRC-32C of it otherwise
}

// frameSize is the room that a payload of n bytes takes in the log.
func frameSize(n int) int {
	return (frameHeaderSize + n + frameAlign - 1) &^ (frameAlign - 1)
}

// put encodes the header into dst, which holds the whole frame with its payload
// already behind the header. salt is the file's.
func (f *frame) put(dst []byte, salt uint32) {
	be := binary.BigEndian
	be.PutUint32(dst[atFrameLength:], f.Length)
	be.PutUint64(dst[atFrameLSN:], f.LSN)
	be.PutUint64(dst[atFrameDurable:], f.Durable)
	be.PutUint32(dst[atFrameTopic:], f.Topic)
	be.PutUint32(dst[atFramePartition:], f.Partition)
	be.PutUint64(dst[atFrameOffset:], uint64(f.Offset))
	be.PutUint64(dst[atFrameTime:], uint64(f.Time))
	be.PutUint32(dst[atFrameKind:], uint32(f.Kind)<<24)
	be.PutUint32(dst[atFrameBatchCRC:], f.BatchCRC)
	be.PutUint32(dst[atFrameCRC:], crc32.Update(salt, castagnoli, dst[4:frameHeaderSize]))
	clear(dst[frameHeaderSize+int(f.Length) : frameSize(int(f.Length))])
}

// Errors of parseFrame.
var (
	errFrameShort   = errors.New("log ends inside a frame")
	errFrameForeign = errors.New("no frame of this position")
	errFrameCRC     = errors.New("frame header has a wrong checksum")
	errFrameKind    = errors.New("frame is of an unknown kind")
)

// parseFrame decodes the frame header that b begins with, which must stand at
// lsn in a file with that salt. It does not look at the payload.
func parseFrame(b []byte, lsn uint64, salt uint32) (frame, error) {
	if len(b) < frameHeaderSize {
		return frame{}, errFrameShort
	}
	be := binary.BigEndian
	if be.Uint64(b[atFrameLSN:]) != lsn {
		return frame{}, errFrameForeign
	}
	if crc32.Update(salt, castagnoli, b[4:frameHeaderSize]) != be.Uint32(b[atFrameCRC:]) {
		return frame{}, errFrameCRC
	}
	f := frame{
		Length:    be.Uint32(b[atFrameLength:]),
		LSN:       lsn,
		Durable:   be.Uint64(b[atFrameDurable:]),
		Topic:     be.Uint32(b[atFrameTopic:]),
		Partition: be.Uint32(b[atFramePartition:]),
		Offset:    int64(be.Uint64(b[atFrameOffset:])),
		Time:      int64(be.Uint64(b[atFrameTime:])),
		Kind:      kind(b[atFrameKind]),
		BatchCRC:  be.Uint32(b[atFrameBatchCRC:]),
	}
	if f.Kind == 0 || f.Kind >= kindUnknown {
		return frame{}, fmt.Errorf("%w: %d", errFrameKind, f.Kind)
	}
	return f, nil
}

// The partition leader epoch of a stored batch holds a checksum of its header and
// of where the batch belongs, since epochs mean nothing here and the batch's own
// checksum covers neither its offset nor its length, and nothing before the whole
// batch was read: a flipped bit in a header that is only skipped, or a batch of
// another partition in its place, is found. Readers get epoch 0.
const (
	atBatchEpoch = 12
	atBatchMagic = 16
	atBatchCRC   = 17
)

// placement needs the batch's header only.
func placement(topic, partition uint32, b []byte) uint32 {
	var in [8 + batch.HeaderSize - 4]byte
	be := binary.BigEndian
	be.PutUint32(in[0:], topic)
	be.PutUint32(in[4:], partition)
	n := 8 + copy(in[8:], b[:atBatchEpoch])
	copy(in[n:], b[atBatchMagic:batch.HeaderSize])
	return crc32.Checksum(in[:], castagnoli)
}

// place stamps a batch, which holds its final offset and checksum.
func place(topic, partition uint32, b []byte) {
	binary.BigEndian.PutUint32(b[atBatchEpoch:], placement(topic, partition, b))
}

// placed tells whether a stored batch stands where it belongs; its header is
// enough for that.
func placed(topic, partition uint32, b []byte) bool {
	return binary.BigEndian.Uint32(b[atBatchEpoch:]) == placement(topic, partition, b)
}
