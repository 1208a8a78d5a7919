package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

var errAway = errors.New("no broker answers for a while")

const (
	// lookFirst and lookMost bound the pause between two looks for a cluster that is away;
	// lookLong is the pause once it has been for lookAWhile.
	lookFirst  = 50 * time.Millisecond
	lookMost   = 250 * time.Millisecond
	lookLong   = time.Second
	lookAWhile = time.Minute
	// suspectAfter is how long an append has no answer until brokers are asked whether
	// they are there; suspectEvery is the least time between two such questions.
	suspectAfter = 500 * time.Millisecond
	suspectEvery = time.Second
	// backFor is how long a cluster counts as just back: its brokers answer, and may not lead
	// their partitions yet.
	backFor = 10 * time.Second
)

// awayness is since when no broker of the cluster answers, Unix nanoseconds, 0: some
// do. Health checks and metadata requests tell, which ask all brokers.
//
// A client's request has partitions of many clusters, and answers keep the order of its
// requests: those that are well wait for as long as this one is waited for. A short absence
// should not be seen by a producer all the same. So the first to meet it wait, for
// Options.AwayAfter. Once one of them has waited in vain the cluster is known to be away:
// nobody waits for it or sends to it from then on, but for one who looks for it.
type awayness struct {
	since atomic.Int64
	// vain is the since for which somebody has waited in vain.
	vain      atomic.Int64
	heard     atomic.Int64 // when an answer last ended an absence
	back      atomic.Int64 // the same of one for which somebody has waited in vain, or would have
	suspected atomic.Int64 // when it was last asked for because of one append
	looking   atomic.Bool
}

// failed takes that a question of that time got no answer. One that was asked before
// the cluster came back says nothing new.
func (a *awayness) failed(began time.Time) {
	if at := began.UnixNano(); at > a.heard.Load() {
		a.since.CompareAndSwap(0, at)
	}
}

// passed takes that some broker answered.
func (a *awayness) passed() {
	if at := a.since.Load(); at != 0 { // mostly it is 0, and many goroutines come by
		now := time.Now().UnixNano()
		if a.vain.Load() == at || now-at >= int64(suspectAfter) {
			a.back.Store(now)
		}
		a.heard.Store(now)
		a.since.Store(0)
	}
}

func (a *awayness) lasts(d time.Duration) bool {
	at := a.since.Load()
	return at != 0 && time.Now().UnixNano()-at >= int64(d)
}

// atMost shortens a pause between attempts while no broker answers: the end of the wait for
// one should be noticed.
func (a *awayness) atMost(d time.Duration) time.Duration {
	if a.since.Load() != 0 {
		return min(d, lookFirst)
	}
	return d
}

// isAway tells whether the cluster has been away for so long that a wait for it ends.
func (s *Store) isAway() bool {
	return s.opts.AwayAfter > 0 && s.meta.away.lasts(s.opts.AwayAfter)
}

// knownAway tells whether nobody waits for the cluster any more: somebody did in vain, or
// would have by now. A health check that ran out of time says by itself that the cluster
// was away for as long, when it may only have been slow.
func (s *Store) knownAway() bool {
	at := s.meta.away.since.Load()
	return at != 0 && s.isAway() && (s.meta.away.vain.Load() == at || s.meta.away.lasts(s.opts.AwayAfter+2*s.opts.HealthTimeout))
}

// justBack tells whether the cluster was known to be away a moment ago. A broker that is started again answers some time
// before anybody leads its partitions; those who come then have waited for the cluster already.
func (s *Store) justBack() bool {
	at := s.meta.away.back.Load()
	return s.opts.AwayAfter > 0 && at != 0 && time.Now().UnixNano()-at < int64(backFor)
}

// givesUp tells whether somebody who has waited since a time should not go on.
func (s *Store) givesUp(began time.Time) bool {
	at := s.meta.away.since.Load()
	if at == 0 || !s.isAway() {
		return false
	}
	if time.Since(began) >= s.opts.AwayAfter {
		s.meta.away.vain.Store(at)
	}
	return s.knownAway()
}

// noAnswer notes that no broker answered a question that was asked at a time, and has
// somebody look for the cluster until one does. The caller does not hold closeMu.
func (s *Store) noAnswer(began time.Time) {
	a := &s.meta.away
	a.failed(began)
	if s.opts.AwayAfter == 0 || a.since.Load() == 0 || !a.looking.CompareAndSwap(false, true) {
		return
	}
	s.closeMu.RLock()
	defer s.closeMu.RUnlock()
	if !s.closed {
		s.spawn(s.look)
	}
}

// look asks all brokers until one answers: since those who are refused do not ask, and
// clients come again at their own pace, nobody else would find out soon.
func (s *Store) look() {
	a := &s.meta.away
	for wait := lookFirst; ; wait = min(2*wait, lookMost) {
		if a.lasts(lookAWhile) {
			wait = lookLong
		}
		if s.pause(s.closing, wait) != nil {
			return
		}
		if a.since.Load() != 0 {
			ctx, cancel := context.WithTimeout(s.closing, s.opts.HealthTimeout)
			_, err := s.describeCluster(ctx)
			cancel()
			if err != nil {
				continue
			}
			a.passed()
		}
		a.looking.Store(false)
		// It may have gone again, with a look under way as it seemed.
		if a.since.Load() == 0 || !a.looking.CompareAndSwap(false, true) {
			return
		}
		wait = lookFirst
	}
}

// suspect asks whether any broker answers, since an append has got no answer for a while: the
// sooner it is known, the shorter the others wait. Once in a while is enough.
func (s *Store) suspect(now time.Time) {
	a := &s.meta.away
	last := a.suspected.Load()
	if a.since.Load() != 0 || now.UnixNano()-last < int64(suspectEvery) || !a.suspected.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	s.spawn(func() {
		began := time.Now()
		ctx, cancel := context.WithTimeout(s.closing, s.opts.HealthTimeout)
		defer cancel()
		if _, err := s.describeCluster(ctx); err != nil && s.closing.Err() == nil {
			s.noAnswer(began)
		}
	})
}

// short bounds a wait for a cluster that may be away.
func (s *Store) short(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.isAway() {
		return context.WithTimeout(ctx, s.opts.AwayAfter)
	}
	return context.WithCancel(ctx)
}
