package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

// conn is one client connection.
//
// Kafka answers a connection's requests in their order, and works on one at a
// time: it reads no further until the answer is out. We keep the order, and
// read ahead only where that cannot be seen: a Produce begins while those
// before it are still being appended, in the order of arrival; anything else
// waits until all before it are answered.
//
// Goroutines: the reader, which also works on everything but Produce and writes
// those answers itself; and the answerer of Produce requests, started by the
// first of them. Appends end on goroutines of their stores, which only mark the
// flight as done.
type conn struct {
	g    *Gateway
	l    *listener
	nc   net.Conn
	peer string // host:port
	host string
	// tenant and principal say whose connection it is: what the listener lets in
	// unasked, until the client has authenticated. Only the reader changes them.
	tenant    string
	principal tenant.Principal
	// rules are those of the tenant rulesOf at the snapshot rulesAt, subject is subjectOf as they
	// know it, and quota is what holds for it with the client id quotaOf (see look).
	quota   *quota.Client
	quotaOf string
	// muted is until when nothing is read, since a quota was exceeded (see throttle).
	muted     time.Time
	full      bool           // the tenant's storage is
	account   *usage.Account // of the tenant; nil until it is known
	pass      fair.Pass      // of the request that is worked on
	queued    time.Duration  // for how long it has waited for turns
	refused   error          // why it is not served, although it is known whose it is
	rules     *acl.Index
	rulesAt   *catalog.Snapshot
	rulesOf   string // the tenant
	subject   acl.Subject
	subjectOf tenant.Principal
	granted   granted
	// only is the tenant that listener and server name leave; "" is any.
	only     string
	label    string                // the tenant as the TLS server name said it
	auth     *auth                 // nil: nobody asked, and the client did not begin it
	chains   [][]*x509.Certificate // of the client's certificate, from before standing is set
	standing atomic.Pointer[standing]
	unknown  bool        // counted as not authenticated; under g.mu
	patience *time.Timer // ends the connection unless it is authenticated by then
	used     bool        // a request was served that needs rights
	log      *slog.Logger

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	sock     *wire.Socket // nil unless plain TCP
	in       deadlineReader
	frames   *wire.FrameReader
	arrived  arrival
	clientID string // of the latest request
	software string // what ApiVersions v3+ said: name/version
	called   atomic.Pointer[called]
	sessions sessions
	fetch    fetcher
	call     call

	mu       sync.Mutex
	flights  flightQueue
	bytes    int64      // of the flights' frames
	changed  *sync.Cond // of mu: a flight ended, the queue shrank, or the connection broke
	answerer bool       // the goroutine runs
	// answering counts flights that left the queue and are not written yet.
	answering int
	answered  chan struct{}
	// rest is what answerNow could not write of the answers of restOf, or restErr
	// why it wrote none. It is the answerer's to end with.
	rest    []byte
	restErr error
	restOf  []*flight
	broken  bool // nothing more is written
	cause   error

	draining atomic.Bool
	fetching atomic.Bool // a Fetch waits for records
}

func (g *Gateway) newConn(l *listener, nc net.Conn) *conn {
	ctx, cancel := context.WithCancel(g.ctx)
	nc = l.secure(nc)
	c := &conn{
		g: g, l: l, nc: nc,
		peer:   nc.RemoteAddr().String(),
		host:   hostOf(nc.RemoteAddr()),
		tenant: g.tenantOf(l), principal: tenant.Anonymous(), only: l.cfg.Tenant,
		log: g.log,
		ctx: ctx, cancel: cancel,
	}
	c.changed = sync.NewCond(&c.mu)
	c.sock = wire.NewSocket(nc)
	c.in = deadlineReader{nc: nc, sock: c.sock, idle: g.cfg.HandshakeTimeout, frame: g.cfg.FrameTimeout, rate: g.cfg.FrameRate, received: g.metrics.bytesIn}
	largest := int(g.cfg.MaxRequestBytes)
	if l.asks() {
		largest = min(largest, preAuthFrame)
		if len(l.cfg.Mechanisms) > 0 && l.cfg.Demand {
			c.auth = &auth{}
		}
	}
	c.frames = wire.NewFrameReader(&c.in, largest)
	c.frames.SetRoom(c.arrives)
	c.sessions.init(g)
	return c
}

// called is what a client calls itself, for whoever ends its connection: the
// reader may be at work meanwhile. It is immutable.
type called struct{ client, software string }

// named publishes what the client calls itself now.
func (c *conn) named() { c.called.Store(&called{c.clientID, c.software}) }

// serve reads requests until the connection ends.
func (c *conn) serve() {
	err := c.open()
	if err == nil {
		err = c.refused
	}
	if err == nil {
		err = c.readLoop()
	}
	if errors.Is(err, errDraining) {
		// What was taken up is answered first; if that fails, it is the cause.
		if broken := c.settled(); broken != nil {
			err = broken
		}
	}
	c.end(err)
	c.account.Close()
	c.sessions.close()
	c.fetch.closePending()
	if c.answered != nil {
		<-c.answered
	}
}

// open does what comes before the first request.
func (c *conn) open() error {
	if !c.l.asks() {
		return c.letInUnasked()
	}
	c.mu.Lock() // of patience, which whoever ends the connection looks at
	if !c.broken {
		c.patience = time.AfterFunc(c.g.cfg.AuthTimeout, func() { c.end(errAuthTimeout) })
	}
	c.mu.Unlock()
	return c.handshake()
}

func (c *conn) readLoop() (err error) {
	defer c.leaves()
	defer func() {
		// A bug met by one client's bytes must not take the others down with it.
		if p := recover(); p != nil {
			err = fmt.Errorf("bug: %v", p)
			c.log.Error("panic while serving a client", "peer", c.peer, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	for {
		if err := c.g.budget.wait(c.ctx, c.account); err != nil {
			return err
		}
		if err := c.room(); err != nil {
			return err
		}
		if !c.muted.IsZero() {
			if err := c.unmute(); err != nil {
				return err
			}
		}
		if c.draining.Load() && c.in.greeted && c.frames.Buffered() == 0 {
			return errDraining
		}
		c.in.between(c.frames.Buffered() == 0)
		frame, err := c.frames.Next()
		if err != nil {
			return err
		}
		c.whole()
		c.in.idle, c.in.greeted = c.g.cfg.IdleTimeout, true
		err = c.request(frame)
		c.leaves()
		if err != nil {
			return err
		}
	}
}

// request works on one frame, which it owns.
func (c *conn) request(frame *wire.Buffer) error {
	start := time.Now()
	if c.auth != nil && c.auth.raw {
		return c.rawToken(frame, start)
	}
	h, body, err := wire.ParseHeader(frame.B)
	if err != nil {
		defer frame.Release()
		// A version of ApiVersions that we do not know is answered, so that the
		// client can pick another (KIP-511); a broker closes on all else.
		if errors.Is(err, wire.ErrUnknownVersion) && h.Key == keyApiVersions {
			if c.auth != nil {
				if err := c.allow(h.Key, len(frame.B), start); err != nil {
					return err
				}
			}
			return c.versionMismatch(h, start)
		}
		return err
	}
	if c.auth != nil {
		if err := c.allow(h.Key, len(frame.B), start); err != nil {
			frame.Release()
			return err
		}
	}
	api := c.g.apis.find(h.Key)
	if api == nil || h.Version < api.min || h.Version > api.max {
		defer frame.Release()
		if h.Key == keyApiVersions {
			return c.versionMismatch(h, start)
		}
		return fmt.Errorf("%w: key %d version %d is not served", wire.ErrUnknownVersion, h.Key, h.Version)
	}
	if string(h.ClientID) != c.clientID {
		c.clientID = string(h.ClientID)
		c.named()
	}
	if !c.used && !signsOn(h.Key) {
		c.used = true
		if err := c.taken(); err != nil {
			frame.Release()
			return err
		}
	}
	c.account.Request()
	if err := c.look(); err != nil {
		frame.Release()
		return err
	}
	c.queued = 0
	defer c.finish()
	if h.Key == keyProduce {
		if err := c.enters(frame); err != nil {
			frame.Release()
			return err
		}
		if err := c.begin(); err != nil {
			c.g.budget.put(int64(frame.Cap()), c.account)
			frame.Release()
			return err
		}
		return c.produce(frame, h, body, start)
	}
	defer frame.Release()
	if err := c.settled(); err != nil {
		return err
	}
	c.call = call{asker: c.asker(h.Key), header: h, frame: frame, body: body, start: start, tenant: c.tenant, principal: c.principal, ctx: c.ctx}
	err = api.serve(&c.call)
	c.call = call{}
	return err
}

// room waits until another request may be taken up.
func (c *conn) room() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken && c.flights.n+c.answering > 0 && (c.flights.n+c.answering >= c.g.cfg.InflightPerConn || c.bytes >= c.g.cfg.InflightConnBytes) {
		c.changed.Wait()
	}
	return c.cause
}

// settled waits until every earlier request was answered.
func (c *conn) settled() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.broken && c.flights.n+c.answering > 0 {
		c.changed.Wait()
	}
	return c.cause
}

// end breaks the connection. The first cause stays.
func (c *conn) end(err error) {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		return
	}
	c.broken = true
	if c.patience != nil {
		c.patience.Stop()
	}
	if err == nil {
		err = io.EOF
	}
	c.cause = err
	c.changed.Broadcast()
	// What is done is given back now, the rest when its last append ends.
	for c.flights.n > 0 {
		f := c.flights.pop()
		c.bytes -= int64(f.size)
		if f.done {
			f.free()
		} else {
			f.orphan = true
		}
	}
	c.mu.Unlock()
	c.cancel()
	if cerr := c.leave(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		c.log.Debug("close of a client connection", "peer", c.peer, "err", cerr)
	}
	c.g.connEnded(c, err)
}

// leave closes the connection so that its client reads what it was told last, and then the end, as from Apache
// Kafka: a socket that is closed with bytes that nobody read is reset, and clients that speak TLS to a port without
// it go by which of the two they see. One that drains had rather be taken for a broker that is gone: see reset.
func (c *conn) leave() error {
	tcp, ok := c.nc.(*net.TCPConn)
	if !ok || c.draining.Load() {
		return c.nc.Close()
	}
	if err := tcp.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
		return errors.Join(err, tcp.Close())
	}
	return tcp.Close()
}

// drain makes the reader stop at the next pause between requests.
func (c *conn) drain() {
	c.draining.Store(true)
	c.in.interrupt()
}

// write sends bytes to the client; the caller is the only writer at that time.
func (c *conn) write(b []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.WriteTimeout)); err != nil {
		return err
	}
	n, err := c.nc.Write(b)
	c.sent(int64(n))
	return err
}

// sent counts bytes that went to the client.
func (c *conn) sent(n int64) {
	c.g.metrics.bytesOut.Add(float64(n))
	c.account.Sent(n)
}

// writeBoth is write for a frame in two pieces, which are not copied together.
func (c *conn) writeBoth(head, body []byte) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.WriteTimeout)); err != nil {
		return err
	}
	pieces := net.Buffers{head, body}
	n, err := pieces.WriteTo(c.nc)
	c.sent(n)
	return err
}

// writeScatter sends pieces with one system call, as far as the kernel takes them.
func (c *conn) writeScatter(s *wire.Scatter) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.WriteTimeout)); err != nil {
		return err
	}
	n, err := s.WriteTo(c.nc)
	c.sent(n)
	return err
}

func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}
