package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// inlineRun is the size up to which records are copied into the surrounding
// bytes: an own piece of a vectored write costs more than the copy.
const inlineRun = 512

// Scatter is outgoing bytes as a list of pieces: the encoder's own bytes and, in
// between, records that are not copied. Several frames may follow one another,
// so that they leave with one system call. The records must stay as they are
// until the bytes were written. The zero value is empty and ready; it is used
// again after Reset. It is not safe for concurrent use.
type Scatter struct {
	pieces  [][]byte
	scratch []byte // bytes since the last piece, in place: scratch[start:]
	start   int
	size    int // of all pieces
	out     net.Buffers
	begun   bool // out is what was not written yet
}

// Reset empties the scatter and drops its references to records. The memory for
// the encoder's own bytes is used again: everything must have been written.
func (s *Scatter) Reset() {
	clear(s.pieces)
	s.pieces = s.pieces[:0]
	s.scratch = s.scratch[:0]
	s.start, s.size = 0, 0
	s.out, s.begun = nil, false
}

// Len is the number of bytes.
func (s *Scatter) Len() int { return s.size + len(s.scratch) - s.start }

// Pieces returns the bytes as a list; it is valid until the next change.
func (s *Scatter) Pieces() [][]byte {
	s.cut()
	return s.pieces
}

// WriteTo writes everything: with vectored writes where w is a TCP or Unix
// connection, else (TLS) in large chunks, since there each write has a cost of
// its own whatever its size. It consumes the pieces: write once, then Reset. What
// TryWriteTo has written is not written again.
func (s *Scatter) WriteTo(w io.Writer) (int64, error) {
	s.begin()
	var n int64
	var err error
	switch w.(type) {
	case *net.TCPConn, *net.UnixConn:
		n, err = s.out.WriteTo(w)
	default:
		n, err = s.writeChunks(w)
	}
	if err != nil {
		return n, fmt.Errorf("write frame: %w", err)
	}
	return n, nil
}

// begin ends the encoding. net.Buffers consumes the slice header that it is given.
func (s *Scatter) begin() {
	if !s.begun {
		s.cut()
		s.out, s.begun = s.pieces, true
	}
}

// TryWriteTo writes what the socket takes at once. done tells that this was
// everything; else WriteTo writes the rest, also after an error.
func (s *Scatter) TryWriteTo(w *Socket) (n int64, done bool, err error) {
	if w == nil {
		return 0, false, nil
	}
	s.begin()
	for len(s.out) > 0 {
		offered := min(len(s.out), maxPieces)
		m, err := w.tryWrite(s.out)
		n += int64(m)
		for ; offered > 0 && m >= len(s.out[0]); offered-- {
			m -= len(s.out[0])
			s.out = s.out[1:]
		}
		if offered > 0 { // the socket is full, or broken
			s.out[0] = s.out[0][m:]
			return n, false, err
		}
	}
	return n, true, nil
}

// chunk is how much goes into one write where there are no vectored writes.
const chunk = 64 << 10

func (s *Scatter) writeChunks(w io.Writer) (total int64, err error) {
	buf := NewBuffer(chunk)
	defer buf.Release()
	have := buf.B[:0]
	write := func(b []byte) bool {
		var n int
		n, err = w.Write(b)
		total += int64(n)
		return err == nil
	}
	for _, p := range s.pieces {
		if len(have)+len(p) > chunk {
			if len(have) > 0 && !write(have) {
				return total, err
			}
			have = have[:0]
		}
		if len(p) >= chunk {
			if !write(p) {
				return total, err
			}
			continue
		}
		have = append(have, p...)
	}
	if len(have) > 0 {
		write(have)
	}
	return total, err
}

// Bytes returns a copy of everything in one piece.
func (s *Scatter) Bytes() []byte {
	out := make([]byte, 0, s.Len())
	for _, p := range s.Pieces() {
		out = append(out, p...)
	}
	return out
}

// Append adds bytes, copied: a frame that was encoded elsewhere.
func (s *Scatter) Append(b []byte) { s.scratch = append(s.scratch, b...) }

// AppendRun adds bytes that are not copied when they are long.
func (s *Scatter) AppendRun(b []byte) {
	if len(b) <= inlineRun {
		s.scratch = append(s.scratch, b...)
		return
	}
	s.cut()
	s.pieces = append(s.pieces, b)
	s.size += len(b)
}

// cut ends the current piece. A later append that moves scratch to a larger
// array leaves the finished pieces valid in the old one.
func (s *Scatter) cut() {
	if len(s.scratch) > s.start {
		s.pieces = append(s.pieces, s.scratch[s.start:len(s.scratch):len(s.scratch)])
		s.size += len(s.scratch) - s.start
		s.start = len(s.scratch)
	}
}

// mark is the place of a frame's size, to be filled in by close.
type mark struct {
	piece int // index into pieces; scratch when it was not cut yet
	at    int // in that piece
	begin int // Len behind the size field
}

func (s *Scatter) open() mark {
	m := mark{piece: len(s.pieces), at: len(s.scratch) - s.start, begin: s.Len() + 4}
	s.scratch = append(s.scratch, 0, 0, 0, 0)
	return m
}

func (s *Scatter) close(m mark) {
	size := uint32(s.Len() - m.begin)
	if m.piece < len(s.pieces) {
		binary.BigEndian.PutUint32(s.pieces[m.piece][m.at:], size)
		return
	}
	binary.BigEndian.PutUint32(s.scratch[s.start+m.at:], size)
}
