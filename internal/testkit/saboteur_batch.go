package testkit

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"
)

var errNotBatch = errors.New("not one record batch of version 2")

// maxBatchRecords bounds what is taken apart; the endpoint's own limit on bytes allows fewer.
const maxBatchRecords = 1 << 20

func openBatch(records []byte) (openedBatch, error) {
	if len(records) < batchRecords || records[batchMagic] != 2 {
		return openedBatch{}, errNotBatch
	}
	b := openedBatch{records}
	if n := b.count(); n < 1 || n > maxBatchRecords {
		return openedBatch{}, errNotBatch
	}
	if int64(binary.BigEndian.Uint32(records[batchLength:])) != int64(len(records)-batchLength-4) {
		return openedBatch{}, errNotBatch
	}
	return b, nil
}

// shiftSequence moves the base sequence, which wraps from the largest int32 to 0.
func (b *openedBatch) shiftSequence(by int32) {
	out := append([]byte(nil), b.bytes...)
	seq := (int64(int32(binary.BigEndian.Uint32(out[batchSequence:]))) + int64(by)) & math.MaxInt32
	binary.BigEndian.PutUint32(out[batchSequence:], uint32(seq))
	b.bytes = seal(out)
}

// seal writes length and checksum.
func seal(batch []byte) []byte {
	binary.BigEndian.PutUint32(batch[batchLength:], uint32(len(batch)-batchLength-4))
	sum := crc32.Checksum(batch[batchAttributes:], crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(batch[batchCRC:], sum)
	return batch
}

// edit takes the records apart, has f change the list, and puts them together, not compressed. A
// record is handed to f without its length.
func (b *openedBatch) edit(f func([][]byte) [][]byte) error {
	in := b.bytes[batchRecords:]
	attributes := binary.BigEndian.Uint16(b.bytes[batchAttributes:])
	if codec := attributes & 7; codec != 0 {
		var err error
		if in, err = kgo.DefaultDecompressor().Decompress(in, kgo.CompressionCodecType(codec)); err != nil {
			return err
		}
	}
	var list [][]byte
	for range b.count() {
		size, n := binary.Varint(in)
		if n <= 0 || size < 1 || size > int64(len(in)-n) {
			return errNotBatch
		}
		list = append(list, in[n:n+int(size)])
		in = in[n+int(size):]
	}
	if len(in) != 0 {
		return errNotBatch
	}
	list = f(list)

	out := append([]byte(nil), b.bytes[:batchRecords]...)
	binary.BigEndian.PutUint16(out[batchAttributes:], attributes&^7)
	binary.BigEndian.PutUint32(out[batchLastDelta:], uint32(max(len(list)-1, 0)))
	binary.BigEndian.PutUint32(out[batchCount:], uint32(len(list)))
	for i, r := range list {
		moved, err := moveRecord(r, int64(i))
		if err != nil {
			return err
		}
		out = binary.AppendVarint(out, int64(len(moved)))
		out = append(out, moved...)
	}
	b.bytes = seal(out)
	return nil
}

// moveRecord gives a record (attributes, timestamp delta, offset delta, the rest) another offset delta.
func moveRecord(r []byte, delta int64) ([]byte, error) {
	_, t := binary.Varint(r[1:])
	if t <= 0 {
		return nil, errNotBatch
	}
	_, o := binary.Varint(r[1+t:])
	if o <= 0 {
		return nil, errNotBatch
	}
	out := append([]byte(nil), r[:1+t]...)
	out = binary.AppendVarint(out, delta)
	return append(out, r[1+t+o:]...), nil
}
