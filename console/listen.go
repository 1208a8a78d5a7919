package console

import (
	"net"
	"sync"
)

// maxConnections bounds those of the admin port: whoever reaches it may open one
// before anybody knows who it is.
const maxConnections = 1024

// bounded is a listener that has at most so many connections; more wait in the
// kernel's queue. It is closed once.
type bounded struct {
	net.Listener
	room chan struct{}
	done chan struct{}
	once sync.Once
}

func newBounded(ln net.Listener, n int) *bounded {
	return &bounded{Listener: ln, room: make(chan struct{}, n), done: make(chan struct{})}
}

func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.room <- struct{}{}:
	case <-b.done:
		return nil, net.ErrClosed
	}
	nc, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &counted{Conn: nc, leave: sync.OnceFunc(func() { <-b.room })}, nil
}

func (b *bounded) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
