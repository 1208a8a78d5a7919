package kafka

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/wire"
)

// collect makes the next request: at most one batch per partition, since a broker
// takes no more, and partitions in turns. nil when all who were ready had nothing.
func (l *lane) collect(k *link) *call {
	c := &call{lane: l, link: k, wrote: make(chan struct{})}
	size, cost := 0, int64(0)
	var owner string
	var again []*partition
	for size < l.s.opts.RequestBytes && len(c.entries) < maxPerRequest {
		p := l.next(&owner, cost)
		cost = 0
		if p == nil {
			break
		}
		e, more := p.take(l, c)
		if e != nil {
			c.entries = append(c.entries, e)
			size += e.size
			cost = int64(e.size) + entryCost
		}
		if more {
			again = append(again, p)
		}
	}
	if len(again) > 0 || cost > 0 {
		l.mu.Lock()
		if cost > 0 {
			l.ready.Pay(owner, cost)
		}
		for _, p := range again {
			l.ready.Push(p.ownedBy(), p)
		}
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

// send makes one request of what is ready, queues it for the reader and writes as
// much of it as the socket takes at once; finish writes the rest. It takes over a
// slot. Needs l.sending.
func (l *lane) send(k *link) {
	c := l.collect(k)
	if c == nil {
		<-k.slots
		return
	}
	now := time.Now()
	request := &l.request
	request.Reset()
	request.Acks = -1
	var timeout time.Duration
	var last *entry
	for _, e := range c.entries {
		if last == nil || last.p.topic != e.p.topic {
			request.AddTopic([]byte(e.p.topic.Name), e.p.topic.ID)
		}
		request.AddPartition(e.p.index, e.batch())
		timeout = max(timeout, e.deadline().Sub(now))
		c.bytes += e.size
		last = e
	}
	timeout = min(max(timeout, time.Second), 30*time.Second)
	request.TimeoutMillis = int32(timeout.Milliseconds())
	c.sent, c.expiry = now, now.Add(timeout+answerSlack)
	k.cn.corr++
	c.corr = k.cn.corr
	err := request.AppendFrame(&l.scatter, k.version, c.corr, k.cn.id)
	// Queued before it is written: the answer may come before the write returns.
	if !k.push(c) {
		l.scatter.Reset()
		close(c.wrote)
		c.lost(k.why)
		<-k.slots
		return
	}
	done := err != nil
	if err == nil {
		_, done, err = l.scatter.TryWriteTo(k.sock)
	}
	if done || err != nil {
		l.wrote(c, err)
		return
	}
	l.unsent = c
}

// batch and deadline are read while the entry's call is not written yet: expire leaves it alone.
func (e *entry) batch() []byte { return e.a.Batch }

func (e *entry) deadline() time.Time { return e.a.Deadline }

// receive handles answers until the connection breaks, then tells what is left.
func (l *lane) receive(k *link) {
	frames := wire.NewFrameReader(k.cn.nc, maxProduceFrame)
	resp := new(wire.ProduceResponse)
	before := time.Time{}
	for {
		err := l.answer(k, frames, resp, &before)
		if err == nil {
			<-k.slots
			if l.waiting() {
				l.Wake()
			}
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
		if l.waiting() {
			l.Wake()
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
	l.s.meta.away.passed()
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
