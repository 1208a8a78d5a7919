package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// controlDepth is how many control requests wait for one broker or are under way
// at most; more wait in their callers.
const controlDepth = 128

// control is the one connection to a broker for all requests but Produce and
// Fetch of records. It opens with the first request and again after an error.
// Requests are answered in their order, as by any broker.
type control struct {
	s     *Store
	ctx   context.Context // ends with the broker
	addr  string
	alone bool // a request is written when the one before it is answered
	calls chan *controlCall
}

type controlCall struct {
	ctx  context.Context
	req  kmsg.Request
	low  int16
	high int16
	corr int32
	// until is when the request is not to be written any more; zero: it may be at any time.
	until time.Time
	// deadline is when the connection is given up for want of this answer.
	deadline time.Time

	resp kmsg.Response
	err  error
	done chan struct{}
}

func (c *controlCall) end(resp kmsg.Response, err error) {
	c.resp, c.err = resp, err
	close(c.done)
}

func newControl(ctx context.Context, s *Store, addr string) *control {
	return &control{s: s, ctx: ctx, addr: addr, calls: make(chan *controlCall, controlDepth)}
}

// start queues a request to be sent in the highest version of [low, high] that
// the broker speaks. Requests are sent and answered in the order of their starts.
func (c *control) start(ctx context.Context, req kmsg.Request, low, high int16) (*controlCall, error) {
	return c.startUntil(ctx, req, low, high, time.Time{})
}

func (c *control) startUntil(ctx context.Context, req kmsg.Request, low, high int16, until time.Time) (*controlCall, error) {
	call := &controlCall{ctx: ctx, req: req, low: low, high: high, until: until, done: make(chan struct{})}
	select {
	case c.calls <- call:
		return call, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, errRetired
	}
}

// wait returns the answer.
func (c *control) wait(ctx context.Context, call *controlCall) (kmsg.Response, error) {
	select {
	case <-call.done:
		return call.resp, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.ctx.Done():
		return nil, errRetired
	}
}

// run owns the connection: it connects when there is something to send, sends,
// and waits for its reader's end before it connects anew.
func (c *control) run() {
	var cn *conn
	var used time.Time
	var pending chan *controlCall
	var reader sync.WaitGroup
	var broken chan struct{}
	hangUp := func() {
		if cn == nil {
			return
		}
		_ = cn.nc.Close()
		close(pending)
		reader.Wait()
		cn = nil
	}
	defer hangUp()
	for {
		var call *controlCall
		select {
		case call = <-c.calls:
		case <-c.ctx.Done():
			return
		}
		if call.ctx.Err() != nil {
			call.end(nil, call.ctx.Err())
			continue
		}
		if cn != nil {
			select {
			case <-broken:
				hangUp()
			default:
				if now := time.Now(); len(pending) == 0 && (cn.expired(now) || now.Sub(used) > idleConn) {
					hangUp()
				}
			}
		}
		if cn == nil {
			var err error
			// One caller's patience must not decide for those behind it: the dial
			// has a timeout of its own, and ends with the store.
			if cn, err = c.s.dialer.dial(c.ctx, c.addr); err != nil {
				call.end(nil, fmt.Errorf("%s: %w", c.addr, err))
				continue
			}
			c.s.stats.conns.Add(1)
			c.s.produceVersions.Store(cn.versions[wire.ProduceKey])
			if cn.known {
				c.s.bumpsEpochs.Store(cn.bumps)
			}
			pending, broken = make(chan *controlCall, controlDepth), make(chan struct{})
			reader.Add(1)
			go func(cn *conn, pending chan *controlCall, broken chan struct{}) {
				defer reader.Done()
				defer c.s.stats.conns.Add(-1)
				c.read(cn, pending, broken)
			}(cn, pending, broken)
		}
		used = time.Now()
		v, err := cn.version(call.req.Key(), call.low, call.high)
		if err != nil {
			call.end(nil, fmt.Errorf("%s: %w", c.addr, err))
			continue
		}
		if !call.until.IsZero() && time.Now().After(call.until) {
			call.end(nil, span.ErrTransactionLate)
			continue
		}
		call.req.SetVersion(v)
		call.deadline = time.Now().Add(c.s.opts.RequestTimeout)
		_ = cn.nc.SetWriteDeadline(call.deadline) // fails only on a closed socket: the write tells
		if call.corr, err = cn.write(call.req); err != nil {
			call.end(nil, fmt.Errorf("%s: %w", c.addr, err))
			hangUp()
			continue
		}
		select {
		case pending <- call:
		case <-broken:
			call.end(nil, fmt.Errorf("%s: %w", c.addr, io.ErrUnexpectedEOF))
			hangUp()
			continue
		}
		if c.alone {
			select {
			case <-call.done: // by the reader, at its deadline at the latest
			case <-c.ctx.Done():
				return
			}
		}
	}
}

// read answers calls in their order until the connection breaks, then fails the rest.
func (c *control) read(cn *conn, pending chan *controlCall, broken chan struct{}) {
	frames := wire.NewFrameReader(cn.nc, maxControlFrame)
	var failed error
	for call := range pending {
		if failed != nil {
			call.end(nil, failed)
			continue
		}
		_ = cn.nc.SetReadDeadline(call.deadline) // fails only on a closed socket: the read tells
		frame, err := frames.Next()
		if err == nil {
			var resp kmsg.Response
			resp, err = decodeResponse(frame.B, call.corr, call.req)
			frame.Release()
			if err == nil {
				call.end(resp, nil)
				continue
			}
		}
		failed = fmt.Errorf("%s: %w", c.addr, err)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			failed = fmt.Errorf("%s: no answer within %v: %w", c.addr, c.s.opts.RequestTimeout, err)
		}
		call.end(nil, failed)
		_ = cn.nc.Close()
		close(broken)
	}
}
