package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/remote"
)

// cutter stands between a client and a server and breaks their connections.
type cutter struct {
	l  net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
	mute  bool // what the server says is swallowed
	down  bool // new connections are closed at once
	wg    sync.WaitGroup
}

func newCutter(t *testing.T, to string) *cutter {
	c := &cutter{l: listen(t, "127.0.0.1:0"), to: to}
	c.wg.Go(c.accept)
	t.Cleanup(func() {
		_ = c.l.Close()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		down := c.down
		c.mu.Unlock()
		if down {
			_ = in.Close()
			continue
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, in, out)
		c.mu.Unlock()
		c.wg.Go(func() { c.pump(out, in, false) })
		c.wg.Go(func() { c.pump(in, out, true) })
	}
}

func (c *cutter) pump(dst, src net.Conn, answers bool) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		c.mu.Lock()
		mute := c.mute && answers
		c.mu.Unlock()
		if n > 0 && !mute {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return
			}
			return
		}
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func (c *cutter) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

func (c *cutter) setMute(v bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mute = v
}

// world is an engine behind a server behind a cutter.
func world(t *testing.T) (engineStore span.Store, c *cutter, client *remote.Store, topic span.Topic) {
	s := engine(t, t.TempDir())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	srv := serve(t, listen(t, "127.0.0.1:0"), s)
	c = newCutter(t, srv.Addr().String())
	client = remote.Dial(c.l.Addr().String(), token, "here")
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	topic, err := s.Create(context.Background(), span.Spec{Name: "t", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	return s, c, client, topic
}

func one(t testing.TB, b *batch.Builder, value string) []byte {
	t.Helper()
	raw, err := b.Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(value)}).Build()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func start(l span.Log, b []byte, deadline time.Duration) <-chan *span.Append {
	done := make(chan *span.Append, 1)
	l.Append(&span.Append{Batch: b, Deadline: time.Now().Add(deadline), Done: func(a *span.Append) { done <- a }})
	return done
}

// TestResend cuts the connection again and again under a producer: each batch lands once and
// in order, and the producer sees no error.
func TestResend(t *testing.T) {
	s, c, client, topic := world(t)
	l := client.Log(topic, 1)
	defer l.Release()
	const n = 400
	// As many in flight as a client of Kafka has: the log remembers no more.
	window := make(chan struct{}, 5)
	var wg sync.WaitGroup
	offsets := make([]int64, n)
	errs := make([]error, n)
	for i := range int32(n) {
		window <- struct{}{}
		wg.Add(1)
		raw := one(t, batch.NewBuilder().Producer(1<<40, 0, i), fmt.Sprint(i))
		l.Append(&span.Append{Batch: raw, Done: func(a *span.Append) {
			offsets[i], errs[i] = a.BaseOffset, a.Err
			<-window
			wg.Done()
		}})
		if i%40 == 20 {
			c.cut()
		}
	}
	wg.Wait()
	for i := range n {
		if errs[i] != nil || offsets[i] != int64(i) {
			t.Fatalf("batch %d: offset %d, %v", i, offsets[i], errs[i])
		}
	}
	direct := s.Log(topic, 1)
	defer direct.Release()
	if o, err := direct.Offsets(context.Background()); err != nil || o.End != n {
		t.Fatalf("%+v, %v, want end %d", o, err, n)
	}
}

// TestUnknownOutcome: without a producer id, an append whose answer was lost is
// never sent again.
func TestUnknownOutcome(t *testing.T) {
	s, c, client, topic := world(t)
	l := client.Log(topic, 0)
	defer l.Release()
	if a := <-start(l, one(t, batch.NewBuilder(), "a"), time.Minute); a.Err != nil {
		t.Fatal(a.Err)
	}
	direct := s.Log(topic, 0)
	defer direct.Release()
	c.setMute(true)
	lost := start(l, one(t, batch.NewBuilder(), "b"), time.Minute)
	r, err := direct.Read(context.Background(), span.ReadRequest{Offset: 1, MaxWait: time.Minute})
	if err != nil || len(r.Batches) == 0 {
		t.Fatalf("it did not get there: %v", err)
	}
	r.Release()
	c.cut()
	c.setMute(false)
	if a := <-lost; !errors.Is(a.Err, span.ErrUnknownOutcome) || errors.Is(a.Err, span.ErrUnavailable) {
		t.Fatalf("append whose answer was lost: %v", a.Err)
	}
	if a := <-start(l, one(t, batch.NewBuilder(), "c"), time.Minute); a.Err != nil || a.BaseOffset != 2 {
		t.Fatalf("next append: %+v", a)
	}
}

// TestSilence: a peer that says nothing costs an append no more than its deadline.
func TestSilence(t *testing.T) {
	_, c, client, topic := world(t)
	l := client.Log(topic, 0)
	defer l.Release()
	if err := l.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.setMute(true)
	a := <-start(l, one(t, batch.NewBuilder().Producer(1<<40, 0, 0), "a"), 300*time.Millisecond)
	if !errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Fatalf("append without an answer: %v", a.Err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := l.Probe(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("probe without an answer: %v", err)
	}
	c.cut()
	c.setMute(false)
	if err := l.Probe(context.Background()); err != nil && !errors.Is(err, span.ErrUnavailable) {
		t.Fatal(err)
	}
}

// TestAway: nothing is there at all.
func TestAway(t *testing.T) {
	addr := testkit.Addr(t) // nobody else's, and no connection's own end
	client := remote.Dial(addr, token, "here")
	defer client.Close()
	if _, err := client.Health(context.Background()); !errors.Is(err, span.ErrUnavailable) {
		t.Fatalf("health: %v", err)
	}
	log := client.Log(span.Topic{Name: "t"}, 0)
	defer log.Release()
	waiting := start(log, one(t, batch.NewBuilder(), "a"), time.Hour)
	a := <-start(log, one(t, batch.NewBuilder(), "a"), 50*time.Millisecond)
	if !errors.Is(a.Err, span.ErrUnavailable) {
		t.Fatalf("append that was never sent: %v", a.Err)
	}
	// It comes up: what still waits gets there.
	s := engine(t, t.TempDir())
	defer s.Close()
	serve(t, listen(t, addr), s)
	if a := <-waiting; !errors.Is(a.Err, span.ErrGone) {
		t.Fatalf("append to a topic that is not there: %v", a.Err)
	}
}

// TestKnownAway: who meets the absence of the owner first waits for it a little. Whoever comes
// later does not, until it is back.
func TestKnownAway(t *testing.T) {
	_, c, _, topic := world(t)
	const first = 500 * time.Millisecond
	client := remote.Dial(c.l.Addr().String(), token, "here", remote.AwayAfter(first))
	defer client.Close()
	log := client.Log(topic, 0)
	defer log.Release()
	next := int32(0)
	send := func() *span.Append {
		return <-start(log, one(t, batch.NewBuilder().Producer(1<<40, 0, next), fmt.Sprint(next)), time.Hour)
	}
	if a := send(); a.Err != nil {
		t.Fatal(a.Err)
	}
	next++
	c.setDown(true)
	c.cut()
	began := time.Now()
	if a := send(); !errors.Is(a.Err, span.ErrUnavailable) && !errors.Is(a.Err, span.ErrUnknownOutcome) {
		t.Fatalf("the first append to an owner that is away: %v", a.Err)
	}
	t.Logf("the first append waited %v", time.Since(began))
	const more = 200
	began = time.Now()
	for range more {
		if a := send(); !errors.Is(a.Err, span.ErrUnavailable) || errors.Is(a.Err, span.ErrUnknownOutcome) {
			t.Fatalf("a later append to an owner that is away: %v", a.Err)
		}
	}
	took := time.Since(began)
	t.Logf("%d more took %v", more, took)
	if took > more*first/2 {
		t.Errorf("%d more took %v: as if each had waited", more, took)
	}
	c.setDown(false)
	end := time.Now().Add(3 * time.Minute)
	for {
		a := send()
		if a.Err == nil {
			break
		}
		if !errors.Is(a.Err, span.ErrUnavailable) || time.Now().After(end) {
			t.Fatalf("an append after the owner is back: %v", a.Err)
		}
	}
}

// TestBackUnseen: an owner comes back while nobody appends. The first who does is not refused for
// its absence.
func TestBackUnseen(t *testing.T) {
	_, c, _, topic := world(t)
	client := remote.Dial(c.l.Addr().String(), token, "here", remote.AwayAfter(100*time.Millisecond))
	defer client.Close()
	log := client.Log(topic, 0)
	defer log.Release()
	send := func(seq int32) error {
		return (<-start(log, one(t, batch.NewBuilder().Producer(1<<40, 0, seq), fmt.Sprint(seq)), time.Hour)).Err
	}
	if err := send(0); err != nil {
		t.Fatal(err)
	}
	c.setDown(true)
	c.cut()
	if err := send(1); !errors.Is(err, span.ErrUnavailable) && !errors.Is(err, span.ErrUnknownOutcome) {
		t.Fatalf("an append to an owner that is away: %v", err)
	}
	c.setDown(false)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); client.Missing(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("nobody looks whether the owner is back")
		}
	}
	if err := send(1); err != nil {
		t.Errorf("the first append after the owner came back: %v", err)
	}
}

func TestRefused(t *testing.T) {
	s := engine(t, t.TempDir())
	defer s.Close()
	srv := serve(t, listen(t, "127.0.0.1:0"), s)
	for _, c := range []struct {
		token, name string
		want        error
	}{{"wrong", "here", span.ErrDenied}, {"", "here", span.ErrDenied}, {token, "elsewhere", span.ErrUnavailable}} {
		client := remote.Dial(srv.Addr().String(), c.token, c.name)
		if _, err := client.Health(context.Background()); !errors.Is(err, c.want) {
			t.Errorf("token %q, store %q: %v", c.token, c.name, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	// Somebody who speaks something else is cut off, others go on.
	conn, err := net.Dial("tcp", srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: example\r\nAccept: everything there is, and then some more\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n != 0 {
		t.Errorf("a stranger got %d bytes, %v", n, err)
	}
	client := remote.Dial(srv.Addr().String(), token, "here")
	defer client.Close()
	if h, err := client.Health(context.Background()); err != nil || h.ClusterID != s.ID() {
		t.Fatalf("%+v, %v", h, err)
	}
}

// TestCancelledRead: the server's side of a read ends with the client's.
func TestCancelledRead(t *testing.T) {
	_, _, client, topic := world(t)
	l := client.Log(topic, 0)
	defer l.Release()
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			r, err := l.Read(ctx, span.ReadRequest{Offset: 0, MaxWait: time.Hour})
			r.Release()
			done <- err
		}()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if a := <-start(l, one(t, batch.NewBuilder(), "a"), time.Minute); a.Err != nil {
		t.Fatal(a.Err)
	}
}

func BenchmarkRemoteAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := engine(b, b.TempDir())
			defer s.Close()
			srv := serve(b, listen(b, "127.0.0.1:0"), s)
			client := remote.Dial(srv.Addr().String(), token, "here")
			defer client.Close()
			topic, err := client.Create(context.Background(), span.Spec{Name: "t", Partitions: 1})
			if err != nil {
				b.Fatal(err)
			}
			l := client.Log(topic, 0)
			raw := one(b, batch.NewBuilder(), string(make([]byte, size)))
			free := make(chan *span.Append, 64)
			for range cap(free) {
				free <- &span.Append{Batch: raw, Done: func(a *span.Append) { free <- a }}
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				a := <-free
				if a.Err != nil {
					b.Fatal(a.Err)
				}
				l.Append(a)
			}
			for range cap(free) {
				<-free
			}
		})
	}
}
