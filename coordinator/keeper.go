package coordinator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// shardOf spreads keys over n shards. The number of shards of a fleet never
// changes, so neither does this: FNV-1a over tenant, a zero byte and the key.
func shardOf(tenant, key string, n int32) int32 {
	h := fnv.New64a()
	// A hash takes everything.
	_, _ = io.WriteString(h, tenant)
	_, _ = h.Write([]byte{0})
	_, _ = io.WriteString(h, key)
	return int32(mix(h.Sum64()) % uint64(n))
}

// preferred is who should own a shard: the gateway with the highest score of
// rendezvous hashing, so that one that comes or goes moves its own share only.
// -1 without gateways.
func preferred(number int32, gateways []int32) int32 {
	best, node := uint64(0), int32(-1)
	for _, g := range gateways {
		if score := mix(uint64(number)<<32 | uint64(uint32(g))); node < 0 || score > best {
			best, node = score, g
		}
	}
	return node
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// keeper decides which shards this gateway has. Its goroutine starts and
// resigns shards; each shard runs in its own.
type keeper struct {
	kick   chan struct{}
	stop   context.CancelFunc // ends everything at once
	cancel func()             // of the subscription
	done   chan struct{}
	shards sync.WaitGroup
	slots  chan struct{} // bounds shards that are claimed and replayed at once

	mu      sync.Mutex
	removed []catalog.Topic // topics that are gone and not told to shards yet
	retries map[int32]retry // shards that did not come to be served
}

// retry puts the next try of a shard off: each costs a term.
type retry struct {
	at   time.Time
	wait time.Duration
}

// failed notes that a shard was lost before it was served.
func (k *keeper) failed(number int32, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wait := min(max(2*k.retries[number].wait, 50*time.Millisecond), 5*time.Second)
	k.retries[number] = retry{now.Add(wait), wait}
}

// served forgets about it.
func (k *keeper) served(number int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.retries, number)
}

func (k *keeper) mayTry(number int32, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !now.Before(k.retries[number].at)
}

const (
	// keeperInterval is how often the keeper looks without having been told.
	keeperInterval = 500 * time.Millisecond
	// loadsAtOnce bounds the shards that are replayed at the same time.
	loadsAtOnce = 8
	// rewritesAtOnce bounds the shards that are made to rewrite their logs at the same time.
	rewritesAtOnce = 4
)

// Start makes the coordinator claim its shards. It returns at once.
func (c *Coordinator) Start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.keeper.done != nil {
		return errors.New("coordinator was started before")
	}
	ctx, stop := context.WithCancel(context.Background())
	k := &c.keeper
	k.kick = make(chan struct{}, 1)
	k.stop = stop
	k.done = make(chan struct{})
	k.slots = make(chan struct{}, loadsAtOnce)
	k.retries = map[int32]retry{}
	k.cancel = c.directory.OnChange(func(ch Change) {
		c.topicsChanged(ch.Topics)
		if len(ch.Removed) > 0 {
			k.mu.Lock()
			k.removed = append(k.removed, ch.Removed...)
			k.mu.Unlock()
		}
		if ch.Owners || len(ch.Removed) > 0 {
			c.wakeKeeper()
		}
	})
	go c.keep(ctx)
	return nil
}

// Close stops answering, writes what is queued, and releases the shards, so that
// others take them over at once. ctx bounds it; what is left then is freed by the
// session's end. Call it before the session is closed.
func (c *Coordinator) Close(ctx context.Context) error {
	c.mu.Lock()
	started := c.keeper.done != nil
	already := c.closed
	c.closed = true
	all := make([]*shard, 0, len(c.shards))
	for _, s := range c.shards {
		all = append(all, s)
	}
	c.mu.Unlock()
	if !started || already {
		c.settlers.end()
		return nil
	}
	c.keeper.cancel()
	c.settlers.end()
	for _, s := range all {
		s.leave()
	}
	idle := make(chan struct{})
	go func() {
		c.keeper.shards.Wait()
		close(idle)
	}()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = fmt.Errorf("shards are not all released: %w", ctx.Err())
	}
	c.keeper.stop()
	<-idle
	<-c.keeper.done
	c.metrics.unregister()
	return err
}

func (c *Coordinator) wakeKeeper() {
	select {
	case c.keeper.kick <- struct{}{}:
	default:
	}
}

func (c *Coordinator) keep(ctx context.Context) {
	defer close(c.keeper.done)
	ticker := time.NewTicker(keeperInterval)
	defer ticker.Stop()
	wait := 50 * time.Millisecond
	var said time.Time
	for {
		topic, err := c.ensure(ctx)
		if err == nil && topic.Partitions > 0 {
			c.mu.Lock()
			c.topic = topic
			c.mu.Unlock()
			break
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(said) > time.Minute { // it may take as long as an operator does who has yet to add a cluster
			said = time.Now()
			c.logger.Warn("internal topic of the coordinators is not there yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
	for {
		c.balance(ctx)
		c.tellRemoved()
		c.tidy()
		select {
		case <-ctx.Done():
			return
		case <-c.keeper.kick:
		case <-ticker.C:
		}
	}
}

// balance compares what this gateway has with what it should have.
func (c *Coordinator) balance(ctx context.Context) {
	gateways := c.directory.Gateways()
	revision := c.directory.Revision()
	lease := c.leases.Lease()
	alive := c.leases.Alive(lease)
	now := c.clock.Now()
	// Answers to what is parked run without c.mu.
	var drop []*shard
	defer func() {
		for _, s := range drop {
			s.drop()
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	for number := range c.topic.Partitions {
		best := preferred(number, gateways)
		owner, owned := c.directory.Shard(number)
		s := c.shards[number]
		switch {
		case s != nil:
			term, claimed := s.claim()
			if term == 0 {
				continue
			}
			if s.session.Load() != lease || revision >= claimed && (!owned || owner.Term != term) {
				// The lease ran out, or somebody else has the shard.
				drop = append(drop, s)
			} else if best != c.node && best >= 0 {
				s.leave()
			}
		case !alive || best != c.node || !c.keeper.mayTry(number, now):
		case owned && owner.Node == c.node:
			// A claim of ours whose answer was lost, or of this gateway's former
			// process: nobody serves it.
			c.start(ctx, number, &owner)
		case !owned:
			c.start(ctx, number, nil)
		}
	}
}

// start runs a shard, after the release of a claim that nobody holds. Needs c.mu.
func (c *Coordinator) start(ctx context.Context, number int32, stale *catalog.Shard) {
	s := newShard(c, number)
	ctx, s.cancel = context.WithCancel(ctx)
	c.shards[number] = s
	c.keeper.shards.Go(func() {
		defer c.wakeKeeper()
		defer func() {
			c.mu.Lock()
			delete(c.shards, number)
			c.mu.Unlock()
			s.cancel()
		}()
		select {
		case c.keeper.slots <- struct{}{}:
		case <-ctx.Done():
			return
		case <-s.resign:
			return
		}
		s.loaded = sync.OnceFunc(func() { <-c.keeper.slots })
		defer s.loaded()
		if stale != nil {
			if err := c.leases.ReleaseShard(ctx, *stale); err != nil {
				s.logger.Debug("stale claim not released", "err", err)
				return
			}
		}
		s.run(ctx)
	})
}

// tellRemoved has the shards forget offsets of topics that are gone.
func (c *Coordinator) tellRemoved() {
	k := &c.keeper
	k.mu.Lock()
	removed := k.removed
	k.removed = nil
	k.mu.Unlock()
	for _, t := range removed {
		for _, s := range c.owned() {
			// A shard that cannot be asked now finds out when it looks for what expired.
			s.do(func(m *machine) { m.topicGone(t.Tenant, t.Name, t.ID) })
		}
	}
}

// tidy has the shards whose logs reach back into sealed spans rewrite them, a few
// at once: after a move of the internal topic that is all of them. Where such a span cannot be read any more
// none waits for others: the state is nowhere but in this process.
func (c *Coordinator) tidy() {
	now := c.clock.Now()
	running := 0
	var aged []*shard
	for _, s := range c.owned() {
		busy, due, urgent := s.tidy(now)
		switch {
		case busy:
			running++
		case due && urgent:
			s.rewriteLog(now)
		case due:
			aged = append(aged, s)
		}
	}
	for _, s := range aged[:min(len(aged), max(rewritesAtOnce-running, 0))] {
		s.rewriteLog(now)
	}
}

// refresh waits until the directory is as new as the catalog, at most every
// refreshInterval.
func (c *Coordinator) refresh(ctx context.Context) bool {
	c.refreshMu.Lock()
	now := c.clock.Now()
	fresh := now.Sub(c.refreshed) < refreshInterval
	if !fresh {
		c.refreshed = now
	}
	c.refreshMu.Unlock()
	if fresh {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := c.directory.Refresh(ctx); err != nil {
		c.logger.Debug("catalog cannot be asked for an unknown topic", "err", err)
		return false
	}
	return true
}

const refreshInterval = 100 * time.Millisecond
