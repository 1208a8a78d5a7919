package remote

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"
)

// A frame: length of what follows (4 bytes), number of the call (8), operation
// or status (1), length of the head (4), the head, the body. Integers are big-endian. The
// head is small and decoded; the body is record batches, taken as it is.
const (
	frameFixed = 8 + 1 + 4
	maxHead    = 16 << 20 // the state of 100,000 producers
	maxBody    = 512 << 20
)

type op uint8

const (
	opAppend op = iota + 1
	opRead
	opOffsets
	opOffsetFor
	opProbe
	opProducers
	opDeleteBefore
	opCreate
	opAddPartitions
	opConfigure
	opDelete
	opTopics
	opSeal
	_ // was unseal; the numbers of others stay
	opHealth
	opCancel // of the call with the same number
	opPing
	opLast

	// Answers.
	opOK    op = 64
	opError op = 65
	opPong  op = 66
)

type message struct {
	id   uint64
	op   op
	head []byte
	body []byte
}

var (
	errFrame = errors.New("malformed frame")
	errLarge = errors.New("frame is too large")
)

// appendPrefix encodes what precedes head and body.
func appendPrefix(b []byte, id uint64, o op, head, body int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(frameFixed+head+body))
	b = binary.BigEndian.AppendUint64(b, id)
	b = append(b, byte(o))
	return binary.BigEndian.AppendUint32(b, uint32(head))
}

// readMessage reads one frame. limit bounds head and body together, so that
// a peer costs no more memory than that. The body is in a pooled buffer, which release
// gives back.
func readMessage(r *bufio.Reader, limit int) (m message, release func(), err error) {
	var fixed [4 + frameFixed]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return m, nil, err
	}
	total := int64(binary.BigEndian.Uint32(fixed[:]))
	m.id = binary.BigEndian.Uint64(fixed[4:])
	m.op = op(fixed[12])
	head := int64(binary.BigEndian.Uint32(fixed[13:]))
	if total < frameFixed || head > total-frameFixed {
		return m, nil, fmt.Errorf("%w: %d bytes with a head of %d", errFrame, total, head)
	}
	body := total - frameFixed - head
	if head > maxHead || head+body > int64(limit) {
		return m, nil, fmt.Errorf("%w: head of %d, body of %d bytes, at most %d", errLarge, head, body, limit)
	}
	// The peer has to send before it is given memory: half a frame costs at most
	// twice what came.
	if m.head, err = readGrowing(r, int(head), nil); err != nil {
		return m, nil, err
	}
	if body == 0 {
		return m, noRelease, nil
	}
	buf := getBuffer(int(min(body, 1<<20)))
	b, err := readGrowing(r, int(body), *buf)
	if err != nil {
		putBuffer(buf)
		return m, nil, err
	}
	if cap(b) != cap(*buf) {
		putBuffer(buf)
		buf = &b
	}
	m.body = b
	return m, func() { putBuffer(buf) }, nil
}

func noRelease() {}

// readGrowing reads n bytes, into b as far as it is large enough, else into
// buffers that grow with what has come.
func readGrowing(r io.Reader, n int, b []byte) ([]byte, error) {
	const step = 1 << 20
	if cap(b) < min(n, step) {
		b = make([]byte, 0, min(n, step))
	}
	b = b[:0]
	for len(b) < n {
		if len(b) == cap(b) {
			next := *getBuffer(min(n, 2*cap(b)))
			b = next[:copy(next, b)]
		}
		m := min(n, cap(b))
		got, err := io.ReadFull(r, b[len(b):m])
		b = b[:len(b)+got]
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return b, nil
}

const (
	minBufferBits = 12
	maxBufferBits = 26
)

var buffers [maxBufferBits - minBufferBits + 1]sync.Pool

// getBuffer returns a buffer of n bytes.
func getBuffer(n int) *[]byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits) - minBufferBits
	if class >= len(buffers) {
		b := make([]byte, n)
		return &b
	}
	if v := buffers[class].Get(); v != nil {
		b := v.(*[]byte)
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<(class+minBufferBits))
	return &b
}

func putBuffer(b *[]byte) {
	c := cap(*b)
	if c < 1<<minBufferBits || c > 1<<maxBufferBits || c&(c-1) != 0 {
		return
	}
	*b = (*b)[:c]
	buffers[bits.Len(uint(c))-1-minBufferBits].Put(b)
}
