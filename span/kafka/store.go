// Package kafka keeps spans on Apache Kafka clusters (3.9 and later) and on what
// speaks their protocol.
//
// Records go by connections of this package's own: a batch that is appended is
// handed to the kernel as it is, and what is read lies in the buffer that it was
// received in. Appends of many partitions to one broker share requests (lane.go),
// reads that wait share long polls (fetcher.go). All other requests take one
// control connection per broker (control.go).
//
// Lock order: Store.mu and partition.mu are never held together; lane.mu and
// fetcher.mu come last. No I/O happens under any of them.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Store is one Kafka cluster. It implements [span.Store].
type Store struct {
	opts   Options
	log    *slog.Logger
	dialer *dialer
	meta   *metadata
	stats  counters
	turn   atomic.Uint32
	read   *budget

	// closing ends with Close; every wait looks at it.
	closing context.Context
	close   context.CancelFunc

	// produceVersions is what a broker said of Produce, [2]int16.
	produceVersions atomic.Value
	// bumpsEpochs is whether the cluster has transaction.version=2 or later.
	bumpsEpochs atomic.Bool

	// closeMu is held for reading by callers while they may start goroutines, so
	// that Close waits for all of them.
	closeMu  sync.RWMutex
	closed   bool
	draining atomic.Bool

	mu         sync.Mutex
	running    sync.WaitGroup
	brokers    map[int32]*broker
	partitions map[partitionKey]*partition
	idle       int                    // partitions without a holder
	seals      map[[16]byte]sealState // what unseal restores
	limits     *sealGrant

	creates      *gather[span.Spec, created]
	alters       *gather[alteration, wire.Code]
	coordinators txnCoordinators
	wedged       wedged
	txnLines     txnLines
}

type partitionKey struct {
	topic [16]byte
	index int32
}

var _ span.Store = (*Store)(nil)

// maxIdle is how many partitions are remembered after their last holder released
// them, for the sake of what was seen committed in them.
const maxIdle = 10_000

// Open makes a store. It connects to nothing yet: a cluster that is away must not
// keep a process from starting.
func Open(o Options) (*Store, error) {
	o.defaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	sec, err := newSecurity(o.Config)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", o.Name, err)
	}
	s := &Store{
		opts: o, log: o.Logger.With("cluster", o.Name),
		dialer:     &dialer{security: sec, clientID: []byte(o.ClientID), timeout: o.DialTimeout, connect: o.Dial},
		read:       newBudget(o.ReadBytes),
		brokers:    map[int32]*broker{},
		partitions: map[partitionKey]*partition{},
		seals:      map[[16]byte]sealState{},
	}
	s.stats.busy = make(chan struct{}, 1)
	s.closing, s.close = context.WithCancel(context.Background())
	s.meta = newMetadata(s)
	s.creates, s.alters = newCreates(s), newAlters(s)
	s.mu.Lock()
	for i, addr := range o.Bootstrap {
		s.addBroker(int32(-1-i), addr)
	}
	s.mu.Unlock()
	s.spawn(s.meta.run)
	s.spawn(s.sweep)
	return s, nil
}

// Name implements [span.Store].
func (s *Store) Name() string { return s.opts.Name }

// spawn runs f in a goroutine that Close waits for. Its callers are such
// goroutines themselves, or hold closeMu and have seen that the store is open.
func (s *Store) spawn(f func()) { s.running.Go(f) }

// pause waits, or fails when the context or the store ends first.
func (s *Store) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing.Done():
		return errClosed
	}
}

// Log implements [span.Store].
func (s *Store) Log(t span.Topic, index int32) span.Log {
	return s.partition(t, index)
}

func (s *Store) partition(t span.Topic, index int32) *partition {
	key := partitionKey{t.ID, index}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[key]
	if p == nil {
		p = newPartition(s, t, index)
		s.partitions[key] = p
	} else if p.holders == 0 {
		s.idle--
	}
	p.holders++
	return p
}

// release gives a handle back. What was seen of the partition is kept for a while.
func (s *Store) release(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.holders--
	if p.holders > 0 {
		return
	}
	s.idle++
	if s.idle <= maxIdle {
		return
	}
	for key, q := range s.partitions {
		if q.holders == 0 && q.outstanding.Load() == 0 {
			delete(s.partitions, key)
			s.idle--
			return
		}
	}
}

// Forget drops what was seen committed in a partition, after the chain was
// extended past what its log has lost: see [span.TruncatedError].
func (s *Store) Forget(t span.Topic, index int32) {
	s.mu.Lock()
	p := s.partitions[partitionKey{t.ID, index}]
	s.mu.Unlock()
	if p != nil {
		p.forget()
	}
}

// forgetLosses forgets of each partition of a sealed topic that its log went back:
// nothing is appended to it any more, and the ends that the seal read say what is left.
func (s *Store) forgetLosses(t span.Topic, partitions int) {
	for i := range int32(partitions) {
		s.mu.Lock()
		p := s.partitions[partitionKey{t.ID, i}]
		s.mu.Unlock()
		if p != nil && p.hasLost() {
			p.forget()
		}
	}
}

// forgetTopic drops everything known of a topic that is gone.
func (s *Store) forgetTopic(id [16]byte) {
	s.meta.forget(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seals, id)
	for key, p := range s.partitions {
		if key.topic != id {
			continue
		}
		if p.holders == 0 && p.outstanding.Load() == 0 {
			delete(s.partitions, key)
			s.idle--
		} else {
			p.lookAgain.Store(true)
		}
	}
}

// checkNames looks for topics that were replaced by others of the same name. It is
// for brokers before 4.1, whose Produce knows names only; physical names are never
// used twice by Braid, so this finds what somebody else did. Those of 4.1 and later tell.
func (s *Store) checkNames(all []*partition) {
	v, ok := s.produceVersions.Load().([2]int16)
	if !ok || v[1] >= 13 {
		return
	}
	topics := map[span.Topic]bool{}
	for _, p := range all {
		if p.outstanding.Load() > 0 {
			topics[p.topic] = true
		}
	}
	for t := range topics {
		s.spawn(func() {
			if _, err := s.meta.fresh(s.closing, t); errors.Is(err, span.ErrGone) {
				s.forgetTopic(t.ID)
			}
		})
	}
}

// snapshot lists the partitions.
func (s *Store) snapshot(into []*partition) []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.partitions {
		into = append(into, p)
	}
	return into
}

// Close implements [span.Store]. Every append's Done has been called when it returns.
func (s *Store) Close() error {
	s.closeMu.Lock()
	if s.closed {
		s.closeMu.Unlock()
		return nil
	}
	s.closed = true
	s.closeMu.Unlock()
	s.close()
	s.mu.Lock()
	brokers := make([]*broker, 0, len(s.brokers))
	for _, b := range s.brokers {
		brokers = append(brokers, b)
	}
	s.mu.Unlock()
	for _, b := range brokers {
		b.end()
	}
	s.running.Wait()
	// Whatever was queued when its lane had ended already.
	for _, p := range s.snapshot(nil) {
		p.failAll(errClosed)
	}
	return nil
}

// Drain refuses new appends with span.ErrUnavailable, which says that they did not
// land, lets those under way come to their ends, and closes the store. It is for a
// store that another takes the place of. When the context ends first, it closes
// without waiting any longer.
func (s *Store) Drain(ctx context.Context) error {
	s.draining.Store(true)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for s.stats.queued.Load() > 0 || s.stats.reads.Load() > 0 {
		select {
		case <-tick.C:
		case <-s.closing.Done():
			return s.Close()
		case <-ctx.Done():
			return s.Close()
		}
	}
	return s.Close()
}

// sweepEvery is how exactly deadlines of appends are kept.
const sweepEvery = 50 * time.Millisecond

// namesEvery is how many sweeps lie between two checkNames: 2 s.
const namesEvery = 40

// sweep ends appends whose deadline has passed, and looks after lanes whose
// broker does not answer.
func (s *Store) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var all []*partition
	round := 0
	for {
		if s.stats.queued.Load() == 0 {
			// Most stores of a large fleet are idle most of the time.
			tick.Stop()
			select {
			case <-s.stats.busy:
			case <-s.closing.Done():
				return
			}
			tick.Reset(sweepEvery)
		}
		select {
		case <-tick.C:
		case <-s.closing.Done():
			return
		}
		now := time.Now()
		all = s.snapshot(all[:0])
		for _, p := range all {
			if p.outstanding.Load() > 0 {
				p.expire(now)
			}
		}
		if round++; round%namesEvery == 0 {
			s.checkNames(all)
		}
		clear(all)
		s.mu.Lock()
		brokers := make([]*broker, 0, len(s.brokers))
		for _, b := range s.brokers {
			brokers = append(brokers, b)
		}
		s.mu.Unlock()
		for _, b := range brokers {
			b.lanes.watch(now)
		}
	}
}

// wrap adds what was being done, for errors that go up.
func (s *Store) wrap(what string, t span.Topic, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, errClosed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = unavailable(err)
	}
	return fmt.Errorf("cluster %s: %s %s: %w", s.opts.Name, what, t.Name, err)
}
