package gateway

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

// deadlineReader reads from the connection with one time limit between
// requests and another inside of one.
type deadlineReader struct {
	nc          net.Conn
	sock        *wire.Socket
	idle, frame time.Duration
	rate        int64 // bytes/s
	received    adder
	account     *usage.Account // whose bytes are counted; nil: nobody's yet
	nobodys     int            // bytes that came while they were
	coming      *coming        // the frame that comes, if it is large

	pausing     bool      // between two requests
	greeted     bool      // a request has come: until then the client takes an end for a refusal, not for a broker that leaves
	expects     bool      // the kernel was told to wait for a number of bytes
	slow        bool      // and they took longer than the limit: not again
	size        int       // of a frame that comes, whose time is not counted yet
	until       time.Time // when all of a frame has to be there
	extended    bool      // an interrupted request was given time to arrive
	armed       time.Time
	armedFor    time.Duration
	interrupted atomic.Bool
}

type adder interface{ Add(float64) }

// Expect implements [wire.Expecter].
func (r *deadlineReader) Expect(n int) {
	if r.slow {
		n = 1
	}
	r.expects = n > 1 && r.sock != nil
	r.sock.Expect(n)
}

// Frame implements [wire.Framer].
func (r *deadlineReader) Frame(size int) { r.size = size }

// waited tells that nothing was read for as long.
func (r *deadlineReader) waited(d time.Duration) {
	if !r.until.IsZero() {
		r.until = r.until.Add(d)
	}
}

// between tells whether the next read waits for a new request.
func (r *deadlineReader) between(yes bool) { r.pausing, r.size, r.until = yes, 0, time.Time{} }

func (r *deadlineReader) Read(p []byte) (int, error) {
	limit := r.frame
	if r.pausing {
		limit = r.idle
	}
	// Arming a timer for every read costs more than the limit is worth: an eighth
	// of it may pass until it is moved.
	now := time.Now()
	if r.size > 0 {
		r.until = now.Add(r.frame + time.Duration(float64(r.size)/float64(r.rate)*float64(time.Second)))
		r.size = 0
	} else if !r.until.IsZero() && now.After(r.until) {
		return 0, errSlow
	}
	if r.armedFor != limit || now.Sub(r.armed) > limit/8 {
		if err := r.nc.SetReadDeadline(now.Add(limit)); err != nil {
			return 0, err
		}
		r.armed, r.armedFor = now, limit
	}
	if r.interrupted.Load() {
		if r.pausing && r.greeted {
			return 0, errDraining
		}
		if err := r.extend(); err != nil {
			return 0, err
		}
	}
	n, err := r.nc.Read(p)
	if n > 0 {
		r.pausing = false
		r.received.Add(float64(n))
		if r.coming != nil {
			r.coming.got.Add(int64(n))
		}
		if r.account == nil {
			r.nobodys += n
		}
		r.account.Received(n)
		return n, err
	}
	if err == nil {
		return n, nil
	}
	if r.expects && !r.interrupted.Load() && errors.Is(err, os.ErrDeadlineExceeded) {
		// Some bytes may have come, which is all that the limit asks for.
		r.slow, r.armedFor = true, 0
		r.Expect(1)
		return r.Read(p)
	}
	if !r.interrupted.Load() {
		if !r.pausing && errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, errStalled
		}
		return n, err
	}
	if r.pausing && r.greeted {
		return 0, errDraining
	}
	if !r.extended && errors.Is(err, os.ErrDeadlineExceeded) {
		// The interrupt met a request that is on its way: it may still arrive.
		return r.Read(p)
	}
	if r.pausing {
		return 0, errDraining // a connection that was never used
	}
	return n, err
}

// extend gives a request that is on its way time to arrive, once.
func (r *deadlineReader) extend() error {
	if r.extended {
		return nil
	}
	r.extended = true
	return r.nc.SetReadDeadline(time.Now().Add(drainGrace))
}

// drainGrace is what a request that has begun to arrive is given when the
// gateway drains, and the first one of a connection.
const drainGrace = 2 * time.Second

// interrupt ends a read that waits for a new request. It may be called from
// any goroutine.
func (r *deadlineReader) interrupt() {
	r.interrupted.Store(true)
	// The reader checks the flag after it armed its own deadline, so one of the
	// two is always seen.
	_ = r.nc.SetReadDeadline(time.Unix(1, 0)) // fails only on a connection that is closed already
}
