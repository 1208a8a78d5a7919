package gateway

import (
	"encoding/binary"

	"github.com/braidstream/braid/wire"
)

// encoder writes an answer field by field, for the answers that may be large
// and are made often. flexible selects the compact encodings (KIP-482).
type encoder struct {
	b        []byte
	flexible bool
}

// frame begins a response frame; finish fills in its size.
func (e *encoder) frame(h wire.Header) {
	e.b = append(e.b[:0], 0, 0, 0, 0)
	e.b = wire.AppendResponseHeader(e.b, h.Key, h.Version, h.CorrelationID)
}

func (e *encoder) finish() []byte {
	binary.BigEndian.PutUint32(e.b, uint32(len(e.b)-4))
	return e.b
}

func (e *encoder) bool(v bool) {
	if v {
		e.b = append(e.b, 1)
	} else {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) int16(v int16)   { e.b = binary.BigEndian.AppendUint16(e.b, uint16(v)) }
func (e *encoder) int32(v int32)   { e.b = binary.BigEndian.AppendUint32(e.b, uint32(v)) }
func (e *encoder) uuid(v [16]byte) { e.b = append(e.b, v[:]...) }

func (e *encoder) string(s string) {
	if e.flexible {
		e.b = binary.AppendUvarint(e.b, uint64(len(s))+1)
	} else {
		e.int16(int16(len(s)))
	}
	e.b = append(e.b, s...)
}

func (e *encoder) nullString() {
	if e.flexible {
		e.b = append(e.b, 0)
	} else {
		e.int16(-1)
	}
}

// optional writes null for the empty string.
func (e *encoder) optional(s string) {
	if s == "" {
		e.nullString()
	} else {
		e.string(s)
	}
}

func (e *encoder) array(n int) {
	if e.flexible {
		e.b = binary.AppendUvarint(e.b, uint64(n)+1)
	} else {
		e.int32(int32(n))
	}
}

func (e *encoder) tags() {
	if e.flexible {
		e.b = append(e.b, 0)
	}
}
