package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// term is one leadership: its loops, and who works on which topic.
type term struct {
	*Controller
	ctx    context.Context
	cancel context.CancelCauseFunc
	driver *driver
	began  time.Time
	wg     sync.WaitGroup
	slots  chan struct{} // bounds extends under way
	wide   chan struct{} // bounds failovers under way, which mostly wait

	stored stored // bytes by tenant

	reading chan struct{} // held by the certification that reads a sealed span

	mu     sync.Mutex
	busy   map[catalog.ID]bool // a worker has the topic's extend
	ops    map[string]bool     // running
	runs   map[string]*opRun   // the same
	kicked map[string]chan struct{}
	orphan map[orphanKey]time.Time // since when nothing refers to it
	undone chan undoing
	absent map[catalog.ID]time.Time // since when a cluster has said that it has a physical topic no more
	// doubted: a cluster is to be asked again for one of absent.
	doubted bool
}

func newTerm(c *Controller, ctx context.Context, cancel context.CancelCauseFunc, fence catalog.Fence) *term {
	t := &term{Controller: c, ctx: ctx, cancel: cancel, began: time.Now(), slots: make(chan struct{}, c.o.Workers),
		wide: make(chan struct{}, 8*c.o.Workers), reading: make(chan struct{}, 1), busy: map[catalog.ID]bool{},
		ops: map[string]bool{}, runs: map[string]*opRun{}, kicked: map[string]chan struct{}{}, orphan: map[orphanKey]time.Time{}, undone: make(chan undoing, 1000), absent: map[catalog.ID]time.Time{}}
	limits := defaultLimits()
	limits.ttl, limits.retries, limits.linger, limits.gone = c.o.Lease, c.o.Retries, c.o.Linger, c.o.GoneAfter
	t.driver = &driver{cat: c.o.Catalog, stores: c.o.Stores, fence: fence, log: c.o.Logger, limits: limits, fault: t.fault,
		away: &away{since: map[string]time.Time{}}, gone: &gone{seen: map[int64]time.Time{}}, grants: &grants{looks: map[string]*grantLook{}},
		standings: newStandings(c.o.Standings), another: t.anotherFor}
	return t
}

// fault stops the whole term at a fault point, as kill -9 would: nothing that
// another goroutine does from here on reaches the catalog.
func (t *term) fault(point string) error {
	if t.o.Fault == nil {
		return nil
	}
	if err := t.o.Fault(point); err != nil {
		t.cancel(errCrashed)
		return err
	}
	return nil
}

// loop runs f until the term ends, again after a failure.
func (t *term) loop(name string, f func(ctx context.Context) error) {
	t.wg.Go(func() {
		for t.ctx.Err() == nil {
			err := f(t.ctx)
			if t.ctx.Err() != nil {
				return
			}
			if errors.Is(err, catalog.ErrFenced) {
				t.cancel(err)
				return
			}
			if err != nil {
				t.o.Logger.Warn("controller loop failed, trying again", "loop", name, "err", err)
			}
			if pause(t.ctx, time.Second) != nil {
				return
			}
		}
	})
}

func (t *term) wait() {
	t.cancel(context.Canceled)
	t.wg.Wait()
	t.driver.standings.wait()
}

// take reserves a topic for one worker; false if another has it.
func (t *term) take(id catalog.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[id] {
		return false
	}
	t.busy[id] = true
	return true
}

func (t *term) release(id catalog.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, id)
}

// changes signals, at least once, whenever the watcher applied something that
// want takes, and every interval.
func (t *term) changes(ctx context.Context, interval time.Duration, want func(catalog.Change) bool) (<-chan struct{}, func()) {
	out := make(chan struct{}, 1)
	signal := func() {
		select {
		case out <- struct{}{}:
		default:
		}
	}
	signal()
	stop := t.o.Watcher.OnChange(func(c catalog.Change) {
		if want(c) {
			signal()
		}
	})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				signal()
			}
		}
	}()
	return out, func() {
		stop()
		cancel()
		<-done
	}
}
