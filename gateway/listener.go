package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// listener is one address that clients connect to.
type listener struct {
	g    *Gateway
	cfg  ListenerConfig
	nl   net.Listener
	self broker // this gateway, as clients of the listener see it
	addr string // advertised
	// certs is nil for plain TCP.
	certs *certificates
	done  chan struct{}
}

// open binds the listener and settles what it advertises.
func (g *Gateway) open(ctx context.Context, cfg ListenerConfig) (*listener, error) {
	nl := cfg.Listener
	if nl == nil {
		var lc net.ListenConfig
		var err error
		if nl, err = lc.Listen(ctx, "tcp", cfg.Bind); err != nil {
			return nil, fmt.Errorf("listener %s: %w", cfg.Name, err)
		}
	}
	if host, _, err := splitAddress(nl.Addr().String()); err == nil && cfg.Advertise == "" && net.ParseIP(host).IsUnspecified() {
		return nil, errors.Join(fmt.Errorf("listener %s binds to every address: say which one clients are told (advertise)", cfg.Name), nl.Close())
	}
	l := &listener{g: g, cfg: cfg, nl: nl, addr: cfg.Advertise, done: make(chan struct{})}
	if l.addr == "" {
		l.addr = nl.Addr().String()
	}
	host, port, err := splitAddress(l.addr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listener %s: advertised address %q: %w", cfg.Name, l.addr, err), nl.Close())
	}
	l.self = broker{host: host, port: port, rack: firstOf(cfg.Zone, g.opts.Zone)}
	if cfg.TLS != nil {
		l.certs = &certificates{files: *cfg.TLS}
		if _, err := l.certs.load(); err != nil {
			return nil, errors.Join(fmt.Errorf("listener %s: %w", cfg.Name, err), nl.Close())
		}
	}
	return l, nil
}

// asks tells whether connections have to do something before they are served.
func (l *listener) asks() bool { return l.certs != nil || l.cfg.Demand }

// accept takes connections until the listener is closed.
func (l *listener) accept() {
	defer close(l.done)
	pause := time.Duration(0)
	for {
		nc, err := l.nl.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, or a client that was gone too soon: it
			// passes.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if l.g.limiter.allow() {
				l.g.log.Warn("accept failed", "listener", l.cfg.Name, "err", err)
			}
			select {
			case <-time.After(pause):
			case <-l.g.ctx.Done():
				return
			}
			continue
		}
		pause = 0
		l.g.admit(l, nc)
	}
}

// admit starts to serve a connection, or closes it.
func (g *Gateway) admit(l *listener, nc net.Conn) {
	c := g.newConn(l, nc)
	refuse, left := "", 0
	if l.asks() {
		left = g.penalties.leftOf(origin(c.host))
	}
	var yielded *conn
	g.mu.Lock()
	switch {
	case g.state != running:
		refuse = leaving
	case len(g.conns) >= g.cfg.MaxConnections:
		refuse = "max.connections"
	case g.cfg.MaxPerIP > 0 && g.perIP[c.host] >= g.cfg.MaxPerIP:
		refuse = "max.connections.per.ip"
	case l.asks() && len(g.unknownFrom[origin(c.host)])+left >= g.cfg.MaxUnauthenticatedPerIP:
		refuse = "braid.max.unauthenticated.per.ip"
	// No more than half of all: who is not known yet does not keep out who is.
	case l.asks() && g.unknown >= min(g.cfg.MaxUnauthenticated, max(1, g.cfg.MaxConnections/2)):
		if yielded = g.yields(origin(c.host)); yielded == nil {
			refuse = "braid.max.unauthenticated"
		}
	}
	if refuse == "" {
		if l.asks() {
			g.strange(c)
		}
		g.conns[c] = struct{}{}
		g.perIP[c.host]++
		g.serving.Add(1)
		if yielded != nil {
			g.serving.Add(1)
		}
	}
	g.mu.Unlock()
	if yielded != nil {
		go func() { // TLS takes leave of who does not read for seconds
			defer g.serving.Done()
			yielded.end(errYielded)
		}()
	}
	if refuse != "" {
		g.metrics.accepted.WithLabelValues(l.cfg.Name, "refused").Inc()
		c.cancel()
		end := nc.Close // not TLS's: nobody waits for its farewell
		if refuse == leaving {
			end = func() error { return reset(nc) }
		}
		if err := end(); err != nil {
			g.log.Debug("close of a refused connection", "peer", c.peer, "err", err)
		}
		if g.limiter.allow() {
			g.log.Warn("connection refused", "peer", c.peer, "listener", l.cfg.Name, "reason", refuse)
		}
		return
	}
	g.metrics.accepted.WithLabelValues(l.cfg.Name, "served").Inc()
	g.metrics.connections.WithLabelValues(l.cfg.Name).Inc()
	go func() {
		defer g.serving.Done()
		c.serve()
	}()
}

// leaving is why a gateway that drains refuses a connection.
const leaving = "shutting down"

// reset ends a connection that was never read from by a reset: clients take
// that for a broker that is gone, but an orderly end for one that wants TLS.
func reset(nc net.Conn) error {
	if tcp, ok := nc.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return errors.Join(err, nc.Close())
		}
	}
	return nc.Close()
}

// connEnded forgets a connection and says why it ended, where that is worth a line.
func (g *Gateway) connEnded(c *conn, err error) {
	g.mu.Lock()
	delete(g.conns, c)
	if g.perIP[c.host]--; g.perIP[c.host] <= 0 {
		delete(g.perIP, c.host)
	}
	g.letIn(c)
	g.mu.Unlock()
	g.metrics.connections.WithLabelValues(c.l.cfg.Name).Dec()
	reason := "bad"
	if quietEnd(err) {
		reason = "quiet"
	}
	g.metrics.ended.WithLabelValues(reason).Inc()
	if reason == "quiet" {
		g.log.Debug("connection ended", "peer", c.peer, "listener", c.l.cfg.Name, "err", err)
		return
	}
	if g.limiter.allow() {
		var by called
		if p := c.called.Load(); p != nil {
			by = *p
		}
		g.log.Warn("connection closed", "peer", c.peer, "listener", c.l.cfg.Name, "client", by.client, "software", by.software,
			"err", err, "withheld", g.limiter.missed())
	}
}

// isHangup tells whether the client left.
func isHangup(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
