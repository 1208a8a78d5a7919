package gateway

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// logBook collects log lines.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func framed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

func TestBadInputClosesTheConnectionAndIsLogged(t *testing.T) {
	t.Parallel()
	book := &logBook{}
	f := newFleet(t, func(c *fleetConfig) { c.logger = book.logger() })
	header := func(key, version int16) []byte { return wire.AppendRequestHeader(nil, key, version, 1, []byte("evil")) }
	cases := []struct {
		name, want string
		bytes      []byte
	}{
		{"negative length", "frame size is negative", []byte{0xff, 0xff, 0xff, 0xff, 0, 0}},
		{"oversized frame", "frame is too large", []byte{0x7f, 0xff, 0xff, 0xff, 0, 0}},
		{"TLS", "TLS handshake", []byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00}},
		{"HTTP", "HTTP request", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"short header", "malformed", framed([]byte{0, 3})},
		{"unknown key", "unknown API key", framed(header(999, 0))},
		{"key that is not served", "unknown API version", framed(header(int16(kmsg.ControlledShutdown), 1))},
		{"unknown version", "unknown API version", framed(header(keyMetadata, 99))},
		{"produce of old", "unknown API version", framed(header(keyProduce, 2))},
		{"absurd array", "malformed", framed(append(header(keyMetadata, 1), 0x7f, 0xff, 0xff, 0xff))},
		{"truncated body", "malformed", framed(append(header(keyMetadata, 1), 0, 0, 0, 1, 0, 9, 'x'))},
		{"empty frame", "malformed", []byte{0, 0, 0, 0}},
		{"absurd fetch", "malformed", framed(append(header(keyFetch, 4), bytes.Repeat([]byte{0x7f}, 60)...))},
		{"absurd produce", "malformed", framed(append(header(keyProduce, 3), bytes.Repeat([]byte{0x7f}, 60)...))},
		{"many tags", "malformed", framed(append(wire.AppendRequestHeader(nil, keyDescribeCluster, 0, 1, nil)[:10], 0xff, 0xff, 0xff, 0xff, 0x0f))},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := f.raw()
			r.tb = t
			// Others on the same gateway do not notice.
			r.write(c.bytes)
			r.closed()
			peer := r.nc.LocalAddr().String()
			eventually(t, func() error {
				for _, line := range strings.Split(book.String(), "\n") {
					if strings.Contains(line, peer) {
						if !strings.Contains(line, c.want) {
							return fmt.Errorf("line %q does not say %q", line, c.want)
						}
						return nil
					}
				}
				return fmt.Errorf("no line with %s in %s", peer, book)
			})
		})
	}
	if resp := do[*kmsg.MetadataResponse](f.raw(), 9, kmsg.NewPtrMetadataRequest()); len(resp.Brokers) != 1 {
		t.Errorf("%+v", resp)
	}
}

// A client that speaks TLS to a port without it reads the end, no reset: by that node's and others tell what is wrong.
func TestBytesThatNobodyReadResetNoConnection(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, size := range []int{1, 2000, 30_000} {
		r := f.raw()
		r.write(append([]byte{0x16, 0x03, 0x01, 0x06, 0x00, 0x01}, make([]byte, size)...)) // of one segment
		if _, err := r.frame(); err != io.EOF {
			t.Errorf("with %d bytes left: %v, want the end", size, err)
		}
	}
}

// patience is how long tests wait for what must happen: on a machine that has much else to do.
const patience = 2 * time.Minute

// eventually tries until there is no error.
func eventually(tb testing.TB, try func() error) {
	tb.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
		<-tick.C
	}
}

func TestSilentAndSlowClientsAreClosed(t *testing.T) {
	t.Parallel()
	// One limit at a time: a slow machine is not to meet another one first.
	limited := func(limit func(c *Config)) *fleet {
		return newFleet(t, withConfig(func(c *Config) {
			c.HandshakeTimeout, c.IdleTimeout, c.FrameTimeout = 2*patience, 2*patience, 2*patience
			limit(c)
		}))
	}
	silent := limited(func(c *Config) { c.HandshakeTimeout = 150 * time.Millisecond }).raw()
	silent.closed()

	halfway := limited(func(c *Config) { c.FrameTimeout = 200 * time.Millisecond }).raw()
	halfway.write([]byte{0, 0, 0, 100, 1, 2, 3})
	halfway.closed()

	idle := limited(func(c *Config) { c.IdleTimeout = 250 * time.Millisecond }).raw()
	start := time.Now()
	do[*kmsg.ApiVersionsResponse](idle, 0, kmsg.NewPtrApiVersionsRequest())
	idle.closed()
	if d := time.Since(start); d < 200*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.MaxConnections, c.MaxPerIP = 3, 2 }))
	a, b := f.raw(), f.raw()
	for _, r := range []*raw{a, b} {
		do[*kmsg.ApiVersionsResponse](r, 0, kmsg.NewPtrApiVersionsRequest())
	}
	f.raw().closed()
	if err := a.nc.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		g := f.gateways[0]
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.conns) != 1 || g.perIP["127.0.0.1"] != 1 {
			return fmt.Errorf("%d connections, %v", len(g.conns), g.perIP)
		}
		return nil
	})
	do[*kmsg.ApiVersionsResponse](f.raw(), 0, kmsg.NewPtrApiVersionsRequest())
}
