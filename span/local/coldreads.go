package local

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/fair"
)

// coldReads holds back reads of the disk while appends wait for it. A disk that is given all the reads that
// it takes has them in its queue, and a sync of the log behind them: on one whose rate is limited from
// outside, four reads of 1 MiB under way made a sync of 0.3 ms one of 59 ms, and one at a time of 1 ms, at three
// quarters of the rate. So they go one at a time, with a pause behind each that is a share of its own time; the
// share grows where syncs are slow all the same, and shrinks again slowly. Who reads while nothing is synced has
// the disk.
//
// Readers are not given up for that: who has waited for lateAfter may read beside whose turn it is, a few at
// a time and without a pause, so that a line of many moves about as fast as the disk. Whose request is over
// leaves the line.
//
// Before all that owners take turns: coldPlaces reads are let in at a time, whether or not the log is in use. A disk
// serves what it has in its queue by an order of its own, so one owner's hundred reads there would keep another's waiting.
type coldReads struct {
	gate *fair.Gate
	turn chan struct{}        // full while it is somebody's
	late chan struct{}        // as many as read beside it
	now  func() time.Duration // a steady clock
	// patience is how long one waits for the turn alone.
	patience time.Duration

	synced atomic.Int64 // when the log was synced last, ns; 0: never
	read   atomic.Int64 // when a cold read ended

	mu    sync.Mutex
	share float64       // of a read's time, for the pause
	moved time.Duration // when share was last changed
	usual time.Duration // of a sync without cold reads, an average that forgets
}

const (
	syncsFor   = time.Second // the log is in use for so long after a sync
	leastShare = 0.25
	mostShare  = 4.0
	// A sync is slow from here on, and at slowTimes the usual: there are disks on which all are.
	slowSync  = 25 * time.Millisecond
	slowTimes = 4
	// A slow sync says something about reads that were under way this long ago.
	blameFor = 100 * time.Millisecond
	// After a change the next sign is waited for.
	shareEvery = 500 * time.Millisecond
	shareDecay = 0.98
	pauseMost  = 100 * time.Millisecond

	lateAfter = time.Second
	lateReads = 4
	// coldPlaces is as many as keep a disk busy.
	coldPlaces = 8
)

// errNotWaited: the reader's request was over before its turn came.
var errNotWaited = errors.New("the turn to read the disk did not come")

func newColdReads() *coldReads {
	began := time.Now()
	return &coldReads{gate: fair.NewGate(coldPlaces, lateAfter), turn: make(chan struct{}, 1), late: make(chan struct{}, lateReads), patience: lateAfter, share: leastShare,
		now: func() time.Duration { return time.Since(began) + 1 }}
}

// logSynced takes note of a sync of the log that took so long. It does not wait.
func (c *coldReads) logSynced(took time.Duration) {
	now := c.now()
	c.synced.Store(int64(now))
	read := c.read.Load()
	beside := read != 0 && now-time.Duration(read) < took+blameFor
	c.mu.Lock()
	defer c.mu.Unlock()
	if !beside {
		c.usual += (took - c.usual) / 16
	}
	if now-c.moved < shareEvery {
		return
	}
	c.moved = now
	if beside && took >= max(slowSync, slowTimes*c.usual) {
		c.share = min(2*c.share, mostShare)
	} else {
		c.share = max(shareDecay*c.share, leastShare)
	}
}

// enter waits for an owner's turn to read what may not be in memory. Where ctx ends first it is errNotWaited.
func (c *coldReads) enter(ctx context.Context, owner string) (fair.Pass, error) {
	turn, err := c.gate.Enter(ctx, owner)
	if err != nil {
		return turn, errNotWaited
	}
	return turn, nil
}

// do runs an owner's read of the disk when its turn has come. done ends the waiting for the log, not the read; when ctx ends
// first it is not run, which is errNotWaited.
func (c *coldReads) do(ctx context.Context, done <-chan struct{}, owner string, read func()) error {
	turn, err := c.enter(ctx, owner)
	if err != nil {
		return err
	}
	defer turn.Leave(0)
	if last := c.synced.Load(); last == 0 || c.now()-time.Duration(last) > syncsFor {
		read()
		c.read.Store(int64(c.now()))
		return nil
	}
	switch mine, err := c.wait(ctx, done, c.patience-turn.Waited()); {
	case err != nil:
		return err
	case mine == nil:
		read()
		return nil
	case mine == c.late:
		read()
		c.read.Store(int64(c.now()))
		<-c.late
		return nil
	}
	from := c.now()
	read()
	end := c.now()
	c.read.Store(int64(end))
	c.mu.Lock()
	pause := min(time.Duration(c.share*float64(end-from)), pauseMost)
	c.mu.Unlock()
	// The reader goes on; who comes next waits.
	time.AfterFunc(pause, func() { <-c.turn })
	return nil
}

// wait is for the turn, or a place beside it: one of the two is the caller's then. nil: the store is being closed.
func (c *coldReads) wait(ctx context.Context, done <-chan struct{}, patient time.Duration) (mine chan struct{}, err error) {
	if ctx.Err() != nil {
		return nil, errNotWaited
	}
	select {
	case c.turn <- struct{}{}:
		return c.turn, nil
	default:
	}
	patience := time.NewTimer(patient)
	defer patience.Stop()
	var late chan struct{} // nil: not yet
	for {
		select {
		case c.turn <- struct{}{}:
			return c.turn, nil
		case late <- struct{}{}:
			return late, nil
		case <-patience.C:
			late = c.late
		case <-done:
			return nil, nil
		case <-ctx.Done():
			return nil, errNotWaited
		}
	}
}
