package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// DefaultMaxFrame is the largest request a Kafka broker takes by default
// (socket.request.max.bytes), in bytes.
const DefaultMaxFrame = 100 << 20

const (
	// readAhead is how much one read may take in beyond what is needed, so that
	// small requests which came together cost one system call.
	readAhead = 16 << 10
	// readIdle is the same while the peer does not fill it: all that a connection
	// holds which waits for a request, and all that is copied of a large frame.
	readIdle = 512
	// firstGrant is what is allocated for a frame of a peer that has sent
	// nothing of that size yet, however large it says that the frame will be.
	firstGrant = 64 << 10
	// worthExpecting is the size from which being woken once for a rest of a frame,
	// and not for each piece of it that arrives, is worth two system calls.
	worthExpecting = 32 << 10
)

// FrameReader reads frames, each led by its size in 4 bytes. It is not safe for
// concurrent use.
//
// Memory follows what has arrived: a frame gets at first 64 KiB, or twice the
// largest frame that this peer has sent whole, and its buffer doubles as it
// fills. So all buffers together stay below 4 times the bytes received plus
// 128 KiB.
type FrameReader struct {
	r      io.Reader
	max    int
	idle   [readIdle]byte // storage for read-ahead
	ahead  *Buffer        // the same while the peer is busy, else nil
	have   []byte         // what of either was not used yet
	busy   bool           // the latest read filled its storage
	proven int            // largest whole frame so far
	begun  bool
	expect func(n int) // see Expecter
}

// Expecter may be a FrameReader's source that can be told how many bytes are
// worth waking up for; see [Socket.Expect].
type Expecter interface{ Expect(n int) }

// NewFrameReader reads frames of at most maxFrame bytes from r.
func NewFrameReader(r io.Reader, maxFrame int) *FrameReader {
	f := &FrameReader{r: r, max: maxFrame, expect: func(int) {}}
	if e, ok := r.(Expecter); ok {
		f.expect = e.Expect
	}
	return f
}

// SetMax changes how large a frame may be, from the next one on.
func (f *FrameReader) SetMax(maxFrame int) { f.max = maxFrame }

// Buffered is the number of bytes that were read and not yet returned: when it
// is 0, the next call of Next reads from the peer.
func (f *FrameReader) Buffered() int { return len(f.have) }

// Next returns the next frame without its size; the caller releases it. At the
// end between two frames the error is io.EOF, inside of one
// io.ErrUnexpectedEOF; errors of the connection are wrapped.
func (f *FrameReader) Next() (*Buffer, error) {
	if err := f.fill(4); err != nil {
		return nil, err
	}
	if !f.begun {
		if err := alien(f.have); err != nil {
			return nil, err
		}
		f.begun = true
	}
	size := int(int32(binary.BigEndian.Uint32(f.have)))
	if size < 0 {
		return nil, fmt.Errorf("%w: %d", ErrFrameSize, size)
	}
	if size > f.max {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLarge, size, f.max)
	}
	f.have = f.have[4:]
	return f.body(size)
}

func (f *FrameReader) body(size int) (*Buffer, error) {
	buf := NewBuffer(min(size, max(firstGrant, 2*f.proven)))
	n := copy(buf.B, f.have)
	f.have = f.have[n:]
	if n < size {
		defer f.expect(1)
	}
	for {
		for n < len(buf.B) {
			if left := len(buf.B) - n; left >= worthExpecting {
				f.expect(left)
			} else {
				f.expect(1)
			}
			got, err := f.r.Read(buf.B[n:])
			n += got
			if err != nil && n < size {
				buf.Release()
				return nil, readError(err, false)
			}
		}
		if n == size {
			f.proven = max(f.proven, size)
			return buf, nil
		}
		grown := NewBuffer(min(size, 2*len(buf.B)))
		copy(grown.B, buf.B)
		buf.Release()
		buf = grown
	}
}

// fill reads until n bytes are there; n is less than readIdle.
func (f *FrameReader) fill(n int) error {
	if len(f.have) >= n {
		return nil
	}
	room := f.idle[:]
	if f.busy {
		if f.ahead == nil {
			f.ahead = NewBuffer(readAhead)
		}
		room = f.ahead.B
	}
	// What is left is a few bytes of a size, at the end of either storage.
	got := copy(room, f.have)
	if !f.busy && f.ahead != nil {
		f.ahead.Release()
		f.ahead = nil
	}
	for got < n {
		m, err := f.r.Read(room[got:])
		got += m
		if err != nil && got < n {
			f.have = room[:got]
			return readError(err, got == 0)
		}
	}
	f.busy = got == len(room)
	f.have = room[:got]
	return nil
}

func readError(err error, between bool) error {
	if errors.Is(err, io.EOF) {
		if between {
			return io.EOF
		}
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read frame: %w", err)
}

// alien recognises peers that speak another protocol by their first four bytes,
// which would be a frame of hundreds of megabytes at least.
func alien(first []byte) error {
	if first[0] == 0x16 && first[1] == 0x03 {
		return ErrTLS
	}
	for _, method := range [...]string{"GET ", "POST", "PUT ", "HEAD", "OPTI", "DELE", "PATC", "CONN", "PRI "} {
		if bytes.HasPrefix(first, []byte(method)) {
			return ErrHTTP
		}
	}
	return nil
}
