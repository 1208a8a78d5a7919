package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// lanes are the connections to one broker that carry appends. Partitions are
// pinned to one of them, those of a topic to the same: what a client sent in one
// request then leaves in one request too, where each further one costs this
// process, the kernel and the broker as much again. A broker serves one request
// of a connection at a time and answers when its slowest partition is in, so
// suspects go apart.
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
	i := key.topicHash() % uint32(len(list))
	if suspect {
		i = (key.topicHash() + uint32(key.index)) % uint32(len(list))
	}
	if list[i] == nil {
		l := &lane{s: ls.b.s, b: ls.b, wake: make(chan struct{}, 1), suspects: suspect}
		list[i] = l
		ls.b.s.spawn(l.run)
	}
	return list[i]
}

func (k partitionKey) topicHash() uint32 {
	h := uint32(2166136261)
	for _, c := range k.topic {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
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
	c := k.head()
	if c == nil {
		return
	}
	waited := now.Sub(c.sent)
	if l.s.knownAway() && waited >= l.s.opts.AwayAfter {
		k.fail(errAway)
		return
	}
	if waited >= suspectAfter {
		l.s.suspect(now)
	}
	if waited < stallAfter {
		return
	}
	if l.s.isAway() && l.s.meta.away.lasts(stallAfter) {
		k.fail(errAway)
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
