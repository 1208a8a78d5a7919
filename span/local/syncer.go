package local

import (
	"fmt"
	"time"

	"github.com/braidstream/braid/span"
)

// syncing is the syncer.
func (s *Store) syncing() {
	defer close(s.synced)
	var groups []*group
	var dirty []*walFile
	var end uint64 // of what was written
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var due time.Time // when what waits for the timer is synced at the latest; zero if nothing does
	for {
		groups = groups[:0]
		must := false
		select {
		case g, ok := <-s.groups:
			if !ok {
				if len(dirty) > 0 && s.failure() == nil {
					s.syncFiles(dirty, end)
				}
				return
			}
			groups = append(groups, g)
			for more := true; more; {
				select {
				case g, ok := <-s.groups:
					if ok {
						groups = append(groups, g)
					}
					more = ok
				default:
					more = false
				}
			}
		case <-timer.C:
			must, due = true, time.Time{}
		}
		var lag time.Duration
		for _, g := range groups {
			must = must || g.sync
			if g.lag > 0 && (lag == 0 || g.lag < lag) {
				lag = g.lag
			}
			for _, f := range g.files {
				if n := len(dirty); n == 0 || dirty[n-1] != f {
					dirty = append(dirty, f)
				}
			}
			end = max(end, g.end)
		}
		if must && s.failure() == nil {
			s.syncFiles(dirty, end)
			dirty = dirty[:0]
			timer.Stop()
			due = time.Time{}
		} else if lag > 0 {
			// Topics differ in how long they wait: the shortest decides.
			if at := time.Now().Add(lag); due.IsZero() || at.Before(due) {
				timer.Reset(lag)
				due = at
			}
		}
		err := s.failure()
		for _, g := range groups {
			if g.err == nil {
				g.err = err
			}
			s.complete(g)
		}
		s.kickKeeper()
	}
}

// syncFiles makes the log durable up to end. A failure is for good: the system
// may have dropped the pages that it could not write and call the next sync a
// success.
func (s *Store) syncFiles(files []*walFile, end uint64) {
	began := time.Now()
	for _, f := range files {
		if err := f.f.Sync(); err != nil {
			s.fail(fmt.Errorf("sync the log: %w", err))
			return
		}
	}
	s.stats.syncs.Add(1)
	took := time.Since(began)
	s.stats.syncNanos.Add(int64(took))
	s.cold.logSynced(took)
	s.log.durable.Store(end)
	s.proof.synced(end)
}

// complete answers a group.
func (s *Store) complete(g *group) {
	for i := range g.out {
		o := &g.out[i]
		if o.p != nil && o.err == nil {
			if g.err != nil {
				o.err = fmt.Errorf("%w: %w", span.ErrUnknownOutcome, g.err)
				o.a.BaseOffset = -1
			} else {
				o.p.commit(o.next)
			}
		} else if o.ctl != nil && o.err == nil && g.err != nil {
			o.err = g.err
		}
		finish(*o)
	}
	s.log.committed.Store(g.end)
	clear(g.out)
	*g = group{out: g.out[:0], files: g.files[:0]}
	groupPool.Put(g)
}

func finish(o outcome) {
	if o.ctl != nil {
		o.ctl.done <- o.err
		return
	}
	o.a.Err = o.err
	if o.p != nil {
		o.a.LogStart, o.a.LastStable = o.p.startAndStable()
	}
	o.a.Done(o.a)
}
