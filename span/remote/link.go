package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

const (
	defaultDeadline = 30 * time.Second // of appends
	pingEvery       = 5 * time.Second
	silentFor       = 20 * time.Second // then the peer is gone
	backoffFrom     = 20 * time.Millisecond
	backoffTo       = time.Second
	// lookEvery is the longest pause between two attempts to connect while appends do not wait for one.
	lookEvery      = 250 * time.Millisecond
	maxQueuedBytes = 256 << 20
)

var (
	errClosed    = fmt.Errorf("store is closed: %w", span.ErrUnavailable)
	errLost      = errors.New("connection to the owner of the cluster was lost")
	errAway      = fmt.Errorf("the owner of the cluster is away: %w", span.ErrUnavailable)
	errQueueFull = fmt.Errorf("too many appends wait to be sent: %w", span.ErrUnavailable)
)

// call is one frame on its way, and what waits for its answer.
type call struct {
	id   uint64
	op   op
	head []byte
	body []byte

	append   *span.Append
	producer bool // the batch has a producer id: it may be sent twice
	deadline time.Time
	sent     bool // on any connection

	// done gets the answer; head and body are only valid as long as release was
	// not called. err is set instead if there is none.
	done func(m message, release func(), err error)
}

// link is one connection to the server, made anew when it breaks. One goroutine
// owns it: it dials, writes, and sorts out what was under way when it broke.
type link struct {
	addr, token, name string
	session           [sessionSize]byte
	channel           uint8
	awayAfter         time.Duration // 0: appends wait until their deadlines

	quit chan struct{}
	done chan struct{}
	wake chan struct{}

	mu      sync.Mutex
	closed  bool
	next    uint64
	queue   []*call          // to be written, in order
	pending map[uint64]*call // written, not answered
	order   []*call          // appends that were written, in order; answered ones are skipped
	bytes   int64            // of queued and pending appends
	// away is when the first of the attempts began that did not connect since; zero: the last one did.
	away time.Time
	look bool // it is time to try again, though nothing may be queued
}

func newLink(addr, token, name string, session [sessionSize]byte, channel uint8, awayAfter time.Duration) *link {
	l := &link{addr: addr, token: token, name: name, session: session, channel: channel, awayAfter: awayAfter,
		quit: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1), pending: make(map[uint64]*call)}
	go l.run()
	return l
}

func (l *link) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.quit)
	}
	l.mu.Unlock()
	<-l.done
}

// submit queues a call. It never blocks; done is called from the link's goroutines.
func (l *link) submit(c *call) {
	l.mu.Lock()
	var err error
	switch {
	case l.closed:
		err = errClosed
	case c.append != nil && l.bytes > 0 && l.bytes+int64(len(c.body)) > maxQueuedBytes:
		err = errQueueFull
	case c.append != nil && l.gone(time.Now()):
		// The client comes again, and finds out what becomes of the next attempt.
		err, l.look = errAway, true
		l.poke()
	}
	if err != nil {
		l.mu.Unlock()
		go c.done(message{}, noRelease, err)
		return
	}
	l.next++
	c.id = l.next
	if c.append != nil {
		l.bytes += int64(len(c.body))
	}
	l.queue = append(l.queue, c)
	l.mu.Unlock()
	l.poke()
}

// gone tells whether appends wait for the owner no longer; under mu. Those of other clusters would
// wait with them, since a client's answers keep the order of its requests.
func (l *link) gone(now time.Time) bool {
	return l.awayAfter > 0 && !l.away.IsZero() && now.Sub(l.away) >= l.awayAfter
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// abandon forgets a call whose caller went away and tells the server.
func (l *link) abandon(c *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[c.id] == c {
		delete(l.pending, c.id)
		l.queue = append(l.queue, &call{id: c.id, op: opCancel})
		l.poke()
		return
	}
	for i, q := range l.queue {
		if q == c {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return
		}
	}
}

// run connects whenever there is something to send, and looks for an owner that is away also while
// nobody comes: who comes after its return is not refused for what is past.
func (l *link) run() {
	defer close(l.done)
	defer l.end()
	backoff := backoffFrom
	for {
		var lookout <-chan time.Time
		if l.missing() {
			lookout = time.After(backoffTo)
		}
		select {
		case <-l.quit:
			return
		case <-l.wake:
		case <-lookout:
			l.mu.Lock()
			l.look = true
			l.mu.Unlock()
		}
		for l.waiting() {
			began := time.Now()
			conn, r, err := l.dial()
			l.tried(began, err)
			if err == nil {
				backoff = backoffFrom
				l.use(conn, r)
				if !l.waiting() {
					break
				}
			} else {
				l.refuse(err)
			}
			if l.awayAfter > 0 {
				backoff = min(backoff, lookEvery)
			}
			t := time.NewTimer(backoff)
			select {
			case <-l.quit:
				t.Stop()
				return
			case <-t.C:
			}
			backoff = min(2*backoff, backoffTo)
		}
	}
}

func (l *link) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return (len(l.queue) > 0 || l.look) && !l.closed
}

// missing tells whether the last attempt to connect failed where appends do not wait for long.
func (l *link) missing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awayAfter > 0 && !l.away.IsZero()
}

// tried notes what became of an attempt to connect that began at a time.
func (l *link) tried(began time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look = false
	switch {
	case err == nil:
		l.away = time.Time{}
	case l.away.IsZero():
		l.away = began
	}
}

func (l *link) dial() (net.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	stop := make(chan struct{})
	defer func() { cancel(); <-stop }()
	go func() {
		defer close(stop)
		select {
		case <-l.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, nil, err
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	if err := greet(conn, r, l.token, hello{session: l.session, channel: l.channel, name: l.name}); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, r, nil
}

// refuse ends what waits after a failed dial: calls at once, appends at their deadline, or
// when the owner is known to be away.
func (l *link) refuse(err error) {
	if !errors.Is(err, span.ErrDenied) {
		err = fmt.Errorf("connect to the owner of the cluster: %w: %w", span.ErrUnavailable, err)
	}
	now := time.Now()
	l.mu.Lock()
	var out []*call
	keep := l.queue[:0]
	for _, c := range l.queue {
		if c.append != nil && now.Before(c.deadline) && !l.gone(now) {
			keep = append(keep, c)
		} else {
			out = append(out, c)
		}
	}
	clear(l.queue[len(keep):])
	l.queue = keep
	l.mu.Unlock()
	for _, c := range out {
		l.finish(c, message{}, noRelease, l.unsent(c, err))
	}
}

// unsent is the error of a call that will not be sent (again).
func (l *link) unsent(c *call, err error) error {
	if c.append != nil && c.sent {
		return fmt.Errorf("%w: %w", span.ErrUnknownOutcome, errLost)
	}
	return err
}

// finish answers a call. Nobody else does any more: it is in no list.
func (l *link) finish(c *call, m message, release func(), err error) {
	if c.done == nil {
		return
	}
	if c.append != nil {
		l.mu.Lock()
		l.bytes -= int64(len(c.body))
		l.mu.Unlock()
	}
	c.done(m, release, err)
}

// use writes to the connection until it breaks.
func (l *link) use(conn net.Conn, r *bufio.Reader) {
	broken := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(broken)
		l.read(conn, r)
	})
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	lastPing := time.Now()
	var bufs net.Buffers
	for alive := true; alive; {
		l.mu.Lock()
		batch := l.take()
		l.mu.Unlock()
		if len(batch) > 0 {
			bufs = bufs[:0]
			for _, c := range batch {
				bufs = append(bufs, append(appendPrefix(make([]byte, 0, 64+len(c.head)), c.id, c.op, len(c.head), len(c.body)), c.head...))
				if len(c.body) > 0 {
					bufs = append(bufs, c.body)
				}
			}
			consume := bufs
			err := conn.SetWriteDeadline(time.Now().Add(silentFor))
			if err == nil {
				_, err = consume.WriteTo(conn)
			}
			clear(bufs)
			if err != nil {
				break
			}
		}
		select {
		case <-l.quit:
			alive = false
		case <-broken:
			alive = false
		case <-l.wake:
		case now := <-tick.C:
			l.expire(now)
			if now.Sub(lastPing) >= pingEvery {
				lastPing = now
				l.mu.Lock()
				l.queue = append(l.queue, &call{op: opPing})
				l.mu.Unlock()
				l.poke()
			}
		}
	}
	_ = conn.Close() // it is broken, or about to be left
	reader.Wait()
	l.lost()
}

const writeAtOnce = 256

// take moves calls from the queue to those under way; under mu.
func (l *link) take() []*call {
	n := min(len(l.queue), writeAtOnce)
	batch := append([]*call(nil), l.queue[:n]...)
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	} else {
		l.poke()
	}
	for _, c := range batch {
		if c.done == nil {
			continue
		}
		c.sent = true
		l.pending[c.id] = c
		if c.append != nil {
			l.order = append(l.order, c)
		}
	}
	// Answered ones go when they are the most.
	if len(l.order) > 64 && len(l.order) > 2*len(l.pending) {
		keep := l.order[:0]
		for _, c := range l.order {
			if l.pending[c.id] == c {
				keep = append(keep, c)
			}
		}
		clear(l.order[len(keep):])
		l.order = keep
	}
	return batch
}

// read takes answers until the connection breaks.
func (l *link) read(conn net.Conn, r *bufio.Reader) {
	for {
		if err := conn.SetReadDeadline(time.Now().Add(silentFor)); err != nil {
			return
		}
		m, release, err := readMessage(r, maxHead+maxBody)
		if err != nil {
			return
		}
		l.mu.Lock()
		c := l.pending[m.id]
		if c != nil && m.op != opPong {
			delete(l.pending, m.id)
		}
		l.mu.Unlock()
		if c == nil || m.op == opPong {
			release()
			continue
		}
		l.finish(c, m, release, nil)
	}
}

// expire ends appends whose deadline has passed: the peer is silent.
func (l *link) expire(now time.Time) {
	l.mu.Lock()
	var out []*call
	for _, c := range l.order {
		if l.pending[c.id] == c && now.After(c.deadline) {
			delete(l.pending, c.id)
			out = append(out, c)
		}
	}
	l.mu.Unlock()
	for _, c := range out {
		l.finish(c, message{}, noRelease, fmt.Errorf("%w: no answer before the deadline", span.ErrUnknownOutcome))
	}
}

// lost sorts out what was under way. Appends with a producer id are sent again,
// before all that was not sent yet: the log tells duplicates. The others have
// an unknown outcome. The server takes nothing more from the old connection once the
// next one stands.
func (l *link) lost() {
	l.mu.Lock()
	var again, out []*call
	for _, c := range l.order {
		if l.pending[c.id] != c {
			continue
		}
		delete(l.pending, c.id)
		if c.producer && !l.closed {
			again = append(again, c)
		} else {
			out = append(out, c)
		}
	}
	l.order = nil
	for _, c := range l.pending {
		out = append(out, c)
	}
	clear(l.pending)
	for _, c := range l.queue {
		if c.done != nil { // neither a ping nor a cancellation
			again = append(again, c)
		}
	}
	l.queue = again
	l.mu.Unlock()
	for _, c := range out {
		err := fmt.Errorf("%w: %w", span.ErrUnavailable, errLost)
		if c.append != nil || c.op == opCreate {
			err = fmt.Errorf("%w: %w", span.ErrUnknownOutcome, errLost)
		}
		l.finish(c, message{}, noRelease, err)
	}
	if len(again) > 0 {
		l.poke()
	}
}

// end answers what is left when the store is closed.
func (l *link) end() {
	l.mu.Lock()
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	for _, c := range queue {
		l.finish(c, message{}, noRelease, l.unsent(c, errClosed))
	}
}

func hasProducer(b []byte) bool {
	h, _, err := batch.Parse(b)
	return err == nil && h.HasProducer()
}
