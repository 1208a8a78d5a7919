package spantest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

// unsound: records that no consumer could get past are refused, for good, whatever
// the batch's checksum says; nothing of them is in the log, and its producer goes on.
func (e *env) unsound() {
	l := e.log(e.create(1), 0)
	id := nextProducer()
	ts := now()
	e.mustPut(l, e.produced(id, 0, 0, ts, "a"))
	junk := bytes.Repeat([]byte{0xff}, 20)
	records := e.plain(ts, "v")[batch.HeaderSize:]
	for _, c := range []struct {
		name    string
		codec   batch.Codec
		records []byte
	}{
		{"junk", batch.None, junk},
		{"a record behind the last", batch.None, append(bytes.Clone(records), records...)},
		{"a cut record", batch.None, records[:len(records)-1]},
		{"junk as gzip", batch.Gzip, junk},
		{"junk as snappy", batch.Snappy, junk},
		{"junk as lz4", batch.LZ4, junk},
		{"junk as zstd", batch.Zstd, junk},
	} {
		a := e.put(l, unsoundBatch(e.plain(ts, "v"), c.codec, c.records))
		e.wantCode(c.name, a.Err, wire.InvalidRecord)
		a = e.put(l, unsoundBatch(e.produced(id, 0, 1, ts, "v"), c.codec, c.records))
		e.wantCode(c.name+" of a producer", a.Err, wire.InvalidRecord)
	}
	e.mustPut(l, e.produced(id, 0, 1, ts, "b"))
	if o := e.offsets(l); o.End != 2 {
		e.Fatalf("end %d, want 2", o.End)
	}
}

// unsoundBatch puts other records into a batch of one, whose checksum is right.
func unsoundBatch(b []byte, codec batch.Codec, records []byte) []byte {
	const length, attributes, sum = 8, 21, 17
	b = append(bytes.Clone(b[:batch.HeaderSize]), records...)
	binary.BigEndian.PutUint32(b[length:], uint32(len(b)-length-4))
	binary.BigEndian.PutUint16(b[attributes:], uint16(codec))
	binary.BigEndian.PutUint32(b[sum:], crc32.Checksum(b[attributes:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
