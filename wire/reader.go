package wire

import (
	"encoding/binary"
	"fmt"
)

// Reader reads the protocol's primitive types from a slice. After the first
// field that does not fit, every read returns a zero value and Err tells;
// nothing it returns is larger than the slice. Byte results alias the slice.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader reads from b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// Err is of kind ErrMalformed if a field did not fit.
func (r *Reader) Err() error {
	if r.bad {
		return ErrMalformed
	}
	return nil
}

// Bad tells whether a field did not fit.
func (r *Reader) Bad() bool { return r.bad }

// Len is the number of bytes left.
func (r *Reader) Len() int { return len(r.b) }

// Rest is what is left.
func (r *Reader) Rest() []byte { return r.b }

func (r *Reader) fail() { r.bad, r.b = true, nil }

// Raw reads n bytes.
func (r *Reader) Raw(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Bool reads a byte as truth value.
func (r *Reader) Bool() bool { return r.Int8() != 0 }

// Int8 reads an INT8.
func (r *Reader) Int8() int8 {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return int8(v)
}

// Int16 reads an INT16.
func (r *Reader) Int16() int16 {
	if len(r.b) < 2 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return int16(v)
}

// Int32 reads an INT32.
func (r *Reader) Int32() int32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return int32(v)
}

// Int64 reads an INT64.
func (r *Reader) Int64() int64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[8:]
	return int64(v)
}

// UUID reads a UUID.
func (r *Reader) UUID() (id [16]byte) {
	copy(id[:], r.Raw(16))
	return id
}

// Uvarint reads an UNSIGNED_VARINT of 32 bits.
func (r *Reader) Uvarint() uint32 {
	var v uint32
	for i := 0; i < 5 && i < len(r.b); i++ {
		c := r.b[i]
		if i == 4 && c > 0x0f {
			break
		}
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			r.b = r.b[i+1:]
			return v
		}
	}
	r.fail()
	return 0
}

// length reads a compact length: one less than the varint, -1 for null.
func (r *Reader) length() int { return int(r.Uvarint()) - 1 }

// String reads a STRING or COMPACT_STRING as bytes; null is malformed.
func (r *Reader) String(flexible bool) []byte {
	v := r.NullableString(flexible)
	if v == nil {
		r.fail()
	}
	return v
}

// NullableString reads a NULLABLE_STRING or COMPACT_NULLABLE_STRING as bytes,
// nil for null and not nil for an empty one.
func (r *Reader) NullableString(flexible bool) []byte {
	var n int
	if flexible {
		n = r.length()
	} else {
		n = int(r.Int16())
	}
	// A Kafka string has at most 2^15-1 bytes, in the compact form too.
	if n > maxString {
		r.fail()
	}
	return r.span(n)
}

// NullableBytes reads NULLABLE_BYTES, RECORDS or their compact forms.
func (r *Reader) NullableBytes(flexible bool) []byte {
	if flexible {
		return r.span(r.length())
	}
	return r.span(int(r.Int32()))
}

func (r *Reader) span(n int) []byte {
	if r.bad || n < 0 {
		if n < -1 {
			r.fail()
		}
		return nil
	}
	v := r.Raw(n)
	if v == nil && !r.bad {
		v = []byte{}
	}
	return v
}

// ArrayLen reads the length of an array whose elements take at least
// minElement bytes each: what it returns is bounded by the bytes that are left.
// Null is -1.
func (r *Reader) ArrayLen(flexible bool, minElement int) int {
	var n int
	if flexible {
		n = r.length()
	} else {
		n = int(r.Int32())
	}
	if r.bad {
		return 0
	}
	if n < -1 || n > len(r.b)/max(minElement, 1) {
		r.fail()
		return 0
	}
	return n
}

// Tags walks a tagged field section. known is called with the reader of each
// tag's value and returns whether it knows the tag; nil skips all.
func (r *Reader) Tags(known func(tag uint32, value *Reader) bool) {
	n := r.tagCount()
	last := int64(-1)
	for range n {
		tag, v := r.tag(&last)
		if r.bad {
			return
		}
		if known == nil {
			continue
		}
		sub := NewReader(v)
		if known(tag, &sub) && (sub.bad || len(sub.b) > 0) {
			r.fail()
			return
		}
	}
}

// SkipTags skips a tagged field section.
func (r *Reader) SkipTags() {
	if !r.noTags() {
		r.Tags(nil)
	}
}

// noTags takes an empty tagged field section, the common case, if there is one.
func (r *Reader) noTags() bool {
	if len(r.b) > 0 && r.b[0] == 0 {
		r.b = r.b[1:]
		return true
	}
	return false
}

// tagCount reads the number of tagged fields; each takes two bytes at least.
func (r *Reader) tagCount() int {
	n := int(r.Uvarint())
	if n > len(r.b)/2 || n > maxTags {
		r.fail()
		return 0
	}
	return n
}

// tag reads one tagged field. Tags ascend strictly (KIP-482).
func (r *Reader) tag(last *int64) (uint32, []byte) {
	tag := r.Uvarint()
	size := r.Uvarint()
	if int64(tag) <= *last {
		r.fail()
	}
	*last = int64(tag)
	if uint64(size) > uint64(len(r.b)) {
		r.fail()
		return 0, nil
	}
	return tag, r.Raw(int(size))
}

// done is the error of a finished decode.
func (r *Reader) done(what string, version int16) error {
	if r.bad {
		return fmt.Errorf("%w: %s v%d", ErrMalformed, what, version)
	}
	return nil
}
