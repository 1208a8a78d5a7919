package wire

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is what a plain TCP connection can do beyond [net.Conn]: write without
// ever waiting, so that whoever has something to say says it at once instead of
// waking a goroutine that may wait, and tell the kernel how many bytes are worth
// waking up for. All methods may be called on nil, which a connection of another
// kind has for a socket. Writes and Expect have one caller each at a time.
type Socket struct {
	raw syscall.RawConn

	// Of the call under way. The functions are made once, since closures made for
	// each call would be garbage of each call.
	pieces [][]byte
	n      int
	err    error
	write  func(fd uintptr)

	expected int
	expect   func(fd uintptr)
}

// NewSocket returns nil unless c is a TCP connection.
func NewSocket(c net.Conn) *Socket {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{raw: raw}
	s.write = func(fd uintptr) {
		for {
			s.n, s.err = unix.Writev(int(fd), s.pieces)
			if s.err != unix.EINTR {
				return
			}
		}
	}
	s.expect = func(fd uintptr) {
		// It is a hint: where it is not taken, more reads bring the same bytes.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT, s.expected)
	}
	return s
}

// maxPieces is the kernel's bound of one vectored write.
const maxPieces = 1024

// tryWrite writes what the socket takes at once, of the first pieces.
func (s *Socket) tryWrite(pieces [][]byte) (int, error) {
	s.pieces = pieces[:min(len(pieces), maxPieces)]
	// Control, and not Write, since nothing waits here and no deadline matters. It
	// fails only on a closed socket.
	if err := s.raw.Control(s.write); err != nil {
		s.n, s.err = 0, err
	}
	s.pieces = nil
	if errors.Is(s.err, unix.EAGAIN) {
		return 0, nil
	}
	return max(s.n, 0), s.err
}

// TryWrite writes what of b the socket takes at once, and returns how much that is.
func (s *Socket) TryWrite(b []byte) (int, error) {
	if s == nil || len(b) == 0 {
		return 0, nil
	}
	one := [1][]byte{b}
	return s.tryWrite(one[:])
}

// Expect tells that a reader has no use for fewer than n bytes: it is not woken
// before they are there, the peer has closed, or the read's deadline has passed.
// The reader must want n bytes at least. n = 1 is the normal state.
func (s *Socket) Expect(n int) {
	// More than this only takes memory of the kernel, and lets the peer wait for room.
	const most = 256 << 10
	n = min(max(n, 1), most)
	if s == nil || n == s.expected || n == 1 && s.expected == 0 {
		return
	}
	s.expected = n
	_ = s.raw.Control(s.expect) // fails only on a closed socket: the read tells
}
