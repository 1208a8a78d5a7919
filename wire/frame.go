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
	// takenGrowth is by how much a buffer grows for which there is room: fewer copies
	// of it are left to the collector then.
	takenGrowth = 16
	// worthExpecting is the size from which being woken once for a rest of a frame,
	// and not for each piece of it that arrives, is worth two system calls.
	worthExpecting = 32 << 10
)

// FreeFrame is how large a frame's memory may be, bytes, that is not asked for; see
// [FrameReader.SetRoom].
const FreeFrame = firstGrant

// FrameReader reads frames, each led by its size in 4 bytes. It is not safe for
// concurrent use.
//
// Memory follows what has arrived: a frame gets at first 64 KiB, or twice the
// largest frame that this peer has sent whole, and its buffer doubles as it
// fills. So all buffers together stay below 4 times the bytes received plus
// 128 KiB. Where there is a room to take it from (SetRoom), that bounds it instead.
type FrameReader struct {
	r      io.Reader
	max    int
	idle   [readIdle]byte // storage for read-ahead
	ahead  *Buffer        // the same while the peer is busy, else nil
	have   []byte         // what of either was not used yet
	busy   bool           // the latest read filled its storage
	proven int            // largest whole frame so far
	begun  bool
	expect func(n int)       // see Expecter
	frame  func(size int)    // see Framer
	room   func(n int) error // see SetRoom; may be nil
}

// Expecter may be a FrameReader's source that can be told how many bytes are
// worth waking up for; see [Socket.Expect].
type Expecter interface{ Expect(n int) }

// Framer may be a FrameReader's source that is told of each frame of which not all is there when
// its size is known: the reads up to the next such call are for its rest.
type Framer interface{ Frame(size int) }

// NewFrameReader reads frames of at most maxFrame bytes from r.
func NewFrameReader(r io.Reader, maxFrame int) *FrameReader {
	f := &FrameReader{r: r, max: maxFrame, expect: func(int) {}, frame: func(int) {}}
	if e, ok := r.(Expecter); ok {
		f.expect = e.Expect
	}
	if e, ok := r.(Framer); ok {
		f.frame = e.Frame
	}
	return f
}

// SetRoom has the memory of each frame that needs more than [FreeFrame] asked for, all of it at
// once, so that nobody holds a part of a frame's while it waits for the rest: take is called with
// what the frame's buffer will hold, at most once for each frame, and may wait; nothing is read
// meanwhile. An error of it is Next's. What was taken is the caller's to give back, also when Next fails.
func (f *FrameReader) SetRoom(take func(n int) error) { f.room = take }

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
	grant, growth, taken := min(size, max(firstGrant, 2*f.proven)), 2, f.room == nil
	if grant > firstGrant && grant < size && !taken {
		grant = firstGrant // only what this peer has shown to send is taken before it comes
	}
	if grant > firstGrant && !taken {
		if err := f.room(capOf(size)); err != nil {
			return nil, err
		}
		growth, taken = takenGrowth, true
	}
	buf := NewBuffer(grant)
	n := copy(buf.B, f.have)
	f.have = f.have[n:]
	if n < size {
		f.frame(size)
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
		if !taken {
			if err := f.room(capOf(size)); err != nil {
				buf.Release()
				return nil, err
			}
			growth, taken = takenGrowth, true
		}
		grown := NewBuffer(min(size, growth*len(buf.B)))
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
