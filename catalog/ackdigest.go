package catalog

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// MaxAckChunks bounds an [AckDigest]: with more chunks the chunks grow.
const MaxAckChunks = 64

const (
	ackDigestVersion = 1
	minAckShift      = 4
	maxAckShift      = 62
)

// AckDigest condenses the batches that were acknowledged on a span, so that each of
// them counts in content and not only in number. It is divided into chunks of 2^Shift
// logical offsets, aligned to that; a batch belongs to the chunk of its first offset.
// Sums do not depend on an order, so those of several gateways are added up, and
// compared with what the log holds. The zero value is empty. It is written as one
// string of bytes, version first.
type AckDigest struct {
	Shift  uint8
	First  int64 // number of the first chunk: it begins at First << Shift
	Chunks []AckChunk
}

// AckChunk sums up the batches of one chunk.
type AckChunk struct {
	Records, Batches int64
	Sum              uint64 // of AckHash of each batch
	Places           uint64 // of AckHash without the checksum, for logs whose cluster stamps records
}

// AckHash is what one batch contributes: a hash of the logical offset of its first
// record, its record count and its checksum. Two rounds of the finalizer of SplitMix64
// (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014): sums
// of it must not cancel out when two batches change places.
func AckHash(offset int64, records int32, crc uint32) uint64 {
	return mix64(mix64(uint64(offset)+0x9e3779b97f4a7c15) ^ (uint64(crc)<<32 | uint64(uint32(records))))
}

func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Add counts a batch.
func (d *AckDigest) Add(offset int64, records int32, crc uint32) {
	if d.Shift == 0 {
		d.Shift = minAckShift
	}
	at := offset >> d.Shift
	if len(d.Chunks) == 0 {
		d.First = at
	}
	if at < d.First || at >= d.First+int64(len(d.Chunks)) {
		d.cover(at, at)
		at = offset >> d.Shift
	}
	c := &d.Chunks[at-d.First]
	c.Records += int64(records)
	c.Batches++
	c.Sum += AckHash(offset, records, crc)
	c.Places += AckHash(offset, records, 0)
}

// cover makes room for the chunks from one number to another, which are of the
// present shift; it may raise the shift.
func (d *AckDigest) cover(from, to int64) {
	last := d.First + int64(len(d.Chunks)) - 1
	if len(d.Chunks) == 0 {
		d.First, last = from, from
	}
	for max(to, last)-min(from, d.First) >= MaxAckChunks {
		d.Fold(d.Shift + 1)
		from, to, last = from>>1, to>>1, last>>1
	}
	if from < d.First {
		wider := make([]AckChunk, int64(len(d.Chunks))+d.First-from)
		copy(wider[d.First-from:], d.Chunks)
		d.Chunks, d.First = wider, from
	}
	for d.First+int64(len(d.Chunks)) <= to {
		d.Chunks = append(d.Chunks, AckChunk{})
	}
}

// Fold makes chunks larger: 2^shift offsets. A smaller shift changes nothing.
func (d *AckDigest) Fold(shift uint8) {
	if shift <= d.Shift || shift > maxAckShift {
		return
	}
	by := shift - d.Shift
	d.Shift = shift
	if len(d.Chunks) == 0 {
		d.First >>= by
		return
	}
	first := d.First >> by
	n := (d.First+int64(len(d.Chunks))-1)>>by - first + 1
	folded := make([]AckChunk, n)
	for i, c := range d.Chunks {
		folded[(d.First+int64(i))>>by-first].add(c)
	}
	d.First, d.Chunks = first, folded
}

func (c *AckChunk) add(o AckChunk) {
	c.Records += o.Records
	c.Batches += o.Batches
	c.Sum += o.Sum
	c.Places += o.Places
}

// Merge adds another digest of the same span.
func (d *AckDigest) Merge(o *AckDigest) {
	if len(o.Chunks) == 0 {
		return
	}
	c := AckDigest{Shift: o.Shift, First: o.First, Chunks: append([]AckChunk(nil), o.Chunks...)}
	if len(d.Chunks) == 0 {
		*d = c
		return
	}
	d.Fold(c.Shift)
	c.Fold(d.Shift)
	d.cover(c.First, c.First+int64(len(c.Chunks))-1)
	c.Fold(d.Shift)
	for i, x := range c.Chunks {
		d.Chunks[c.First+int64(i)-d.First].add(x)
	}
}

// Range is the chunk's range of logical offsets.
func (d *AckDigest) Range(i int) (from, to int64) {
	from = (d.First + int64(i)) << d.Shift
	return from, from + int64(1)<<d.Shift
}

// MarshalJSON writes version, shift, number of the first chunk and count of the chunks; then of
// each chunk records and batches, and unless it has none the two sums (big endian).
func (d AckDigest) MarshalJSON() ([]byte, error) {
	b := []byte{ackDigestVersion, d.Shift}
	b = binary.AppendVarint(b, d.First)
	b = binary.AppendUvarint(b, uint64(len(d.Chunks)))
	for _, c := range d.Chunks {
		b = binary.AppendUvarint(b, uint64(c.Records))
		b = binary.AppendUvarint(b, uint64(c.Batches))
		if c.Batches > 0 {
			b = binary.BigEndian.AppendUint64(b, c.Sum)
			b = binary.BigEndian.AppendUint64(b, c.Places)
		}
	}
	return json.Marshal(base64.StdEncoding.EncodeToString(b))
}

// UnmarshalJSON reads what MarshalJSON wrote. A later version is read as an empty
// digest, with which nothing can be compared.
func (d *AckDigest) UnmarshalJSON(text []byte) error {
	*d = AckDigest{}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("digest of acknowledgements: %w", err)
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return fmt.Errorf("digest of acknowledgements: %w", err)
	}
	if len(b) < 2 {
		return fmt.Errorf("digest of acknowledgements of %d bytes: %w", len(b), ErrCorrupt)
	}
	if b[0] != ackDigestVersion {
		return nil
	}
	out := AckDigest{Shift: b[1]}
	r := uvarints{b: b[2:]}
	var n int
	if out.First, n = binary.Varint(r.b); n <= 0 {
		return fmt.Errorf("digest of acknowledgements: first chunk: %w", ErrCorrupt)
	}
	r.b = r.b[n:]
	chunks := r.next(MaxAckChunks)
	if r.bad || out.Shift > maxAckShift || out.First < 0 || out.First > (1<<63-1)>>out.Shift-MaxAckChunks {
		return fmt.Errorf("digest of acknowledgements: head: %w", ErrCorrupt)
	}
	for range chunks {
		c := AckChunk{Records: int64(r.next(1 << 62)), Batches: int64(r.next(1 << 62))}
		if c.Batches > 0 {
			c.Sum, c.Places = r.fixed(), r.fixed()
		}
		out.Chunks = append(out.Chunks, c)
	}
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("digest of acknowledgements: chunks: %w", ErrCorrupt)
	}
	*d = out
	return nil
}

// uvarints reads numbers; bad once one was missing or too large.
type uvarints struct {
	b   []byte
	bad bool
}

func (r *uvarints) next(most uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > most {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *uvarints) fixed() uint64 {
	if len(r.b) < 8 {
		r.b, r.bad = nil, true
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}
