package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// errLeft: a client that had only to wait did not.
var errLeft = fmt.Errorf("the client left, or sent more, while its failed authentication waited for its answer: %w", io.EOF)

// watchPeer ends the connection when its client leaves, or sends anything, until stop is called. Only the reader calls
// both, while the client has nothing to do but to wait for an answer: whatever can be read then is the end, TLS's
// farewell before it, or of somebody who keeps to no protocol. Nothing is taken from the socket.
func (c *conn) watchPeer() (stop func()) {
	nc := c.nc
	if s, ok := nc.(*secured); ok {
		nc = s.under.Conn
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := sc.SyscallConn()
	if err != nil || nc.SetReadDeadline(time.Time{}) != nil {
		return func() {} // it is closed, which the next read tells
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		var b [1]byte
		err := raw.Read(func(fd uintptr) bool {
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			return !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
		})
		if err == nil {
			c.end(errLeft)
		}
	}()
	return func() {
		if err := nc.SetReadDeadline(time.Unix(1, 0)); err != nil && !errors.Is(err, net.ErrClosed) {
			c.end(err) // else the watch would not end
		}
		<-watched
		c.in.armedFor = 0 // the reader's own limit is set anew
	}
}
