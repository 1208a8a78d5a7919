package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Bounds of the admin port's connections: whoever reaches it may open one before
// anybody knows who it is.
const (
	maxConnections = 1024
	// maxPerAddress bounds those of one address; of loopback only the total is bounded,
	// since a proxy on this machine speaks for everybody.
	maxPerAddress = 64
	// strangerIdle is how long a connection may be idle on which nobody has signed on.
	strangerIdle = 15 * time.Second
)

// bounded is a listener that has at most so many connections, in all and of one
// address. When there are as many, the one that has been idle longest is closed for
// a new one, those first on which nobody has signed on; where all are busy with
// requests of those who have, the new one is closed. An [http.Server] has to tell
// its states and contexts by state and context.
type bounded struct {
	net.Listener
	most, perAddress int
	idle             time.Duration // of strangers

	mu   sync.Mutex
	all  map[*counted]struct{}
	from map[netip.Addr]int
	turn uint64 // counts changes of state, so that they have an order
}

func newBounded(ln net.Listener, most, perAddress int, idle time.Duration) *bounded {
	return &bounded{Listener: ln, most: most, perAddress: perAddress, idle: idle,
		all: map[*counted]struct{}{}, from: map[netip.Addr]int{}}
}

// counted is a connection that is counted until it is closed. Its fields below b are
// under b.mu.
type counted struct {
	net.Conn
	b    *bounded
	addr netip.Addr

	gone   bool
	signed bool   // somebody has signed on
	busy   bool   // has begun to send a request that is not answered
	since  uint64 // the turn of the last change
	timer  *time.Timer
}

// Accept implements [net.Listener].
func (b *bounded) Accept() (net.Conn, error) {
	for {
		nc, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &counted{Conn: nc, b: b, addr: addressOf(nc)}
		victim, ok := b.admit(c)
		if victim != nil {
			victim.drop()
		}
		if ok {
			return c, nil
		}
		_ = nc.Close() // nothing was said on it
	}
}

func addressOf(nc net.Conn) netip.Addr {
	at, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// admit counts a connection in, and tells which one has to go for it.
func (b *bounded) admit(c *counted) (victim *counted, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !c.addr.IsLoopback() && b.from[c.addr] >= b.perAddress:
		victim = b.oldest(func(x *counted) bool { return x.addr == c.addr })
	case len(b.all) >= b.most:
		victim = b.oldest(func(*counted) bool { return true })
	default:
		ok = true
	}
	if victim != nil {
		b.leave(victim)
		ok = true
	}
	if ok {
		b.all[c] = struct{}{}
		b.from[c.addr]++
		b.changed(c)
	}
	return victim, ok
}

// oldest finds the connection that can best be done without, nil if there is none.
// A stranger's counts as idle also while it sends: its requests are short.
// Needs b.mu.
func (b *bounded) oldest(among func(*counted) bool) (found *counted) {
	for x := range b.all {
		switch {
		case x.signed && x.busy || !among(x):
		case found == nil, found.signed && !x.signed, found.signed == x.signed && x.since < found.since:
			found = x
		}
	}
	return found
}

// changed notes a change of state, and has a stranger's connection closed when it
// was idle for long. Needs b.mu.
func (b *bounded) changed(c *counted) {
	b.turn++
	c.since = b.turn
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if c.signed || c.busy || c.gone {
		return
	}
	at := c.since
	c.timer = time.AfterFunc(b.idle, func() {
		b.mu.Lock()
		still := !c.gone && c.since == at
		b.mu.Unlock()
		if still {
			c.drop()
		}
	})
}

// leave counts a connection out, once. Needs b.mu.
func (b *bounded) leave(c *counted) {
	if c.gone {
		return
	}
	c.gone = true
	delete(b.all, c)
	if b.from[c.addr]--; b.from[c.addr] <= 0 {
		delete(b.from, c.addr)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
}

// drop closes a connection that the server still has; that finds out by itself.
func (c *counted) drop() {
	_ = c.Close() // the peer is not owed anything
}

// Close implements [net.Conn].
func (c *counted) Close() error {
	c.b.mu.Lock()
	c.b.leave(c)
	c.b.mu.Unlock()
	err := c.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil // closed for another one
	}
	return err
}

// countedOf finds the counted connection below what the server has.
func countedOf(nc net.Conn) *counted {
	for {
		switch x := nc.(type) {
		case *counted:
			return x
		case interface{ NetConn() net.Conn }: // TLS
			nc = x.NetConn()
		default:
			return nil
		}
	}
}

// state is for [http.Server.ConnState].
func (b *bounded) state(nc net.Conn, s http.ConnState) {
	c := countedOf(nc)
	if c == nil || s == http.StateNew {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c.busy = s == http.StateActive
	b.changed(c)
}

type connKey struct{}

// context is for [http.Server.ConnContext].
func (b *bounded) context(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, countedOf(nc))
}

// signedOn notes that who sends a request has said who it is, and may.
func signedOn(r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*counted)
	if c == nil {
		return
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if !c.signed {
		c.signed = true
		c.b.changed(c)
	}
}
