// Package remote serves a span.Store to other processes over TCP, and is the
// store of those processes: a local cluster belongs to the process that holds its
// directory, others reach it over that process's internal listener.
//
// The framing is this package's own (frame.go), both sides prove that they know
// a shared token (handshake.go), and the connection is neither encrypted nor
// meant to leave the operator's network.
package remote

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/braidstream/braid/span"
)

const (
	maxCalls       = 16384    // of one connection under way
	maxAppendBytes = 64 << 20 // of one connection under way; one append may be larger
	idleTimeout    = 30 * time.Second
	maxConnections = 4096
)

// Server serves stores on a listener.
type Server struct {
	l      net.Listener
	token  string
	stores func(name string) (span.Store, error)
	logger *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[*serverConn]struct{}
	byKey map[channelKey]*serverConn
}

type channelKey struct {
	session [sessionSize]byte
	channel uint8
}

// Serve serves on l until Close. stores finds a store by its cluster's name; the
// server does not close it. The token is shared by all processes of the fleet.
func Serve(l net.Listener, token string, stores func(name string) (span.Store, error)) *Server {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		l: l, token: token, stores: stores, logger: slog.Default(), ctx: ctx, cancel: cancel,
		conns: make(map[*serverConn]struct{}), byKey: make(map[channelKey]*serverConn),
	}
	s.wg.Add(1)
	go s.accept()
	return s
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Close stops listening, cuts all connections and waits for what is under way to
// end, appends that a store has already taken excepted.
func (s *Server) Close() error {
	s.cancel()
	err := s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		conn, err := s.l.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, mostly: it passes.
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		c := &serverConn{s: s, conn: conn, done: make(chan struct{}), calls: make(map[uint64]context.CancelFunc), logs: make(map[logKey]span.Log)}
		c.cond = sync.NewCond(&c.mu)
		s.mu.Lock()
		if len(s.conns) >= maxConnections || s.ctx.Err() != nil {
			s.mu.Unlock()
			_ = conn.Close() // refused; there is nobody to tell
			continue
		}
		s.conns[c] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		go c.serve()
	}
}

type logKey struct {
	topic     span.Topic
	partition int32
}

// serverConn is one connection. Its reader takes frames in their order, and submits
// appends itself, so that the order of a log is that of the frames.
type serverConn struct {
	s     *Server
	conn  net.Conn
	store span.Store
	done  chan struct{} // closed when nothing of this connection is submitted any more

	logs map[logKey]span.Log // the reader's

	mu       sync.Mutex
	cond     *sync.Cond // of what follows
	closed   bool
	out      []answer
	inFlight int64 // bytes of appends
	calls    map[uint64]context.CancelFunc
	wg       sync.WaitGroup
}

// answer is a frame to write; release is called when it is written or dropped.
type answer struct {
	prefix  []byte // with the head
	body    []byte
	release func()
}

func (c *serverConn) cut() {
	c.mu.Lock()
	c.closed = true
	for _, cancel := range c.calls {
		cancel()
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	_ = c.conn.Close() // the reader and the writer find out
}

func (c *serverConn) serve() {
	defer c.s.wg.Done()
	r := bufio.NewReaderSize(c.conn, 64<<10)
	key, err := c.begin(r)
	if err == nil {
		var writer sync.WaitGroup
		writer.Go(c.write)
		err = c.read(r)
		c.cut()
		close(c.done)
		c.wg.Wait()
		writer.Wait()
		for _, l := range c.logs {
			l.Release()
		}
	} else {
		c.cut()
		close(c.done)
	}
	c.s.mu.Lock()
	delete(c.s.conns, c)
	if c.s.byKey[key] == c {
		delete(c.s.byKey, key)
	}
	c.s.mu.Unlock()
	if errors.Is(err, span.ErrDenied) || errors.Is(err, errFrame) || errors.Is(err, errLarge) || errors.Is(err, errVersion) {
		c.s.logger.Warn("internal connection was refused", "peer", c.conn.RemoteAddr(), "error", err)
	}
}

// begin shakes hands, and waits until an older connection of the same channel is
// at its end.
func (c *serverConn) begin(r *bufio.Reader) (channelKey, error) {
	h, err := receive(c.conn, r, c.s.token)
	if err != nil {
		return channelKey{}, err
	}
	key := channelKey{h.session, h.channel}
	c.s.mu.Lock()
	old := c.s.byKey[key]
	c.s.byKey[key] = c
	c.s.mu.Unlock()
	if old != nil {
		old.cut()
		<-old.done
	}
	c.store, err = c.s.stores(h.name)
	if err != nil {
		return key, errors.Join(err, writeStatus(c.conn, statusUnknownStore, err.Error()))
	}
	if err := writeStatus(c.conn, statusOK, ""); err != nil {
		return key, err
	}
	return key, c.conn.SetDeadline(time.Time{})
}

// read takes frames until the connection ends.
func (c *serverConn) read(r *bufio.Reader) error {
	for {
		// A client sends a ping when it has nothing else to send.
		if err := c.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return err
		}
		m, release, err := readMessage(r, maxHead+maxBody)
		if err != nil {
			return err
		}
		switch {
		case m.op == opPing:
			c.send(answer{prefix: appendPrefix(nil, m.id, opPong, 0, 0), release: noRelease})
		case m.op == opCancel:
			c.mu.Lock()
			if cancel := c.calls[m.id]; cancel != nil {
				cancel()
			}
			c.mu.Unlock()
		case m.op == opAppend:
			if err := c.append(m, release); err != nil {
				release()
				return err
			}
			continue
		case m.op > 0 && m.op < opLast:
			if err := c.call(m); err != nil {
				return err
			}
		default:
			return errFrame
		}
		release()
	}
}

// call runs an operation on a goroutine of its own.
func (c *serverConn) call(m message) error {
	ctx, cancel := context.WithCancel(c.s.ctx)
	c.mu.Lock()
	for len(c.calls) >= maxCalls && !c.closed {
		c.cond.Wait()
	}
	if c.closed || c.calls[m.id] != nil {
		c.mu.Unlock()
		cancel()
		return errFrame
	}
	c.calls[m.id] = cancel
	c.mu.Unlock()
	c.wg.Go(func() {
		defer cancel()
		a := c.answer(ctx, m)
		c.mu.Lock()
		delete(c.calls, m.id)
		c.cond.Broadcast()
		c.mu.Unlock()
		c.send(a)
	})
	return nil
}

// append submits one append; its answer is sent from Done.
func (c *serverConn) append(m message, release func()) error {
	d := decoder{b: m.head}
	key := logKey{topic: d.topic(), partition: int32(d.int())}
	left := time.Duration(d.int())
	if err := d.end(); err != nil {
		return err
	}
	size := int64(len(m.body))
	c.mu.Lock()
	for c.inFlight > 0 && c.inFlight+size > maxAppendBytes && !c.closed {
		c.cond.Wait()
	}
	c.inFlight += size
	c.mu.Unlock()
	id := m.id
	a := &span.Append{Batch: m.body}
	if left > 0 {
		a.Deadline = time.Now().Add(left)
	}
	a.Done = func(a *span.Append) {
		release()
		c.mu.Lock()
		c.inFlight -= size
		c.cond.Broadcast()
		c.mu.Unlock()
		e := encoder{}
		status := opOK
		if a.Err != nil {
			status = opError
			encodeError(&e, a.Err)
		}
		e.int(a.BaseOffset)
		e.int(a.LogAppendTime)
		e.int(a.LogStart)
		e.flag(a.Duplicate)
		c.send(answer{prefix: append(appendPrefix(nil, id, status, len(e.b), 0), e.b...), release: noRelease})
	}
	c.log(key).Append(a)
	return nil
}

const maxLogs = 1 << 16

// log returns the handle of a partition, kept as long as the connection; the
// reader's only.
func (c *serverConn) log(key logKey) span.Log {
	l := c.logs[key]
	if l == nil {
		if len(c.logs) >= maxLogs {
			for k, l := range c.logs {
				l.Release()
				delete(c.logs, k)
			}
		}
		l = c.store.Log(key.topic, key.partition)
		c.logs[key] = l
	}
	return l
}

// send queues an answer for the writer.
func (c *serverConn) send(a answer) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		a.release()
		return
	}
	c.out = append(c.out, a)
	c.cond.Broadcast()
	c.mu.Unlock()
}

// write is the writer: it sends what is queued with one system call.
func (c *serverConn) write() {
	var spare []answer
	var bufs net.Buffers
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closed {
			c.cond.Wait()
		}
		out := c.out
		c.out = spare[:0]
		closed := c.closed
		c.mu.Unlock()
		if !closed {
			bufs = bufs[:0]
			for i := range out {
				bufs = append(bufs, out[i].prefix)
				if len(out[i].body) > 0 {
					bufs = append(bufs, out[i].body)
				}
			}
			// WriteTo consumes its receiver.
			consume := bufs
			if err := c.conn.SetWriteDeadline(time.Now().Add(idleTimeout)); err != nil {
				closed = true
			} else if _, err := consume.WriteTo(c.conn); err != nil {
				closed = true
			}
		}
		for i := range out {
			out[i].release()
		}
		clear(out)
		clear(bufs)
		spare = out
		if closed {
			c.cut()
			c.mu.Lock()
			rest := c.out
			c.out = nil
			c.mu.Unlock()
			for i := range rest {
				rest[i].release()
			}
			return
		}
	}
}
