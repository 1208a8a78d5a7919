package console

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// patience is how long a test waits for what has to come.
const patience = 2 * time.Minute

// gated is a server behind a gate, whose /in signs on, whose /wait signs on and
// answers when it is let, and whose other pages are for strangers.
type gated struct {
	t    *testing.T
	gate *bounded
	addr string
	in   chan struct{} // a /wait has begun
	let  chan struct{}
}

func newGated(t *testing.T, most, perAddress int, idle time.Duration, from func(net.Conn) net.Addr) *gated {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gated{t: t, addr: ln.Addr().String(), in: make(chan struct{}, 100), let: make(chan struct{})}
	g.gate = newBounded(&foreign{ln, from}, most, perAddress, idle)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "stranger") })
	mux.HandleFunc("/in", func(w http.ResponseWriter, r *http.Request) { signedOn(r); plain(w, http.StatusOK, "in") })
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		signedOn(r)
		g.in <- struct{}{}
		<-g.let
		plain(w, http.StatusOK, "waited")
	})
	srv := &http.Server{Handler: mux, ConnState: g.gate.state, ConnContext: g.gate.context}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(g.gate) }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return g
}

// foreign is a listener whose connections come from addresses of the test's choice.
type foreign struct {
	net.Listener
	from func(net.Conn) net.Addr
}

func (f *foreign) Accept() (net.Conn, error) {
	nc, err := f.Listener.Accept()
	if err != nil || f.from == nil {
		return nc, err
	}
	return &foreignConn{nc, f.from(nc)}, nil
}

type foreignConn struct {
	net.Conn
	at net.Addr
}

func (c *foreignConn) RemoteAddr() net.Addr { return c.at }

// client is one connection.
type client struct {
	g *gated
	net.Conn
	r *bufio.Reader
}

func (g *gated) dial() *client {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = nc.Close() }) // the server may have been quicker
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	return &client{g, nc, bufio.NewReader(nc)}
}

// get asks for a page; an error is a connection that was closed.
func (c *client) get(path string) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return err
	}
	return c.answer()
}

func (c *client) answer() error {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// open gets a page on a new connection and waits until the server holds it for idle.
func (g *gated) open(path string) *client {
	g.t.Helper()
	c := g.dial()
	if err := c.get(path); err != nil {
		g.t.Fatal(err)
	}
	g.until(func() bool {
		for x := range g.gate.all {
			if x.busy {
				return false
			}
		}
		return true
	})
	return c
}

// until waits for a state of the gate.
func (g *gated) until(cond func() bool) {
	g.t.Helper()
	for end := time.Now().Add(patience); ; {
		g.gate.mu.Lock()
		ok := cond()
		g.gate.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(end) {
			g.t.Fatal("the gate never came to that")
		}
		<-time.After(time.Millisecond)
	}
}

// closed waits until the server has closed the connection.
func (c *client) closed() {
	c.g.t.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		c.g.t.Fatalf("it is open, and says %q", b)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.g.t.Fatal("it was never closed")
	}
}

// Idle connections keep nobody out: the oldest goes for a new one, strangers' first.
// Those that are waiting for an answer stay.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	t.Parallel()
	g := newGated(t, 3, 100, time.Hour, nil)
	in, one, two := g.open("/in"), g.open("/healthz"), g.open("/healthz")
	three := g.open("/healthz")
	one.closed()
	four := g.open("/in")
	two.closed()
	five := g.open("/in")
	three.closed()
	for _, c := range []*client{in, four, five} {
		if err := c.get("/in"); err != nil {
			t.Errorf("one who has signed on was cut off: %v", err)
		}
	}
	waiting := make(chan error, 3)
	for _, c := range []*client{in, four, five} {
		go func() { waiting <- c.get("/wait") }()
	}
	for range 3 {
		<-g.in
	}
	g.dial().closed() // all are busy
	close(g.let)
	for range 3 {
		if err := <-waiting; err != nil {
			t.Errorf("one who waited: %v", err)
		}
	}
	g.until(func() bool {
		for x := range g.gate.all {
			if !x.busy {
				return true
			}
		}
		return false
	})
	g.open("/healthz")
}

// One address has so many connections and no more, whatever room there is; those of
// this machine are one another's neighbours.
func TestConnectionsOfAnAddress(t *testing.T) {
	t.Parallel()
	at := make(chan string, 1)
	g := newGated(t, 100, 2, time.Hour, func(net.Conn) net.Addr {
		return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(<-at))
	})
	from := func(addr string) *client {
		at <- addr
		return g.open("/healthz")
	}
	other, one, two := from("192.0.2.2:1"), from("192.0.2.1:1"), from("192.0.2.1:2")
	three := from("[::ffff:192.0.2.1]:3") // the same
	one.closed()
	for range 5 {
		from("127.0.0.1:1")
	}
	for _, c := range []*client{other, two, three} {
		if err := c.get("/healthz"); err != nil {
			t.Error(err)
		}
	}
	g.until(func() bool { return len(g.gate.all) == 8 && g.gate.from[netip.MustParseAddr("192.0.2.1")] == 2 })
}

// A stranger's idle connection is closed soon, also one that never said anything;
// that of one who has signed on is not.
func TestStrangersAreNotKept(t *testing.T) {
	t.Parallel()
	g := newGated(t, 100, 100, 50*time.Millisecond, nil)
	silent := g.dial()
	silent.closed()
	// One that is slow to send is closed before it has.
	asked := g.dial()
	for asked.get("/healthz") != nil {
		asked = g.dial()
	}
	asked.closed()
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		for g.dial().get("/wait") != nil {
		}
	}()
	<-g.in
	other := g.dial()
	other.closed() // longer than the first has waited
	close(g.let)
	<-waiting
	if len(g.in) != 0 {
		t.Error("one who waited was cut off")
	}
	g.until(func() bool {
		for x := range g.gate.all {
			if !x.busy && x.signed && x.timer == nil {
				return true
			}
		}
		return false
	})
	g.until(func() bool { return len(g.gate.all) == 1 && len(g.gate.from) == 1 })
}
