package testkit

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/braidstream/braid/internal/testkit/leaks"
)

// echo answers each line with the same line and tells what arrived.
type echo struct {
	listener net.Listener
	got      chan string
	wg       sync.WaitGroup
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{listener: l, got: make(chan string, 100)}
	e.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.wg.Go(func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					e.got <- line
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); e.wg.Wait() })
	return e
}

type peer struct {
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *peer {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &peer{c, bufio.NewReader(c)}
}

func (c *peer) say(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s+"\n"); err != nil {
		t.Fatal(err)
	}
}

func (c *peer) hear(t *testing.T, want string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := c.in.ReadString('\n'); err != nil || strings.TrimSpace(got) != want {
		t.Fatalf("got %q, %v; want %q", got, err, want)
	}
}

func (c *peer) silent(t *testing.T, d time.Duration) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	got, err := c.in.ReadString('\n')
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("got %q, %v; want silence", got, err)
	}
}

func (c *peer) broken(t *testing.T) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got, err := c.in.ReadString('\n')
	var ne net.Error
	if err == nil || (errors.As(err, &ne) && ne.Timeout()) {
		t.Fatalf("got %q, %v; want a broken connection", got, err)
	}
}

func TestProxyFaults(t *testing.T) {
	defer leaks.None(t, goleak.IgnoreCurrent())
	cases := map[string]func(*testing.T, *Proxy, *echo, *peer){
		"forward and count": func(t *testing.T, p *Proxy, _ *echo, c *peer) {
			if up, down := p.Bytes(Up), p.Bytes(Down); up != 6 || down != 6 || p.Bytes(Both) != 12 {
				t.Fatalf("counted %d up, %d down", up, down)
			}
			if p.Open() != 1 || p.Accepted() != 1 {
				t.Fatalf("%d open of %d", p.Open(), p.Accepted())
			}
		},
		"cut and heal": func(t *testing.T, p *Proxy, _ *echo, c *peer) {
			p.Cut()
			c.broken(t)
			if n, err := net.Dial("tcp", p.Addr()); err == nil {
				_ = n.Close()
				t.Fatal("a cut proxy took a connection")
			}
			heal(t, p)
			c = dial(t, p)
			c.say(t, "again")
			c.hear(t, "again")
		},
		"reset": func(t *testing.T, p *Proxy, _ *echo, c *peer) {
			p.Reset()
			c.broken(t)
			c = dial(t, p)
			c.say(t, "again")
			c.hear(t, "again")
		},
		"stall requests": func(t *testing.T, p *Proxy, e *echo, c *peer) {
			p.Stall(Up)
			c.say(t, "held")
			c.silent(t, 50*time.Millisecond)
			if len(e.got) != 0 {
				t.Fatal("a stalled request arrived")
			}
			heal(t, p)
			c.hear(t, "held")
		},
		"stall responses": func(t *testing.T, p *Proxy, e *echo, c *peer) {
			p.Stall(Down)
			c.say(t, "held")
			<-e.got
			c.silent(t, 50*time.Millisecond)
			heal(t, p)
			c.hear(t, "held")
		},
		"delay": func(t *testing.T, p *Proxy, _ *echo, c *peer) {
			p.Delay(Down, 80*time.Millisecond)
			start := time.Now()
			c.say(t, "late")
			c.hear(t, "late")
			if d := time.Since(start); d < 80*time.Millisecond {
				t.Fatalf("delayed by %s only", d)
			}
		},
		"drop after": func(t *testing.T, p *Proxy, e *echo, c *peer) {
			p.DropAfter(Up, 6)
			c.say(t, "whole")
			if got := <-e.got; got != "whole\n" {
				t.Fatalf("got %q", got)
			}
			// The reset may be here already, so this may fail.
			_, _ = io.WriteString(c, "gone\n")
			for {
				if _, err := c.in.ReadString('\n'); err != nil {
					break
				}
			}
			if len(e.got) != 0 {
				t.Fatalf("%q arrived past the limit", <-e.got)
			}
		},
		"lose responses": func(t *testing.T, p *Proxy, e *echo, c *peer) {
			p.LoseResponses()
			c.say(t, "lost")
			if got := <-e.got; got != "lost\n" {
				t.Fatalf("got %q", got)
			}
			c.silent(t, 50*time.Millisecond)
			heal(t, p)
			c.broken(t)
			c = dial(t, p)
			c.say(t, "again")
			c.hear(t, "again")
		},
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			e := newEcho(t)
			p := NewProxy(t, e.listener.Addr().String())
			c := dial(t, p)
			c.say(t, "hello")
			<-e.got
			c.hear(t, "hello")
			f(t, p, e, c)
		})
	}
}

func heal(t *testing.T, p *Proxy) {
	t.Helper()
	if err := p.Heal(); err != nil {
		t.Fatal(err)
	}
}

func TestProxyTarget(t *testing.T) {
	a, b := newEcho(t), newEcho(t)
	p := NewProxy(t, a.listener.Addr().String())
	p.SetTarget(b.listener.Addr().String())
	c := dial(t, p)
	c.say(t, "to b")
	c.hear(t, "to b")
	if len(b.got) != 1 || len(a.got) != 0 {
		t.Fatal("went to the old target")
	}
	p.SetTarget("127.0.0.1:1")
	// The reset comes after the handshake, so the dial may see it or the read.
	n, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return
	}
	defer n.Close()
	(&peer{n, bufio.NewReader(n)}).broken(t)
}
