package kafka

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Most brokers of a cluster answer as a rule, and then it is up. Where half of them or fewer do, that says little: all partitions
// may be led by the others, as on two brokers with two replicas of which one is dead, or none may take appends, as on three with
// a minimum of two in-sync replicas. So the partitions that this process has to do with are asked.

const (
	// servedAsked bounds the partitions that are asked.
	servedAsked = 32
	// electing is how long a cluster has to find leaders for what half of its brokers led: broker.session.timeout.ms is 9 s.
	electing = 15 * time.Second
	// peakHeld is how long brokers count that are gone while all partitions are served without them.
	peakHeld = 5 * time.Minute
)

// strength is how many brokers a cluster has, as far as it matters. It is guarded by metadata.mu.
type strength struct {
	peak   int       // most brokers seen at a time
	whole  time.Time // since when all partitions are served without most of them; zero: they are not
	partly time.Time // since when only some are
}

// saw takes how many brokers the cluster lists.
func (x *strength) saw(listed int) { x.peak = max(x.peak, listed) }

// most tells whether most brokers answer.
func (x *strength) most(answering int) bool { return 2*answering > x.peak }

// judge tells whether the cluster takes appends: listed brokers, of which some answer, and that many of the partitions that were
// asked are served; that is not looked at if most brokers answer.
func (x *strength) judge(now time.Time, listed, answering, served, asked int) bool {
	whole, partly := x.whole, x.partly
	x.whole, x.partly = time.Time{}, time.Time{}
	switch {
	case x.most(answering):
		return true
	case asked == 0 || served == 0:
		return false
	case served == asked:
		if x.whole = whole; whole.IsZero() {
			x.whole = now
		} else if now.Sub(whole) >= peakHeld {
			x.peak = listed
		}
		return true
	}
	if x.partly = partly; partly.IsZero() {
		x.partly = now
	}
	return 2*answering == x.peak && now.Sub(x.partly) < electing
}

// served asks the leaders of some partitions that this process has to do with whether they take appends. Nothing is appended. Those
// that are gone, or of which nothing is known, are not counted.
func (s *Store) served(ctx context.Context, silent []int32) (served, asked int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range s.some() {
		wg.Go(func() {
			ok, known := s.takes(ctx, p, silent)
			mu.Lock()
			defer mu.Unlock()
			if known {
				asked++
			}
			if ok {
				served++
			}
		})
	}
	wg.Wait()
	return served, asked
}

// some gives partitions of all that there are handles of: the same ones each time, else a cluster would come and go.
func (s *Store) some() []*partition {
	s.mu.Lock()
	list := make([]*partition, 0, len(s.partitions))
	for _, p := range s.partitions {
		list = append(list, p)
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b *partition) int {
		return cmp.Or(bytes.Compare(a.topic.ID[:], b.topic.ID[:]), cmp.Compare(a.index, b.index))
	})
	if len(list) <= servedAsked {
		return list
	}
	out := make([]*partition, 0, servedAsked)
	for i := range servedAsked {
		out = append(out, list[i*len(list)/servedAsked])
	}
	return out
}

// takes tells whether a partition's leader would take an append, if it is not sealed.
func (s *Store) takes(ctx context.Context, p *partition, silent []int32) (ok, known bool) {
	lead, err := s.meta.partition(ctx, p.topic, p.index, time.Now())
	if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrDenied) {
		return false, false
	}
	if err != nil || slices.Contains(silent, lead.leader) {
		return false, true
	}
	b := s.broker(lead.leader)
	if b == nil {
		return false, true
	}
	codes, err := s.probe(ctx, b, p.topic, []int32{p.index})
	if err != nil {
		return false, true
	}
	switch code := codes[p.index]; {
	case code == wire.CorruptMessage, code == wire.MessageTooLarge:
		return true, true
	case kindOf(code) == kindGone, kindOf(code) == kindDenied:
		return false, false
	}
	return false, true
}
