package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// broker is all that the store keeps for one broker: its control connection,
// its lanes for appends and its fetchers. It lives as long as the store, or until its
// node has another address.
type broker struct {
	s       *Store
	node    int32 // negative: a bootstrap address whose node id is not known
	addr    string
	ctx     context.Context // ends with the store, or when another address takes over
	retire  context.CancelFunc
	control *control
	lanes   *lanes
	fetch   *fetcher
	probes  *gather[probeOf, map[int32]wire.Code]
	offsets *gather[offsetsOf, offsetsAre]
	states  *gather[string, stateAnswer]
	looks   chan struct{} // one for each batch that is looked up in a log

	txnAppends, txnAsks pinned
	txnLooks            *control // for the states of transactions, made as they are
	// failed is when a control request last got no answer, Unix nanoseconds: such
	// a broker is asked last.
	failed atomic.Int64
}

// request asks this broker. Not getting an answer in time counts against it.
func (b *broker) request(ctx context.Context, req kmsg.Request, low, high int16) (kmsg.Response, error) {
	return b.start(ctx, req, low, high)()
}

// start queues a request and returns what waits for its answer, and has to be
// called. Requests are served in the order of their starts.
func (b *broker) start(ctx context.Context, req kmsg.Request, low, high int16) func() (kmsg.Response, error) {
	return b.startOn(ctx, b.control, req, low, high, time.Time{})
}

func (b *broker) startOn(ctx context.Context, c *control, req kmsg.Request, low, high int16, until time.Time) func() (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, b.s.opts.RequestTimeout)
	call, err := c.startUntil(ctx, req, low, high, until)
	return func() (kmsg.Response, error) {
		defer cancel()
		var resp kmsg.Response
		if err == nil {
			resp, err = c.wait(ctx, call)
		}
		if errors.Is(err, span.ErrTransactionLate) {
			return nil, err
		}
		if err != nil {
			if !errors.Is(err, context.Canceled) && !errors.Is(err, errRetired) {
				b.failed.Store(time.Now().UnixNano())
			}
			return nil, fmt.Errorf("broker %d: %w", b.node, err)
		}
		b.failed.Store(0)
		return resp, nil
	}
}

// broker returns the broker of a node id, nil if it is not known.
func (s *Store) broker(node int32) *broker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.brokers[node]
}

// setBrokers takes the addresses from a metadata answer. A broker that is gone
// from it stays: it may be down for a moment, and its connections may still
// have answers under way.
func (s *Store) setBrokers(list []kmsg.MetadataResponseBroker) {
	s.closeMu.RLock()
	defer s.closeMu.RUnlock()
	if s.closed {
		return
	}
	var moved []*broker
	defer func() {
		for _, b := range moved {
			b.end()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		addr := joinHostPort(list[i].Host, list[i].Port)
		old := s.brokers[list[i].NodeID]
		if old != nil && old.addr == addr {
			continue
		}
		if old == nil && len(s.brokers) >= maxBrokers {
			s.log.Warn("too many brokers, ignoring one", "node", list[i].NodeID)
			continue
		}
		if old != nil {
			s.log.Info("broker moved", "node", old.node, "from", old.addr, "to", addr)
			moved = append(moved, old)
		}
		s.addBroker(list[i].NodeID, addr)
	}
}

// addBroker needs s.mu, and closeMu to have been seen open.
func (s *Store) addBroker(node int32, addr string) {
	b := &broker{s: s, node: node, addr: addr, looks: make(chan struct{}, maxLooks)}
	b.ctx, b.retire = context.WithCancel(s.closing)
	b.control = newControl(b.ctx, s, addr)
	b.lanes = newLanes(b)
	b.fetch = newFetcher(b)
	b.txnLooks = newControl(b.ctx, s, addr)
	b.states = newStates(b)
	b.probes = newProbes(b)
	b.offsets = newOffsets(b)
	s.brokers[node] = b
	s.spawn(b.control.run)
	s.spawn(b.txnLooks.run)
}

// end cuts all connections and ends the broker's goroutines.
func (b *broker) end() {
	b.retire()
	b.lanes.abort()
	b.fetch.abort()
}

// candidates lists all brokers, those first that answered lately, and bootstrap
// addresses last.
func (s *Store) candidates() []*broker {
	s.mu.Lock()
	list := make([]*broker, 0, len(s.brokers))
	for _, b := range s.brokers {
		list = append(list, b)
	}
	s.mu.Unlock()
	now := time.Now().UnixNano()
	weight := func(b *broker) int64 {
		w := int64(0)
		if at := b.failed.Load(); at != 0 && now-at < int64(30*time.Second) {
			w = at // the one that failed last comes last
		}
		if b.node < 0 {
			w++
		}
		return w
	}
	turn := int32(s.turn.Add(1))
	slices.SortFunc(list, func(x, y *broker) int {
		if wx, wy := weight(x), weight(y); wx != wy {
			if wx < wy {
				return -1
			}
			return 1
		}
		// Equals take turns, so that no broker answers for all.
		return int((uint32(x.node)^uint32(turn))&0xff) - int((uint32(y.node)^uint32(turn))&0xff)
	})
	return list
}

// anyTimeout bounds how long one broker of several is waited for.
const anyTimeout = 1500 * time.Millisecond

// clone makes a request's own copy for one broker: who gave up waiting for
// another must not change the version of what that one still writes.
func clone(req kmsg.Request) kmsg.Request {
	switch r := req.(type) {
	case *kmsg.MetadataRequest:
		c := *r
		return &c
	case *kmsg.DescribeConfigsRequest:
		c := *r
		return &c
	}
	return req
}

// any asks one broker after the other until one answers. accept may refuse an
// answer, as of a broker that lags; nil takes every one.
func (s *Store) any(ctx context.Context, req kmsg.Request, low, high int16, accept func(kmsg.Response) error) (kmsg.Response, error) {
	var errs []error
	for _, b := range s.candidates() {
		// One that hangs must not use up all of the caller's time.
		try, cancel := context.WithTimeout(ctx, min(s.opts.RequestTimeout, anyTimeout))
		resp, err := b.request(try, clone(req), low, high)
		cancel()
		if err == nil && accept != nil {
			err = accept(resp)
		}
		if err == nil {
			return resp, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || s.closing.Err() != nil {
			break
		}
	}
	return nil, unavailable(fmt.Errorf("%w: %w", errNoBroker, errors.Join(errs...)))
}
