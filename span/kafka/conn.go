package kafka

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

const (
	// tlsBuffer gathers what TLS writes record by record into few system calls.
	tlsBuffer = 256 << 10
	// maxControlFrame bounds an answer to a control request.
	maxControlFrame = 64 << 20
	// controlFactor lets the answers through whose decoding costs more memory
	// than wire.DefaultBudget grants to a stranger's request.
	controlFactor = 64
)

// conn is one connection to a broker, ready for requests: secured, and with the
// broker's versions known. One goroutine writes and one reads.
type conn struct {
	nc       net.Conn
	out      io.Writer
	flush    func() error // nil where writes are not buffered
	versions map[int16][2]int16
	// bumps tells whether the cluster bumps a producer's epoch at each end of a transaction (KIP-890). known: the broker says.
	bumps, known bool
	// expires is when the broker will want a new authentication (KIP-368); zero: never.
	expires time.Time
	id      []byte // client id
	corr    int32  // of the last request that was written
}

// dialer makes connections to the brokers of one cluster.
type dialer struct {
	security *security
	clientID []byte
	timeout  time.Duration
	connect  func(ctx context.Context, addr string) (net.Conn, error)
}

// overTCP is how brokers are connected to unless [Options.Dial] says otherwise.
func overTCP(ctx context.Context, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// dial connects, secures and authenticates. The context's end aborts all of it.
func (d *dialer) dial(ctx context.Context, addr string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	nc, err := d.connect(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	// The steps below use blocking reads: closing the socket is what ends them.
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	c, err := d.secure(ctx, nc, addr)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
		}
		return nil, err
	}
	return c, nil
}

func (d *dialer) secure(ctx context.Context, nc net.Conn, addr string) (*conn, error) {
	c := &conn{nc: nc, out: nc, id: d.clientID}
	if d.security.tls != nil {
		config := d.security.tls().Clone()
		if config.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, fmt.Errorf("address %q: %w", addr, err)
			}
			config.ServerName = host
		}
		under := &bufferedConn{Conn: nc, r: bufio.NewReaderSize(nc, tlsBuffer), w: bufio.NewWriterSize(nc, tlsBuffer)}
		secured := tls.Client(&handshakeConn{bufferedConn: under}, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		under.held = true
		c.nc, c.out, c.flush = secured, secured, under.w.Flush
	}
	if err := c.learnVersions(); err != nil {
		return nil, err
	}
	if d.security.sasl != nil {
		if err := c.authenticate(ctx, d.security, addr); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// bufferedConn lies below TLS. While held, written bytes wait for a flush.
type bufferedConn struct {
	net.Conn
	r    *bufio.Reader
	w    *bufio.Writer
	held bool
}

func (c *bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

// handshakeConn flushes by itself until the handshake is over: nobody else would.
type handshakeConn struct{ *bufferedConn }

func (c *handshakeConn) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if err == nil && !c.held {
		err = c.w.Flush()
	}
	return n, err
}

// learnVersions asks what the broker speaks. Version 3 has been there since Kafka 2.4.
func (c *conn) learnVersions() error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version = 3
	req.ClientSoftwareName = "braid"
	req.ClientSoftwareVersion = "1"
	resp, err := c.roundTrip(req)
	if err != nil {
		return fmt.Errorf("ask for API versions: %w", err)
	}
	answer := resp.(*kmsg.ApiVersionsResponse)
	if code := wire.Code(answer.ErrorCode); code != wire.None {
		return fmt.Errorf("ask for API versions: %w", code)
	}
	c.versions = make(map[int16][2]int16, len(answer.ApiKeys))
	for _, k := range answer.ApiKeys {
		c.versions[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	c.known = answer.FinalizedFeaturesEpoch >= 0
	for i := range answer.FinalizedFeatures {
		if f := &answer.FinalizedFeatures[i]; f.Name == "transaction.version" {
			c.bumps = f.MaxVersionLevel >= 2
		}
	}
	return nil
}

func (c *conn) authenticate(ctx context.Context, s *security, addr string) error {
	mechanism, err := s.sasl()
	if err != nil {
		return err
	}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Version = 1
	hello.Mechanism = mechanism.Name()
	resp, err := c.roundTrip(hello)
	if err != nil {
		return fmt.Errorf("SASL handshake: %w", err)
	}
	if code := wire.Code(resp.(*kmsg.SASLHandshakeResponse).ErrorCode); code != wire.None {
		return fmt.Errorf("SASL handshake for %s: %w", mechanism.Name(), code)
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	session, message, err := mechanism.Authenticate(ctx, host)
	if err != nil {
		return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
	}
	// SCRAM takes three steps; a broker that asks on and on is not one.
	for range 10 {
		req := kmsg.NewPtrSASLAuthenticateRequest()
		req.Version = 2
		req.SASLAuthBytes = message
		resp, err := c.roundTrip(req)
		if err != nil {
			return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
		}
		answer := resp.(*kmsg.SASLAuthenticateResponse)
		if code := wire.Code(answer.ErrorCode); code != wire.None {
			return fmt.Errorf("SASL %s: %w: %w", mechanism.Name(), errDeniedLogin, code)
		}
		if answer.SessionLifetimeMillis > 0 {
			c.expires = time.Now().Add(time.Duration(answer.SessionLifetimeMillis) * time.Millisecond * 8 / 10)
		}
		done, next, err := session.Challenge(answer.SASLAuthBytes)
		if err != nil {
			return fmt.Errorf("SASL %s: %w", mechanism.Name(), err)
		}
		if done {
			return nil
		}
		message = next
	}
	return fmt.Errorf("SASL %s: does not come to an end", mechanism.Name())
}

// expired tells whether the connection should be replaced before the broker closes it.
func (c *conn) expired(now time.Time) bool { return !c.expires.IsZero() && now.After(c.expires) }

// version is the highest one that both sides speak within [low, high].
func (c *conn) version(key, low, high int16) (int16, error) {
	r, ok := c.versions[key]
	if v := min(high, r[1]); ok && v >= max(low, r[0]) {
		return v, nil
	}
	return 0, fmt.Errorf("%w: broker has %s in %d to %d, needed is %d to %d", wire.UnsupportedVersion,
		kmsg.NameForKey(key), r[0], r[1], low, high)
}

// write sends one request. The caller is the only writer.
func (c *conn) write(req kmsg.Request) (corr int32, err error) {
	c.corr++
	frame := wire.AppendRequest(nil, c.corr, c.id, req)
	if _, err := c.out.Write(frame); err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	return c.corr, c.flushed()
}

func (c *conn) flushed() error {
	if c.flush == nil {
		return nil
	}
	if err := c.flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// roundTrip is for the time before the connection has its reader.
func (c *conn) roundTrip(req kmsg.Request) (kmsg.Response, error) {
	corr, err := c.write(req)
	if err != nil {
		return nil, err
	}
	frame, err := readFrame(c.nc, maxControlFrame)
	if err != nil {
		return nil, err
	}
	defer frame.Release()
	return decodeResponse(frame.B, corr, req)
}

// readFrame reads a frame into a pooled buffer, which the caller releases. Its
// head is read together with the first bytes behind it, so that a small frame
// costs one system call: only for connections on which no other answer can follow.
func readFrame(r io.Reader, limit int) (*wire.Buffer, error) {
	var head [1024]byte
	n, err := io.ReadAtLeast(r, head[:], 4)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 4 || size > limit {
		return nil, fmt.Errorf("answer of %d bytes: must be 4 to %d", size, limit)
	}
	if n-4 > size {
		return nil, fmt.Errorf("answer of %d bytes is followed by another that nobody asked for", size)
	}
	buf := wire.NewBuffer(size)
	got := copy(buf.B, head[4:n])
	if _, err := io.ReadFull(r, buf.B[got:]); err != nil {
		buf.Release()
		return nil, fmt.Errorf("read: %w", err)
	}
	return buf, nil
}

// decodeResponse decodes the answer to a control request. Its byte fields alias
// the frame: none of the control answers' is kept.
func decodeResponse(frame []byte, corr int32, req kmsg.Request) (kmsg.Response, error) {
	got, body, err := wire.ParseResponseHeader(frame, req.Key(), req.GetVersion())
	if err != nil {
		return nil, err
	}
	if got != corr {
		return nil, fmt.Errorf("answer to request %d came for %d", got, corr)
	}
	budget := wire.Budget{Factor: controlFactor, Base: 1 << 20}
	if err := wire.CheckResponse(req.Key(), req.GetVersion(), body, budget); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(append([]byte(nil), body...)); err != nil {
		return nil, fmt.Errorf("decode answer of %s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}
