package kafka

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

var errAway = errors.New("no broker answers for a while")

// awayness is since when no broker of the cluster answers, Unix nanoseconds, 0: some
// do. Health checks and metadata requests tell, which ask all brokers.
type awayness struct{ since atomic.Int64 }

func (a *awayness) failed(began time.Time) { a.since.CompareAndSwap(0, began.UnixNano()) }

func (a *awayness) passed() { a.since.Store(0) }

func (a *awayness) lasts(d time.Duration) bool {
	at := a.since.Load()
	return at != 0 && time.Now().UnixNano()-at >= int64(d)
}

// isAway tells whether the cluster has been away for so long that appends wait no longer for
// it. A client's request has partitions of many clusters, and is answered when all of
// them are: those that are well must not wait for this one.
func (s *Store) isAway() bool {
	return s.opts.AwayAfter > 0 && s.meta.away.lasts(s.opts.AwayAfter)
}

// short bounds a wait for a cluster that is away: somebody has to ask it now and
// then, and nobody has to wait long for that.
func (s *Store) short(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.isAway() {
		return context.WithTimeout(ctx, s.opts.AwayAfter)
	}
	return context.WithCancel(ctx)
}
