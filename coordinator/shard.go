package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// phase of a shard on this gateway.
type phase int8

const (
	phaseClaiming phase = iota // not this gateway's yet
	phaseLoading               // claimed, being replayed
	phaseActive
	phaseOver // resigned or lost
)

// shard drives one machine: it feeds requests and time in, writes the records in
// groups, and lets answers go when their records are durable. run is its only
// goroutine besides those of the callers.
type shard struct {
	c      *Coordinator
	number int32
	logger *slog.Logger

	// Owned by run.
	lease catalog.Shard
	log   Log
	id    int64 // producer id
	epoch int16 // producer epoch
	seq   int32 // of the next batch
	next  int64 // offset that the next batch should get; 0 unknown
	// patience ends now and then while a batch is on its way.
	patience *time.Timer

	session atomic.Int64 // the lease it was claimed under

	mu      sync.Mutex
	phase   phase
	m       *machine
	queue   []record // emitted, not being written yet
	bytes   int      // of all records that are not durable
	emitted uint64   // records, ever
	durable uint64
	waits   []queuedWait
	wakeAt  int64 // ms, what the timer is set to; 0: not set
	unwake  func() bool
	snap    *snapshot
	grown   int64 // bytes appended since the last snapshot began
	size    int64 // bytes of the last snapshot
	rewrite bool  // a snapshot is to begin however little was appended
	sealed  sealedPart
	due     bool        // what is queued is to be written now
	linger  *time.Timer // makes it due; nil: nothing lingers
	lingers time.Duration

	kick   chan struct{} // there is something to write
	resign chan struct{} // closed: flush and release
	once   sync.Once
	cancel context.CancelFunc // ends run at once
	loaded func()             // gives the slot for loading back
}

// queuedWait is a wait that is due when durable reaches upTo.
type queuedWait struct {
	wait
	upTo  uint64
	since int64 // ms
}

func newShard(c *Coordinator, number int32) *shard {
	return &shard{
		c:      c,
		number: number,
		logger: c.logger.With("shard", number),
		kick:   make(chan struct{}, 1),
		resign: make(chan struct{}),

		lingers:  lingerTime,
		patience: time.NewTimer(time.Hour),
	}
}

// leave asks the shard to flush and go.
func (s *shard) leave() { s.once.Do(func() { close(s.resign) }) }

// drop ends a shard that is somebody else's, or nobody's.
func (s *shard) drop() {
	s.end()
	s.cancel()
}

// alive tells whether the claim holds for sure.
func (s *shard) alive() bool { return s.c.leases.Alive(s.session.Load()) }

// do runs fn as an event of the machine, unless the code says why not.
func (s *shard) do(fn func(m *machine)) wire.Code {
	if !s.alive() {
		// Somebody else may have the shard by now.
		return wire.NotCoordinator
	}
	s.mu.Lock()
	switch {
	case s.phase == phaseLoading:
		s.mu.Unlock()
		return wire.CoordinatorLoadInProgress
	case s.phase != phaseActive:
		s.mu.Unlock()
		return wire.NotCoordinator
	case s.bytes > s.c.config.PendingBytes:
		s.mu.Unlock()
		return wire.CoordinatorNotAvailable
	}
	s.m.now = max(s.m.now, s.c.clock.Now().UnixMilli())
	fn(s.m)
	replies := s.settle()
	s.mu.Unlock()
	for _, reply := range replies {
		reply()
	}
	return wire.None
}

// inTerm runs fn, which has no effects but on memory, while the shard is ours by that term: also when its
// log is behind, and when do refuses events for the moment. Later the term's memory counts for nothing.
func (s *shard) inTerm(term int64, fn func(m *machine)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseActive || s.m.term != term {
		return
	}
	s.m.now = max(s.m.now, s.c.clock.Now().UnixMilli())
	fn(s.m)
}

// settle takes the effects of events until none has any left, and returns the
// replies that may go out, to be run without s.mu. Needs s.mu.
func (s *shard) settle() []func() {
	var replies []func()
	lazy := false
	for {
		e := s.m.take()
		replies = append(replies, e.replies...)
		if len(e.records)+len(e.waits) > 0 {
			s.due, lazy = s.due || !e.lazy, lazy || e.lazy
		}
		for _, r := range e.records {
			s.queue = append(s.queue, r)
			s.bytes += len(r)
			s.emitted++
		}
		for _, w := range e.waits {
			s.waits = append(s.waits, queuedWait{wait: w, upTo: s.emitted, since: s.m.now})
		}
		if len(s.waits) == 0 || s.waits[0].upTo > s.durable {
			break
		}
		w := s.waits[0]
		s.waits[0] = queuedWait{}
		s.waits = s.waits[1:]
		if w.then != nil {
			w.then()
		}
		if w.ok != nil {
			replies = append(replies, s.checked(w.wait))
		}
	}
	switch {
	case len(s.queue) == 0:
		s.due = false
	case s.due:
		s.poke()
	case lazy && s.linger == nil:
		s.linger = time.AfterFunc(s.lingers, s.lingered)
	}
	s.rearm()
	return replies
}

// lingerTime is how long records that nobody waits for may wait for company. A
// producer's next transaction begins well before.
const lingerTime = 25 * time.Millisecond

func (s *shard) lingered() {
	s.mu.Lock()
	s.linger = nil
	s.due = len(s.queue) > 0
	s.mu.Unlock()
	s.poke()
}

// checked holds an answer back if the lease ran out while it was on its way.
func (s *shard) checked(w wait) func() {
	return func() {
		if s.alive() {
			w.ok()
		} else {
			w.lost(wire.NotCoordinator)
		}
	}
}

func (s *shard) poke() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// rearm sets the timer to the machine's next. Needs s.mu.
func (s *shard) rearm() {
	at, ok := s.m.wake()
	if !ok || s.phase != phaseActive || s.wakeAt != 0 && s.wakeAt <= at {
		return
	}
	if s.unwake != nil {
		s.unwake()
	}
	s.wakeAt = at
	s.unwake = s.c.clock.AfterFunc(time.Duration(max(at-s.m.now, 0))*time.Millisecond, s.tick)
}

func (s *shard) tick() {
	s.mu.Lock()
	s.wakeAt = 0
	s.mu.Unlock()
	// Whatever the code: a shard that is not active has no use for timers, and one
	// whose lease may be over must not remove members.
	if code := s.do(func(m *machine) { m.tick() }); code != wire.None {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.phase == phaseActive && s.wakeAt == 0 {
			s.wakeAt = s.m.now + 1
			s.unwake = s.c.clock.AfterFunc(time.Second, s.tick)
		}
	}
}

// end makes the shard answer NOT_COORDINATOR from now on, also to what is parked
// or waits for the log.
func (s *shard) end() {
	s.mu.Lock()
	s.phase = phaseOver
	if s.m != nil {
		s.m.counts.uncounted()
		s.m.ids.uncounted()
		s.m.held.uncounted()
	}
	if s.unwake != nil {
		s.unwake()
	}
	if s.linger != nil {
		s.linger.Stop()
	}
	replies := s.fail(wire.NotCoordinator)
	s.mu.Unlock()
	for _, reply := range replies {
		reply()
	}
}

// fail answers everything that waits. Needs s.mu.
func (s *shard) fail(code wire.Code) []func() {
	var replies []func()
	for _, w := range s.waits {
		if w.lost != nil {
			replies = append(replies, func() { w.lost(code) })
		}
	}
	s.waits = nil
	if s.m != nil {
		s.m.lose(code)
		replies = append(replies, s.m.take().replies...)
	}
	return replies
}

// overdue answers what has waited too long for the log. It may still be written.
func (s *shard) overdue() {
	s.mu.Lock()
	now := s.c.clock.Now().UnixMilli()
	limit := s.c.config.CommitTimeout.Milliseconds()
	var replies []func()
	for i := range s.waits {
		w := &s.waits[i]
		if now-w.since < limit {
			break
		}
		if w.lost != nil {
			lost := w.lost
			replies = append(replies, func() { lost(wire.CoordinatorNotAvailable) })
			w.ok, w.lost = nil, nil
		}
	}
	s.mu.Unlock()
	for _, reply := range replies {
		reply()
	}
}

// run owns the shard from the claim to the release. ctx ends it at once.
func (s *shard) run(ctx context.Context) {
	defer s.end()
	session := s.c.leases.Lease()
	claimed, err := s.c.leases.ClaimShard(ctx, s.number)
	if err == nil && s.c.leases.Lease() != session {
		// Under which of the two it was claimed cannot be told.
		err = errors.Join(catalog.ErrSessionLost, s.c.leases.ReleaseShard(ctx, claimed))
	}
	if err != nil {
		s.logger.Debug("shard not claimed", "err", err)
		s.c.keeper.failed(s.number, s.c.clock.Now())
		return
	}
	began := s.c.clock.Now()
	s.session.Store(session)
	s.mu.Lock()
	s.lease = claimed
	s.phase = phaseLoading
	s.mu.Unlock()
	err = s.load(ctx)
	s.loaded()
	switch {
	case err == nil:
		s.c.keeper.served(s.number)
		err = s.serve(ctx, began)
	case errors.Is(err, errMissing):
		err = nil
	default:
		s.c.keeper.failed(s.number, s.c.clock.Now())
	}
	if err != nil && ctx.Err() == nil {
		s.logger.Warn("shard is lost", "term", s.lease.Term, "err", err)
		s.c.metrics.lost.Inc()
	}
	s.end()
	if !s.alive() {
		// Freed by the end of the lease.
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.c.leases.ReleaseShard(ctx, s.lease); err != nil {
		s.logger.Warn("shard not released", "err", err)
	}
}

// serve answers requests until the shard is resigned or lost.
func (s *shard) serve(ctx context.Context, began time.Time) error {
	s.mu.Lock()
	s.m.now = max(s.m.now, s.c.clock.Now().UnixMilli())
	s.m.begin()
	decided := s.m.beginTxns()
	s.phase = phaseActive
	groups := len(s.m.groups)
	replies := s.settle()
	s.mu.Unlock()
	for _, reply := range replies {
		reply()
	}
	for _, key := range decided {
		s.c.settleTxn(key, nil)
	}
	took := s.c.clock.Now().Sub(began)
	s.c.metrics.takeover.Observe(took.Seconds())
	s.logger.Debug("shard is served", "term", s.lease.Term, "groups", groups, "took", took)
	ready, err := s.c.leases.SetShardReady(ctx, s.lease)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.lease = ready
	s.mu.Unlock()
	return s.write(ctx)
}

// term of the claim, and the catalog's revision of it; 0 before the claim.
func (s *shard) claim() (term, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.Term, s.lease.Revision
}
