package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// castagnoli selects the hardware CRC32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// minRecordSize is one byte each for length, attributes, timestamp delta, offset
// delta, key length, value length and header count.
const minRecordSize = 7

// checksum of a whole batch.
func checksum(whole []byte) uint32 { return crc32.Checksum(whole[crcStart:], castagnoli) }

// seal writes the checksum of a whole batch.
func seal(whole []byte) {
	binary.BigEndian.PutUint32(whole[atCRC:], checksum(whole))
}

// Verify checks that b begins with a whole batch whose checksum is right.
func Verify(b []byte) error {
	h, size, err := Parse(b)
	if err != nil {
		return err
	}
	if len(b) < size {
		return fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), size)
	}
	if got := checksum(b[:size]); got != h.CRC {
		return fmt.Errorf("%w: checksum %#x, header says %#x", ErrCorrupt, got, h.CRC)
	}
	return nil
}

// Limits are what Validate holds a client's batch against.
type Limits struct {
	// MaxBytes is the largest batch (max.message.bytes); 0 means no limit.
	MaxBytes int
	// NoZstd refuses zstd, as Produce before version 7 does.
	NoZstd bool
}

// Validate checks the records of one partition of a Produce request, as a
// broker does but without decompressing: exactly one batch, of this format,
// within the size limit, its checksum right, with at least one record, no gap
// between the offsets, not a control batch, and a sequence if it has a producer.
//
// The order of the checks is a broker's: size comes before checksum, so that a
// limit of 0 bytes is told apart from damage.
func Validate(b []byte, lim Limits) (Header, error) {
	h, size, err := Parse(b)
	if err != nil {
		return h, err
	}
	if len(b) < size {
		return h, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), size)
	}
	if len(b) > size {
		return h, fmt.Errorf("%w: %d bytes behind the one batch a partition takes per request", ErrInvalid, len(b)-size)
	}
	if lim.MaxBytes > 0 && size > lim.MaxBytes {
		return h, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, lim.MaxBytes)
	}
	if got := checksum(b); got != h.CRC {
		return h, fmt.Errorf("%w: checksum %#x, header says %#x", ErrCorrupt, got, h.CRC)
	}
	codec := h.Codec()
	switch {
	case h.IsControl():
		return h, fmt.Errorf("%w: a client may not write control batches", ErrInvalid)
	case h.NumRecords == 0:
		return h, fmt.Errorf("%w: no records", ErrInvalid)
	case h.LastOffsetDelta != h.NumRecords-1:
		return h, fmt.Errorf("%w: %d records, last offset delta %d", ErrInvalid, h.NumRecords, h.LastOffsetDelta)
	case codec > Zstd, codec == Zstd && lim.NoZstd:
		return h, fmt.Errorf("%w: %v", ErrCodec, codec)
	case codec == None && int64(h.NumRecords)*minRecordSize > int64(size-HeaderSize):
		return h, fmt.Errorf("%w: %d records in %d bytes", ErrInvalid, h.NumRecords, size-HeaderSize)
	case h.HasProducer() && (h.BaseSequence < 0 || h.ProducerEpoch < 0):
		return h, fmt.Errorf("%w: producer %d with epoch %d and sequence %d", ErrInvalid, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	case h.IsTransactional() && !h.HasProducer():
		return h, fmt.Errorf("%w: transactional without a producer id", ErrInvalid)
	}
	return h, nil
}
