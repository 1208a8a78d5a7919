package wire

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// A write that does not wait stops where the socket is full, at any byte of any
// piece, and the one that waits goes on from there.
func TestTryWriteThenWrite(t *testing.T) {
	a, b := tcpPair(t)
	sock := NewSocket(a)
	var s Scatter
	var want []byte
	for i := range 3000 { // more pieces than one system call takes, more bytes than socket buffers
		run := bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, 1001+i)
		s.Append([]byte{1, 2, byte(i)})
		s.AppendRun(run)
		want = append(append(want, 1, 2, byte(i)), run...)
	}
	n, done, err := s.TryWriteTo(sock)
	if err != nil || done || n == 0 || n >= int64(len(want)) {
		t.Fatalf("wrote %d of %d without a reader: done %t, %v", n, len(want), done, err)
	}
	if again, done, err := s.TryWriteTo(sock); again != 0 || done || err != nil {
		t.Fatalf("a full socket took %d more: done %t, %v", again, done, err)
	}
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(b)
		got <- all
	}()
	if m, err := s.WriteTo(a); err != nil || n+m != int64(len(want)) {
		t.Fatalf("then %d, of %d in all: %v", m, len(want), err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("%d bytes arrived, not the %d that were sent", len(all), len(want))
	}
}

// A small write leaves at once, and one on a closed socket says so.
func TestTryWriteSmall(t *testing.T) {
	a, b := tcpPair(t)
	sock := NewSocket(a)
	if n, err := sock.TryWrite([]byte("hello")); n != 5 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(b, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("read %q, %v", buf, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := sock.TryWrite([]byte("x")); n != 0 || err == nil {
		t.Errorf("a closed socket took %d, %v", n, err)
	}
	var none *Socket
	none.Expect(100)
	if n, err := none.TryWrite([]byte("x")); n != 0 || err != nil {
		t.Errorf("no socket took %d, %v", n, err)
	}
}

type expecting struct {
	net.Conn
	*Socket
}

// A reader that expects the rest of a large frame gets it however it comes, and
// the small frame behind it without delay.
func TestExpect(t *testing.T) {
	a, b := tcpPair(t)
	f := NewFrameReader(expecting{b, NewSocket(b)}, 16<<20)
	large, small := bytes.Repeat([]byte("large"), 200_000), []byte("small")
	frame := func(body []byte) []byte {
		return append([]byte{byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	}
	read := func(want []byte) {
		t.Helper()
		got, err := f.Next()
		if err != nil {
			t.Fatal(err)
		}
		defer got.Release()
		if !bytes.Equal(got.B, want) {
			t.Fatalf("a frame of %d bytes is not the one of %d", len(got.B), len(want))
		}
	}
	if err := b.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		sent := make(chan error, 1)
		go func() {
			for rest := frame(large); len(rest) > 0; {
				n := min(len(rest), 30_001)
				if _, err := a.Write(rest[:n]); err != nil {
					sent <- err
					return
				}
				rest = rest[n:]
			}
			sent <- nil
		}()
		read(large)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if _, err := a.Write(frame(small)); err != nil {
			t.Fatal(err)
		}
		read(small)
	}
}
