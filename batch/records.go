package batch

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// Record is one record of a batch.
type Record struct {
	Offset     int64  // absolute
	Timestamp  int64  // ms
	Attributes int8   // unused by Kafka so far
	Key        []byte // nil: null
	Value      []byte // nil: null, a tombstone
	Headers    []RecordHeader
}

// RecordHeader is one header of a record. Keys may repeat.
type RecordHeader struct {
	Key   []byte
	Value []byte // nil: null
}

// headerCost is what one decoded header takes of the budget beyond its bytes.
const headerCost = 48

// RecordReader walks the records of one batch.
//
//	rr, err := batch.OpenRecords(b, 64<<20)
//	if err != nil { … }
//	defer rr.Close()
//	for rr.Next() { use(rr.Record) }
//	if err := rr.Err(); err != nil { … }
type RecordReader struct {
	// Record is the current one. Its byte slices alias the batch, or, for a
	// compressed one, a buffer that lives until Close; the Headers slice is used
	// again by the next Next.
	Record Record
	// OffsetDelta of the current record.
	OffsetDelta int32

	header Header
	rest   []byte
	seen   int32
	budget int
	buf    *scratch
	err    error
}

// OpenRecords unpacks the whole batch that b begins with and starts a walk over
// its records. budget bounds the unpacked size in bytes plus [headerCost] for
// each header of one record. The checksum is not looked at.
func OpenRecords(b []byte, budget int) (*RecordReader, error) {
	rr := new(RecordReader)
	if err := rr.Reset(b, budget); err != nil {
		return nil, err
	}
	return rr, nil
}

// Reset closes the reader and starts it on another batch.
func (rr *RecordReader) Reset(b []byte, budget int) error {
	rr.Close()
	headers := rr.Record.Headers[:0]
	*rr = RecordReader{}
	rr.Record.Headers = headers
	h, size, err := Parse(b)
	if err != nil {
		return err
	}
	if len(b) < size {
		return fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), size)
	}
	rr.header = h
	rr.rest = b[HeaderSize:size:size]
	if codec := h.Codec(); codec != None && h.NumRecords > 0 {
		buf, err := decompress(codec, rr.rest, budget)
		if err != nil {
			return err
		}
		rr.buf, rr.rest = buf, buf.b
	} else if len(rr.rest) > budget {
		return fmt.Errorf("%w: %d bytes of records, at most %d", ErrTooLarge, len(rr.rest), budget)
	}
	rr.budget = budget - len(rr.rest)
	if int64(h.NumRecords)*minRecordSize > int64(len(rr.rest)) {
		err := fmt.Errorf("%w: %d records in %d bytes", ErrCorrupt, h.NumRecords, len(rr.rest))
		rr.Close()
		return err
	}
	return nil
}

// Header is the header of the batch.
func (rr *RecordReader) Header() Header { return rr.header }

// Close gives the unpacked records back; what Record pointed to is invalid then.
func (rr *RecordReader) Close() {
	if rr.buf != nil {
		rr.buf.free()
		rr.buf, rr.rest = nil, nil
	}
}

// Err is why the walk ended early.
func (rr *RecordReader) Err() error { return rr.err }

// Next moves to the next record.
func (rr *RecordReader) Next() bool {
	if rr.err != nil {
		return false
	}
	if rr.seen == rr.header.NumRecords {
		if len(rr.rest) > 0 {
			rr.err = fmt.Errorf("%w: %d bytes behind the last record", ErrCorrupt, len(rr.rest))
		}
		return false
	}
	if !rr.record() {
		rr.err = fmt.Errorf("%w: record %d of %d is malformed", ErrCorrupt, rr.seen, rr.header.NumRecords)
		return false
	}
	if rr.err != nil {
		return false
	}
	rr.seen++
	return true
}

// record decodes one record; false if it is malformed.
func (rr *RecordReader) record() bool {
	size, n := binary.Varint(rr.rest)
	if n <= 0 || size < minRecordSize-1 || size > int64(len(rr.rest)-n) {
		return false
	}
	c := cursor{b: rr.rest[n : n+int(size) : n+int(size)]}
	rr.rest = rr.rest[n+int(size):]
	r := &rr.Record
	r.Attributes = c.byte()
	ts := c.varint()
	delta := c.varint()
	r.Key = c.bytes()
	r.Value = c.bytes()
	count := c.varint()
	if c.bad || count < 0 || count > int64(len(c.b)/2) || delta < 0 || delta > int64(rr.header.LastOffsetDelta) {
		return false
	}
	r.Headers = r.Headers[:0]
	if count*headerCost > int64(rr.budget) {
		rr.err = fmt.Errorf("%w: %d headers", ErrTooLarge, count)
		return true
	}
	for range count {
		key := c.bytes()
		value := c.bytes()
		if c.bad || key == nil {
			return false
		}
		r.Headers = append(r.Headers, RecordHeader{Key: key, Value: value})
	}
	if len(c.b) > 0 {
		return false
	}
	rr.OffsetDelta = int32(delta)
	r.Offset = rr.header.BaseOffset + delta
	r.Timestamp = rr.header.BaseTimestamp + ts
	if rr.header.LogAppendTime() {
		r.Timestamp = rr.header.MaxTimestamp
	}
	return true
}

// cursor reads a record's fields; once bad, it stays so.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) byte() int8 {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return int8(v)
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

// bytes returns nil for a null field, and an empty slice that is not nil for an
// empty one.
func (c *cursor) bytes() []byte {
	n := c.varint()
	if c.bad || n < 0 {
		c.bad = c.bad || n != -1
		return nil
	}
	if n > int64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	if v == nil {
		v = []byte{}
	}
	return v
}

// Records is RecordReader for range loops. An error is yielded last, with an
// empty record. What a record points to is valid during its step only.
func Records(b []byte, budget int) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		var rr RecordReader
		if err := rr.Reset(b, budget); err != nil {
			yield(&Record{}, err)
			return
		}
		defer rr.Close()
		for rr.Next() {
			if !yield(&rr.Record, nil) {
				return
			}
		}
		if rr.err != nil {
			yield(&Record{}, rr.err)
		}
	}
}

// CheckRecords looks at every record of a batch that Validate took, as a broker
// does: the count is right, offset deltas are 0, 1, 2, …. It returns the largest
// timestamp of the records in ms.
func CheckRecords(b []byte, budget int) (maxTimestamp int64, err error) {
	var rr RecordReader
	if err := rr.Reset(b, budget); err != nil {
		return NoTimestamp, err
	}
	defer rr.Close()
	maxTimestamp = NoTimestamp
	for n := int32(0); rr.Next(); n++ {
		if rr.OffsetDelta != n {
			return NoTimestamp, fmt.Errorf("%w: record %d has offset delta %d", ErrInvalid, n, rr.OffsetDelta)
		}
		maxTimestamp = max(maxTimestamp, rr.Record.Timestamp)
	}
	return maxTimestamp, rr.err
}
