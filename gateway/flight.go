package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

// flight is one Produce request from its arrival to its answer. Flights are
// pooled: nothing may hold one after free.
//
// It is the reader's until its last append was submitted, then the appends';
// the one that ends last marks it done and leaves it to the answerer.
type flight struct {
	c       *conn
	frame   *wire.Buffer // until its batches were submitted; then the chain's loan, and nil
	size    int
	of      *usage.Account // whose bytes these are
	version int16
	corr    int32
	start   time.Time
	silent  bool        // acks=0: no answer
	failed  atomic.Bool // acks=0 and a partition failed: the connection is closed instead

	left atomic.Int32 // appends under way, and one for the reader while it submits
	done bool         // under conn.mu
	// orphan: the connection broke, so the last append frees the flight. Under conn.mu.
	orphan bool

	named int        // records that the answer says were refused; by the reader, as it submits
	burst span.Burst // of its appends
	req   wire.ProduceRequest
	resp  wire.ProduceResponse
	// parts has one entry for each partition of req. It is of its final length
	// before the first append is submitted, since appends point into it.
	parts []producePart
}

var flightPool = sync.Pool{New: func() any { return new(flight) }}

// landed is called once for each append, and once by the reader.
func (f *flight) landed() {
	if f.left.Add(-1) > 0 {
		return
	}
	c := f.c
	c.mu.Lock()
	f.done = true
	orphan := f.orphan
	if !orphan && c.flights.head() == f && !c.answerNow() {
		c.changed.Broadcast()
	}
	c.mu.Unlock()
	if orphan {
		f.free()
	}
}

// answerNow writes the answers of the flights that are done, if nobody else does
// and as far as the socket takes them at once: mostly they are small and it does,
// and no goroutine has to be woken. false leaves the rest to the answerer. Needs
// c.mu, which it gives up meanwhile.
func (c *conn) answerNow() bool {
	if c.sock == nil {
		return false
	}
	// Who finds that somebody answers already leaves this to him: he looks again.
	for !c.broken && c.answering == 0 && c.flights.n > 0 && c.flights.head().done {
		var few [8]*flight
		ready := c.takeReady(few[:0], len(few))
		c.mu.Unlock()
		out := answerPool.Get().(*[]byte)
		b, err := c.encodeAnswers((*out)[:0], ready)
		var rest []byte
		if err == nil {
			n, _ := c.sock.TryWrite(b) // the answerer's write meets the same error
			c.sent(int64(n))
			rest = append(rest, b[n:]...)
		}
		*out = b
		answerPool.Put(out)
		c.mu.Lock()
		if (err != nil || len(rest) > 0) && !c.broken {
			// The flights count as being answered until the answerer is done with this.
			c.rest, c.restErr, c.restOf = rest, err, append(c.restOf[:0], ready...)
			return false
		}
		c.answeredAll(ready)
	}
	return true
}

// takeReady takes flights that are done from the queue's head. Needs c.mu.
func (c *conn) takeReady(into []*flight, most int) []*flight {
	for c.flights.n > 0 && c.flights.head().done && len(into) < most {
		into = append(into, c.flights.pop())
	}
	c.answering = len(into)
	return into
}

// answeredAll gives flights back. Needs c.mu.
func (c *conn) answeredAll(ready []*flight) {
	c.answering = 0
	for i, f := range ready {
		c.bytes -= int64(f.size)
		f.free()
		ready[i] = nil
	}
	// Somebody may wait for room, or for the end of what is under way.
	c.changed.Broadcast()
}

// free gives back the frame and the flight.
func (f *flight) free() {
	f.c.g.budget.put(int64(f.size), f.of)
	if f.frame != nil {
		f.frame.Release()
	}
	f.c, f.frame, f.of = nil, nil, nil
	// A request with thousands of partitions is rare; its room is not kept.
	if cap(f.parts) > 1024 {
		return
	}
	f.req.Reset()
	f.resp.Reset()
	clear(f.parts)
	f.parts = f.parts[:0]
	f.done, f.orphan, f.silent, f.named = false, false, false, 0
	f.failed.Store(false)
	flightPool.Put(f)
}

// flightQueue is a ring of flights in the order of their requests.
type flightQueue struct {
	ring []*flight
	at   int
	n    int
}

func (q *flightQueue) push(f *flight) {
	if q.n == len(q.ring) {
		grown := make([]*flight, max(8, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.ring[(q.at+i)%len(q.ring)]
		}
		q.ring, q.at = grown, 0
	}
	q.ring[(q.at+q.n)%len(q.ring)] = f
	q.n++
}

func (q *flightQueue) head() *flight {
	if q.n == 0 {
		return nil
	}
	return q.ring[q.at]
}

func (q *flightQueue) pop() *flight {
	f := q.ring[q.at]
	q.ring[q.at] = nil
	q.at = (q.at + 1) % len(q.ring)
	q.n--
	if q.n == 0 && len(q.ring) > 64 {
		q.ring, q.at = nil, 0
	}
	return f
}

// launch puts the flight into the queue, before its first append is submitted.
func (c *conn) launch(f *flight) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return c.cause
	}
	c.flights.push(f)
	c.bytes += int64(f.size)
	if !c.answerer {
		c.answerer = true
		c.answered = make(chan struct{})
		go c.answerLoop()
	}
	return nil
}

// answerLoop writes the answers of flights in their order, as many as are
// ready with one write.
func (c *conn) answerLoop() {
	defer close(c.answered)
	var ready []*flight
	for {
		c.mu.Lock()
		for !c.broken && len(c.restOf) == 0 && (c.answering > 0 || c.flights.n == 0 || !c.flights.head().done) {
			c.changed.Wait()
		}
		if c.broken && len(c.restOf) == 0 {
			c.mu.Unlock()
			return
		}
		var err error
		var rest []byte
		if len(c.restOf) > 0 {
			ready = append(ready[:0], c.restOf...)
			clear(c.restOf)
			rest, err, c.rest, c.restErr, c.restOf = c.rest, c.restErr, nil, nil, c.restOf[:0]
		} else {
			ready = c.takeReady(ready[:0], 256)
		}
		broken := c.broken
		c.mu.Unlock()

		switch {
		case err != nil || broken:
		case rest != nil:
			err = c.write(rest)
		default:
			err = c.answer(ready)
		}

		c.mu.Lock()
		c.answeredAll(ready)
		c.mu.Unlock()
		if err != nil {
			c.end(err)
			return
		}
	}
}

// answer writes the answers of flights that are done.
func (c *conn) answer(ready []*flight) error {
	out := answerPool.Get().(*[]byte)
	defer answerPool.Put(out)
	b, err := c.encodeAnswers((*out)[:0], ready)
	if err != nil {
		return err
	}
	*out = b
	if len(b) == 0 {
		return nil
	}
	return c.write(b)
}

// encodeAnswers appends the answers of flights that are done.
func (c *conn) encodeAnswers(b []byte, ready []*flight) ([]byte, error) {
	for _, f := range ready {
		if f.silent {
			c.g.metrics.served(keyProduce, f.start)
			if f.failed.Load() {
				// A broker closes the connection too: it is the only way to make a
				// producer that wants no answers look at the metadata again.
				return b, errSilentFailure
			}
			continue
		}
		var err error
		if b, err = f.resp.AppendFrame(b, f.version, f.corr); err != nil {
			return b, err
		}
		c.g.metrics.served(keyProduce, f.start)
	}
	return b, nil
}

var answerPool = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}
