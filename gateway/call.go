package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/wire"
)

// call is one request that its connection's reader works on, Produce excepted.
// It is valid until its serve function returns.
type call struct {
	ctx    context.Context
	tenant string
	// principal is who asks; ACLs and quotas are about it.
	principal tenant.Principal
	asker
	header wire.Header
	frame  *wire.Buffer
	body   []byte // aliases the frame
	start  time.Time

	mutations    sync.Mutex
	mutationWait int64 // ms, of the mutation quota
}

// serveFunc works on a request and writes its answer. An error ends the
// connection.
type serveFunc func(*call) error

// message adapts a function over decoded messages. A request is decoded only
// after its counts and lengths were checked against its size.
func message[Q any, P interface {
	*Q
	kmsg.Request
}](fn func(*call, P) kmsg.Response) serveFunc {
	return func(call *call) error {
		h := call.header
		c := call.c
		if err := c.begin(); err != nil {
			return err
		}
		if err := wire.Check(h.Key, h.Version, call.body, wire.DefaultBudget); err != nil {
			return err
		}
		req := P(new(Q))
		if d, ok := any(req).(interface{ Default() }); ok {
			d.Default()
		}
		req.SetVersion(h.Version)
		// The decoder aliases byte fields, and a coordinator keeps some of them
		// longer than the frame lives. A large one is not copied, but kept from its pool: the
		// reference is given up to the collector.
		body := call.body
		if len(body) > wire.FreeFrame {
			call.frame.Retain()
		} else {
			body = append([]byte(nil), body...)
		}
		if err := req.ReadFrom(body); err != nil {
			return fmt.Errorf("%w: key %d version %d: %w", wire.ErrMalformed, h.Key, h.Version, err)
		}
		// What it waits for is not known here, so that it is worked on outside of a turn.
		c.finish()
		began := time.Now()
		resp := fn(call, req)
		if !waits(h.Key) {
			c.worked(time.Since(began))
		}
		if administers(h.Key) {
			call.audited(req, resp)
		}
		if resp != nil && call.c.quota != nil {
			call.mutated(resp)
			call.worked(resp)
		}
		return call.reply(resp)
	}
}

// reply writes a message as the answer; nil means that the connection's context
// ended and nobody waits for one.
func (call *call) reply(resp kmsg.Response) error {
	if resp == nil {
		return context.Cause(call.ctx)
	}
	resp.SetVersion(call.header.Version)
	out := replyPool.Get().(*[]byte)
	b := wire.AppendResponse((*out)[:0], call.header.CorrelationID, resp)
	err := call.send(b)
	keep(out, b)
	return err
}

// send writes a whole frame.
func (call *call) send(frame []byte) error {
	call.c.finish() // a client may take long to read
	call.g.metrics.served(call.header.Key, call.start)
	return call.c.write(frame)
}

// sendBoth writes a whole frame that lies in two pieces.
func (call *call) sendBoth(head, body []byte) error {
	call.c.finish()
	call.g.metrics.served(call.header.Key, call.start)
	return call.c.writeBoth(head, body)
}

// failed counts an error code that goes into an answer, and returns it.
func (call *call) failed(code wire.Code) int16 {
	if code != wire.None {
		call.g.metrics.failed(call.header.Key, code)
	}
	return int16(code)
}

var replyPool = sync.Pool{New: func() any { b := make([]byte, 0, 1<<10); return &b }}

// keep gives a buffer back unless it grew to a size that would lie idle.
func keep(p *[]byte, used []byte) {
	if cap(used) <= 256<<10 {
		*p = used[:0]
		replyPool.Put(p)
	}
}
