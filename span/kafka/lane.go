package kafka

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/wire"
)

const (
	// maxPerRequest bounds the partitions of one Produce request.
	maxPerRequest = 1000
	// maxSlowLanes bounds the lanes of a broker that suspects have to themselves.
	maxSlowLanes = 8
	// maxProduceFrame bounds the answer to a Produce request.
	maxProduceFrame = 8 << 20
	// answerSlack is how much longer than the request's own timeout a broker may
	// take to answer before its connection is given up.
	answerSlack = 5 * time.Second
	// writeTimeout bounds the time in which a broker takes no byte of a request.
	writeTimeout = 10 * time.Second
	// stallAfter is when a lane without answers makes us ask who leads now.
	stallAfter = time.Second
)

// lane is one connection for appends. Requests are made and written by whoever
// has batches ready, or by the lane's goroutine where that may take waiting;
// another goroutine, for the time of a connection, reads answers.
//
// Lock order: sending, then a partition's mu or link's mu, then mu. The reader of
// answers never waits for sending, since hangUp waits for it while holding that.
type lane struct {
	s        *Store
	b        *broker
	suspects bool
	wake     chan struct{}
	// turn counts the connections that were lost.
	turn atomic.Uint64
	// early asks the goroutine to connect before there is something to send.
	early atomic.Bool

	// sending is held while a request is made and written.
	sending sync.Mutex
	unsent  *call // of which scatter has what is not written yet; guarded by sending
	request wire.ProduceRequest
	scatter wire.Scatter

	mu    sync.Mutex
	ready fair.Line[*partition] // with something to send; owners take turns by bytes
	link  *link                 // nil while not connected
}

// abort cuts the connection, if there is one.
func (l *lane) abort(err error) {
	l.mu.Lock()
	k := l.link
	l.mu.Unlock()
	if k != nil {
		k.fail(err)
	}
}

// add puts a partition at the end of the ready list. Its scheduled flag was set.
func (l *lane) add(p *partition) {
	l.Put(p)
	l.Wake()
}

// Put implements [span.Queue].
func (l *lane) Put(p any) {
	l.mu.Lock()
	l.ready.Push(p.(*partition).ownedBy(), p.(*partition))
	l.mu.Unlock()
}

// Wake implements [span.Queue].
func (l *lane) Wake() {
	if l.b.ctx.Err() != nil {
		// The goroutine may have taken its last look at the list.
		l.refuse()
		return
	}
	if l.s.knownAway() {
		l.refuse() // a connection that nothing was sent on lately does not know yet
		return
	}
	if l.sendNow() {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// warm has the lane connect, if it is not.
func (l *lane) warm() {
	l.early.Store(true)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next takes the partition whose turn it is, after the one before was paid for; nil when none is ready.
func (l *lane) next(owner *string, cost int64) (p *partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cost > 0 && l.ready.Len() > 0 {
		l.ready.Pay(*owner, cost)
	}
	*owner, p, _ = l.ready.Pop()
	return p
}

// entryCost is what a batch costs beside its bytes, in bytes.
const entryCost = 1 << 10

// run connects, and sends what could not be sent at once by whoever had it ready,
// until the store closes or the broker is retired. There is no lingering: while
// all slots are taken, batches gather by themselves.
func (l *lane) run() {
	defer l.refuse()
	defer func() {
		l.sending.Lock()
		defer l.sending.Unlock()
		l.finish()
		l.hangUp(errRetired)
	}()
	for {
		select {
		case <-l.wake:
		case <-l.b.ctx.Done():
			return
		}
		if l.early.Swap(false) {
			l.connectEarly()
		}
		for l.b.ctx.Err() == nil && l.pass() {
		}
	}
}

// connectEarly has a connection ready before there is something to send.
func (l *lane) connectEarly() {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.finish()
	if l.waiting() {
		return // pass does it
	}
	if _, err := l.connected(); err != nil {
		l.s.log.Debug("no connection for appends yet", "broker", l.b.node, "error", err)
	}
}

// sendState is what became of an attempt to send.
type sendState int

const (
	sendDone sendState = iota // nothing is ready any more
	sendFull                  // all slots are taken; the reader looks when it frees one
	sendWait                  // the rest takes waiting, for a connection or for the socket
)

// Whoever finds sending held leaves what it made ready to the holder, who looks
// at the list once more after letting go. The same holds for a slot that the
// reader freed meanwhile.

// pass sends what is ready, waiting as long as connection and socket make it wait.
// It returns false when there is nothing to do until the next wake-up.
func (l *lane) pass() (again bool) {
	l.sending.Lock()
	l.finish()
	if !l.waiting() {
		l.sending.Unlock()
		return l.waiting()
	}
	k, err := l.connected()
	if err != nil {
		l.s.log.Debug("no connection for appends", "broker", l.b.node, "error", err)
		l.refuse()
		l.sending.Unlock()
		return l.waiting()
	}
	state := l.sendReady(k)
	l.finish()
	l.sending.Unlock()
	return l.waiting() && (state != sendFull || k.hasSlot())
}

// sendNow sends what is ready as far as that takes no waiting, on the goroutine
// of whoever made it ready: the batches are in its CPU's cache, and no other has
// to be woken. false leaves the rest to the lane's own goroutine.
func (l *lane) sendNow() bool {
	for l.waiting() {
		if !l.sending.TryLock() {
			return true
		}
		if l.unsent != nil {
			l.sending.Unlock()
			return false
		}
		l.mu.Lock()
		k := l.link
		l.mu.Unlock()
		if k == nil || k.sock == nil || k.cn.expired(time.Now()) {
			l.sending.Unlock()
			return false
		}
		state := l.sendReady(k)
		l.sending.Unlock()
		switch {
		case state == sendWait:
			return false
		case state == sendFull && !k.hasSlot():
			return true
		}
	}
	return true
}

// sendReady sends requests as long as there are batches and slots, and no longer
// than the socket takes all at once. Needs sending.
func (l *lane) sendReady(k *link) sendState {
	for l.waiting() {
		select {
		case <-k.broken:
			return sendWait
		default:
		}
		select {
		case k.slots <- struct{}{}:
		default:
			return sendFull
		}
		l.send(k)
		if l.unsent != nil {
			return sendWait
		}
	}
	return sendDone
}

// finish writes what the socket did not take at once. Needs l.sending.
func (l *lane) finish() {
	c := l.unsent
	if c == nil {
		return
	}
	l.unsent = nil
	k := c.link
	_ = k.cn.nc.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails only on a closed socket: the write tells
	_, err := l.scatter.WriteTo(k.cn.out)
	if err == nil {
		err = k.cn.flushed()
	}
	l.wrote(c, err)
}

// wrote ends a call's writing. Needs l.sending.
func (l *lane) wrote(c *call, err error) {
	l.scatter.Reset()
	// A frame that was not written whole is never served.
	c.whole = err == nil
	batches, bytes := len(c.entries), c.bytes
	close(c.wrote)
	if err != nil {
		c.link.fail(err)
		return
	}
	l.s.stats.sent(batches, bytes)
}

func (l *lane) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready.Len() > 0
}

// connected returns the connection, after it has made one. Needs sending; only
// the lane's goroutine calls it.
func (l *lane) connected() (*link, error) {
	if k := l.link; k != nil { // written under sending and mu
		select {
		case <-k.broken:
			l.hangUp(k.why)
		default:
			if !k.cn.expired(time.Now()) || len(k.slots) > 0 { // else nothing is under way
				return k, nil
			}
			l.hangUp(errors.New("a new authentication is due"))
		}
	}
	if l.s.isAway() {
		return nil, errAway // those that wait here are told, rather than kept for a dial that hangs
	}
	cn, err := l.s.dialer.dial(l.b.ctx, l.b.addr)
	if err != nil {
		l.b.failed.Store(time.Now().UnixNano())
		return nil, err
	}
	k := &link{cn: cn, sock: wire.NewSocket(cn.nc), slots: make(chan struct{}, l.s.opts.Window), broken: make(chan struct{})}
	if k.version, err = cn.version(wire.ProduceKey, 9, wire.ProduceMaxVersion); err != nil {
		_ = cn.nc.Close()
		return nil, err
	}
	l.mu.Lock()
	l.link = k
	l.mu.Unlock()
	l.s.stats.conns.Add(1)
	k.reader.Go(func() { l.receive(k) })
	if l.b.ctx.Err() != nil { // abort may have looked for a link before there was one
		k.fail(errClosed)
	}
	return k, nil
}

// hangUp ends the connection and waits for its reader, which has by then told
// every entry that was under way. Partitions of the lane have to ask anew who leads.
func (l *lane) hangUp(err error) {
	k := l.link
	if k == nil {
		return
	}
	k.fail(err)
	k.reader.Wait()
	l.mu.Lock()
	l.link = nil
	l.mu.Unlock()
	l.s.stats.conns.Add(-1)
}

// refuse sends all that wait here to their recovery: the broker cannot be reached.
func (l *lane) refuse() {
	l.turn.Add(1)
	var all []*partition // who is refused may be ready again at once
	var owner string
	for p := l.next(&owner, 0); p != nil; p = l.next(&owner, 0) {
		all = append(all, p)
	}
	for _, p := range all {
		p.take(l, nil)
	}
}
