package batch

import (
	"encoding/binary"
	"fmt"
)

// The functions of this file change a batch in place. b must hold at least a
// whole batch that Parse took; those that touch checksummed fields need all of
// it and compute the checksum anew.

// SetBaseOffset changes the base offset, which lies outside the checksum.
func SetBaseOffset(b []byte, offset int64) {
	binary.BigEndian.PutUint64(b[atBaseOffset:], uint64(offset))
}

// SetLeaderEpoch changes the partition leader epoch, which lies outside the checksum.
func SetLeaderEpoch(b []byte, epoch int32) {
	binary.BigEndian.PutUint32(b[atLeaderEpoch:], uint32(epoch))
}

// SetProducer changes producer id, producer epoch and base sequence, and the
// checksum with them.
func SetProducer(b []byte, id int64, epoch int16, baseSequence int32) error {
	whole, err := whole(b)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint64(whole[atProducerID:], uint64(id))
	binary.BigEndian.PutUint16(whole[atProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(whole[atBaseSequence:], uint32(baseSequence))
	seal(whole)
	return nil
}

// SetMaxTimestampLogAppend marks the batch as stamped with the log append time
// ms, and computes the checksum anew.
func SetMaxTimestampLogAppend(b []byte, ms int64) error {
	whole, err := whole(b)
	if err != nil {
		return err
	}
	attrs := binary.BigEndian.Uint16(whole[atAttributes:])
	binary.BigEndian.PutUint16(whole[atAttributes:], attrs|attrLogAppendTime)
	binary.BigEndian.PutUint64(whole[atMaxTimestamp:], uint64(ms))
	seal(whole)
	return nil
}

// ClearLogAppendTime takes away the mark of [SetMaxTimestampLogAppend], so that records have the
// times of their producer again, and computes the checksum anew. MaxTimestamp stays.
func ClearLogAppendTime(b []byte) error {
	whole, err := whole(b)
	if err != nil {
		return err
	}
	attrs := binary.BigEndian.Uint16(whole[atAttributes:])
	binary.BigEndian.PutUint16(whole[atAttributes:], attrs&^attrLogAppendTime)
	seal(whole)
	return nil
}

// whole cuts the one batch out of the bytes that begin with it.
func whole(b []byte) ([]byte, error) {
	_, size, err := Parse(b)
	if err != nil {
		return nil, err
	}
	if len(b) < size {
		return nil, fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), size)
	}
	return b[:size], nil
}

// Run describes the whole batches of a run of bytes.
type Run struct {
	Bytes        int // of all whole batches
	Batches      int
	First        int64 // base offset of the first batch; -1 without batches
	Next         int64 // first offset past the last batch; -1 without batches
	MaxTimestamp int64 // ms, largest of all batches; -1 without
}

// PatchRun shifts the base offsets of all whole batches of run by delta and
// stamps the leader epoch on them, in place. What it returns is as after the
// patch. A partial batch at the end, as a Fetch gives it, is left alone. An
// error means that the run holds something that is no batch of this format;
// Run then describes what was patched before it.
func PatchRun(run []byte, delta int64, epoch int32) (Run, error) {
	out := Run{First: -1, Next: -1, MaxTimestamp: NoTimestamp}
	it := NewIter(run)
	for it.Next() {
		base := it.Header.BaseOffset + delta
		SetBaseOffset(it.Bytes, base)
		SetLeaderEpoch(it.Bytes, epoch)
		if out.Batches == 0 {
			out.First = base
		}
		out.Next = it.Header.NextOffset() + delta
		out.MaxTimestamp = max(out.MaxTimestamp, it.Header.MaxTimestamp)
		out.Batches++
		out.Bytes += len(it.Bytes)
	}
	return out, it.Err()
}

// Inspect returns what PatchRun would, with nothing changed.
func Inspect(run []byte) (Run, error) {
	out := Run{First: -1, Next: -1, MaxTimestamp: NoTimestamp}
	it := NewIter(run)
	for it.Next() {
		if out.Batches == 0 {
			out.First = it.Header.BaseOffset
		}
		out.Next = it.Header.NextOffset()
		out.MaxTimestamp = max(out.MaxTimestamp, it.Header.MaxTimestamp)
		out.Batches++
		out.Bytes += len(it.Bytes)
	}
	return out, it.Err()
}
