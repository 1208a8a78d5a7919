package kafka

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

// lanes are the connections to one broker that carry appends. Partitions are
// pinned to one of them. A broker serves one request of a connection at a time
// and answers when its slowest partition is in, so suspects go apart.
type lanes struct {
	b      *broker
	mu     sync.Mutex
	normal []*lane
	slow   []*lane
}

func newLanes(b *broker) *lanes {
	return &lanes{b: b, normal: make([]*lane, b.s.opts.ProduceConns), slow: make([]*lane, maxSlowLanes)}
}

// get returns the lane of a partition and starts it if need be.
func (ls *lanes) get(key partitionKey, suspect bool) *lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	list := ls.normal
	if suspect {
		list = ls.slow
	}
	i := key.hash() % uint32(len(list))
	if list[i] == nil {
		l := &lane{s: ls.b.s, b: ls.b, wake: make(chan struct{}, 1), suspects: suspect}
		list[i] = l
		ls.b.s.spawn(l.run)
	}
	return list[i]
}

func (k partitionKey) hash() uint32 {
	h := uint32(2166136261)
	for _, c := range k.topic {
		h = (h ^ uint32(c)) * 16777619
	}
	// Partitions of a topic spread evenly.
	return h + uint32(k.index)
}

func (ls *lanes) each(f func(*lane)) {
	ls.mu.Lock()
	all := append(slices.Clone(ls.normal), ls.slow...)
	ls.mu.Unlock()
	for _, l := range all {
		if l != nil {
			f(l)
		}
	}
}

func (ls *lanes) abort() { ls.each(func(l *lane) { l.abort(errRetired) }) }

func (ls *lanes) watch(now time.Time) { ls.each(func(l *lane) { l.watch(now) }) }

// lane is one connection for appends. Its goroutine builds and writes requests;
// another, for the time of a connection, reads answers.
type lane struct {
	s        *Store
	b        *broker
	suspects bool
	wake     chan struct{}
	// turn counts the connections that were lost.
	turn atomic.Uint64

	mu    sync.Mutex
	ready []*partition // with something to send, in the order of their turns
	link  *link        // nil while not connected
}

// link is one connection of a lane and what is under way on it.
type link struct {
	cn      *conn
	version int16
	slots   chan struct{} // one for each request under way
	reader  sync.WaitGroup
	broken  chan struct{}
	once    sync.Once
	why     error
	checked atomic.Int64 // when somebody last asked whether another broker leads

	mu      sync.Mutex
	pending []*call // in the order of their answers
	ended   bool    // the reader is done: it tells no more
}

// push queues a call for its answer. The reader waits without a deadline while
// nothing is under way: so a connection that the broker closes is noticed before
// an append is sent on it whose outcome would be unknown.
//
// It fails when the connection has ended and its reader with it.
func (k *link) push(c *call) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.pending = append(k.pending, c)
	if len(k.pending) == 1 {
		_ = k.cn.nc.SetReadDeadline(c.expiry) // fails only on a closed socket: the read tells
	}
	return true
}

// pop takes the call that is to be answered next, nil if there is none.
func (k *link) pop() *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 {
		return nil
	}
	c := k.pending[0]
	k.pending[0] = nil
	k.pending = k.pending[1:]
	next := time.Time{}
	if len(k.pending) > 0 {
		next = k.pending[0].expiry
	}
	_ = k.cn.nc.SetReadDeadline(next) // fails only on a closed socket: the read tells
	return c
}

// drain takes the next call of a broken connection. With nil the reader is done,
// and push refuses.
func (k *link) drain() *call {
	c := k.pop()
	if c != nil {
		return c
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 {
		k.ended = true
		return nil
	}
	c = k.pending[0]
	k.pending = k.pending[1:]
	return c
}

// head is the call that is to be answered next, nil if there is none.
func (k *link) head() *call {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.pending) == 0 {
		return nil
	}
	return k.pending[0]
}

// call is one Produce request.
type call struct {
	lane    *lane
	entries []*entry
	corr    int32
	sent    time.Time
	expiry  time.Time // when the connection is given up
	// wrote is closed when the socket has let go of the batches; whole tells then
	// whether it took all of the frame.
	wrote chan struct{}
	whole bool
}

// fail breaks the connection, once.
func (k *link) fail(err error) {
	k.once.Do(func() {
		k.why = err
		close(k.broken)
		_ = k.cn.nc.Close()
	})
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
	l.mu.Lock()
	l.ready = append(l.ready, p)
	l.mu.Unlock()
	if l.b.ctx.Err() != nil {
		// The goroutine may have taken its last look at the list.
		l.refuse()
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) takeReady(max int) []*partition {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(max, len(l.ready))
	got := l.ready[:n:n]
	l.ready = l.ready[n:]
	return got
}

// run sends what is ready until the store closes or the broker is retired. There is no lingering: while
// all slots are taken, batches gather by themselves.
func (l *lane) run() {
	defer l.refuse()
	defer l.hangUp(errRetired)
	request := new(wire.ProduceRequest)
	scatter := new(wire.Scatter)
	for {
		select {
		case <-l.wake:
		case <-l.b.ctx.Done():
			return
		}
		for l.waiting() {
			if l.b.ctx.Err() != nil {
				return
			}
			k, err := l.connected()
			if err != nil {
				l.s.log.Debug("no connection for appends", "broker", l.b.node, "error", err)
				l.refuse()
				break
			}
			select {
			case k.slots <- struct{}{}:
			case <-k.broken:
				continue
			case <-l.b.ctx.Done():
				return
			}
			c := l.collect(k.version)
			if c == nil {
				<-k.slots
				continue
			}
			l.send(k, c, request, scatter)
		}
	}
}

func (l *lane) waiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ready) > 0
}

// connected returns the connection, after it has made one.
func (l *lane) connected() (*link, error) {
	if k := l.link; k != nil { // written by this goroutine only
		select {
		case <-k.broken:
			l.hangUp(k.why)
		default:
			if !k.cn.expired(time.Now()) || len(k.slots) > 0 {
				return k, nil
			}
			l.hangUp(errors.New("a new authentication is due"))
		}
	}
	cn, err := l.s.dialer.dial(l.b.ctx, l.b.addr)
	if err != nil {
		l.b.failed.Store(time.Now().UnixNano())
		return nil, err
	}
	k := &link{cn: cn, slots: make(chan struct{}, l.s.opts.Window), broken: make(chan struct{})}
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
	for _, p := range l.takeReady(1 << 30) {
		p.take(l, nil)
	}
}

// collect makes the next request: at most one batch per partition, since a broker
// takes no more, and partitions in turns. nil when all who were ready had nothing.
func (l *lane) collect(version int16) *call {
	c := &call{lane: l, wrote: make(chan struct{})}
	size := 0
	var again []*partition
	for size < l.s.opts.RequestBytes && len(c.entries) < maxPerRequest {
		got := l.takeReady(1)
		if len(got) == 0 {
			break
		}
		e, more := got[0].take(l, c)
		if e != nil {
			c.entries = append(c.entries, e)
			size += e.size
		}
		if more {
			again = append(again, got[0])
		}
	}
	if len(again) > 0 {
		l.mu.Lock()
		l.ready = append(l.ready, again...)
		l.mu.Unlock()
	}
	if len(c.entries) == 0 {
		return nil
	}
	slices.SortStableFunc(c.entries, func(x, y *entry) int {
		if d := cmp.Compare(x.p.topic.Name, y.p.topic.Name); d != 0 {
			return d
		}
		return bytes.Compare(x.p.topic.ID[:], y.p.topic.ID[:])
	})
	return c
}

// send writes one request and queues it for the reader.
func (l *lane) send(k *link, c *call, request *wire.ProduceRequest, scatter *wire.Scatter) {
	now := time.Now()
	request.Reset()
	request.Acks = -1
	var timeout time.Duration
	var last *entry
	bytes := 0
	for _, e := range c.entries {
		if last == nil || last.p.topic != e.p.topic {
			request.AddTopic([]byte(e.p.topic.Name), e.p.topic.ID)
		}
		request.AddPartition(e.p.index, e.batch())
		timeout = max(timeout, e.deadline().Sub(now))
		bytes += e.size
		last = e
	}
	timeout = min(max(timeout, time.Second), 30*time.Second)
	request.TimeoutMillis = int32(timeout.Milliseconds())
	c.sent, c.expiry = now, now.Add(timeout+answerSlack)
	k.cn.corr++
	c.corr = k.cn.corr
	err := request.AppendFrame(scatter, k.version, c.corr, k.cn.id)
	// Queued before it is written: the answer may come before the write returns.
	if !k.push(c) {
		close(c.wrote)
		c.lost(k.why)
		<-k.slots
		scatter.Reset()
		return
	}
	if err == nil {
		_ = k.cn.nc.SetWriteDeadline(now.Add(writeTimeout)) // fails only on a closed socket: the write tells
		if _, err = scatter.WriteTo(k.cn.out); err == nil {
			err = k.cn.flushed()
		}
	}
	scatter.Reset()
	// A frame that was not written whole is never served.
	c.whole = err == nil
	close(c.wrote)
	if err != nil {
		k.fail(err)
		return
	}
	l.s.stats.sent(len(c.entries), bytes)
}

// batch and deadline are read while the entry's call is not written yet: expire leaves it alone.
func (e *entry) batch() []byte       { return e.a.Batch }
func (e *entry) deadline() time.Time { return e.a.Deadline }

// lost tells all entries that there will be no answer.
func (c *call) lost(err error) {
	<-c.wrote
	for _, e := range c.entries {
		e.p.lostConn(e, c.whole, err)
	}
}

// receive handles answers until the connection breaks, then tells what is left.
func (l *lane) receive(k *link) {
	frames := wire.NewFrameReader(k.cn.nc, maxProduceFrame)
	resp := new(wire.ProduceResponse)
	before := time.Time{}
	for {
		err := l.answer(k, frames, resp, &before)
		if err == nil {
			<-k.slots
			continue
		}
		k.fail(err)
		// From here on partitions of this lane have to ask who leads, and whether
		// the log still holds what it acknowledged.
		l.turn.Add(1)
		for c := k.drain(); c != nil; c = k.drain() {
			c.lost(k.why)
			<-k.slots
		}
		return
	}
}

func (l *lane) answer(k *link, frames *wire.FrameReader, resp *wire.ProduceResponse, before *time.Time) error {
	frame, err := frames.Next()
	if err != nil {
		return err
	}
	defer frame.Release()
	corr, body, err := wire.ParseResponseHeader(frame.B, wire.ProduceKey, k.version)
	if err != nil {
		return err
	}
	if err := resp.Decode(k.version, body); err != nil {
		return err
	}
	c := k.head()
	if c == nil || corr != c.corr {
		return fmt.Errorf("answer to request %d came out of turn", corr)
	}
	found, err := match(c.entries, resp, k.version >= 13)
	if err != nil {
		return err
	}
	k.pop()
	<-c.wrote
	// The broker began with this request when it was done with the one before.
	now := time.Now()
	took := now.Sub(c.sent)
	if before.After(c.sent) {
		took = now.Sub(*before)
	}
	*before = now
	for i, e := range c.entries {
		e.p.answered(e, found[i], took)
	}
	l.s.stats.answered(took)
	return nil
}

// match finds each entry's result. A broker that leaves one out is not believed.
func match(entries []*entry, resp *wire.ProduceResponse, byID bool) ([]*wire.ProduceResult, error) {
	is := func(e *entry, r *wire.ProduceResult) bool {
		t := &resp.Topics[r.Topic]
		return r.Index == e.p.index && (byID && t.ID == e.p.topic.ID || !byID && string(t.Name) == e.p.topic.Name)
	}
	found := make([]*wire.ProduceResult, len(entries))
	var index map[partitionKey]*wire.ProduceResult
	for i, e := range entries {
		if i < len(resp.Partitions) && is(e, &resp.Partitions[i]) {
			found[i] = &resp.Partitions[i]
			continue
		}
		if index == nil && byID && len(entries) > 16 {
			index = make(map[partitionKey]*wire.ProduceResult, len(resp.Partitions))
			for j := range resp.Partitions {
				r := &resp.Partitions[j]
				index[partitionKey{resp.Topics[r.Topic].ID, r.Index}] = r
			}
		}
		if index != nil {
			found[i] = index[partitionKey{e.p.topic.ID, e.p.index}]
		} else {
			for j := range resp.Partitions {
				if is(e, &resp.Partitions[j]) {
					found[i] = &resp.Partitions[j]
					break
				}
			}
		}
		if found[i] == nil {
			return nil, fmt.Errorf("%w: Produce answer leaves a partition out", wire.ErrMalformed)
		}
	}
	return found, nil
}

// watch looks at a lane whose oldest request has no answer for a while: when
// another broker leads by now, the connection is given up, for this one may hang
// until its timeout.
func (l *lane) watch(now time.Time) {
	l.mu.Lock()
	k := l.link
	l.mu.Unlock()
	if k == nil {
		return
	}
	if c := k.head(); c == nil || now.Sub(c.sent) < stallAfter {
		return
	}
	last := k.checked.Load()
	if now.UnixNano()-last < int64(stallAfter) || !k.checked.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	l.b.failed.Store(now.UnixNano())
	l.s.spawn(func() { l.checkLeaders(k, now) })
}

func (l *lane) checkLeaders(k *link, now time.Time) {
	ctx, cancel := context.WithTimeout(l.s.closing, l.s.opts.RequestTimeout)
	defer cancel()
	topics := map[[16]byte]*topicMeta{}
	for _, p := range l.s.snapshot(nil) {
		p.mu.Lock()
		here := p.lane == l && p.flying > 0
		p.mu.Unlock()
		if !here {
			continue
		}
		t, ok := topics[p.topic.ID]
		if !ok {
			var err error
			if t, err = l.s.meta.fresh(ctx, p.topic); err != nil {
				l.s.log.Debug("no metadata for a lane that stalls", "broker", l.b.node, "error", err)
			}
			topics[p.topic.ID] = t
		}
		if t != nil && int(p.index) < len(t.partitions) && t.partitions[p.index].leader >= 0 && t.partitions[p.index].leader != l.b.node {
			k.fail(errors.New("no answer for a while, and another broker leads by now"))
			return
		}
	}
}

// isWritten tells whether the socket has let go of the batches.
func (c *call) isWritten() bool {
	select {
	case <-c.wrote:
		return true
	default:
		return false
	}
}
