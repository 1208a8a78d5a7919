package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
)

// DefaultTTL is how long a lease outlives its holder's last keepalive.
const DefaultTTL = 6 * time.Second

// LeaseMargin is what a holder takes off its lease, and a waiter adds to it,
// for the rates of two clocks and for rounding: a sixth of the TTL.
func LeaseMargin(ttl time.Duration) time.Duration { return ttl / 6 }

// FenceWait is how long to wait until a holder that was last heard of before the
// wait began is certain to have stopped: the full TTL and the margin.
func FenceWait(ttl time.Duration) time.Duration { return ttl + LeaseMargin(ttl) }

// clock tells the time since boot, suspend included. CLOCK_MONOTONIC stands still
// in suspend: a laptop or a paused machine would wake up with a lease that is long over.
type clock func() time.Duration

func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Not on any Linux since 2.6.39; the far future ends every lease, which is safe.
		return 1<<63 - 1
	}
	return time.Duration(ts.Nano())
}

// lease is one etcd lease kept alive by a goroutine until it is lost or closed.
type lease struct {
	c      *Catalog
	id     clientv3.LeaseID
	ttl    time.Duration
	now    clock
	until  atomic.Int64 // on now
	lost   chan struct{}
	done   chan struct{}
	cancel context.CancelFunc
}

func (c *Catalog) grant(ctx context.Context, ttl time.Duration, now clock) (*lease, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	ttl = max(ttl.Truncate(time.Second), time.Second)
	sent := now()
	ctx2, cancel := c.bounded(ctx)
	defer cancel()
	r, err := c.cli.Grant(ctx2, int64(ttl/time.Second))
	if err != nil {
		return nil, failure(ctx2, "grant lease", err)
	}
	// It answers again: what it was not there to take back holds up whoever is next, this process included.
	c.owed.pay(ctx, c)
	// etcd may raise a TTL that is shorter than its election takes.
	ttl = time.Duration(r.TTL) * time.Second
	l := &lease{c: c, id: r.ID, ttl: ttl, now: now, lost: make(chan struct{}), done: make(chan struct{})}
	l.until.Store(int64(sent + ttl - LeaseMargin(ttl)))
	// The lease lives on after the call that asked for it.
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = stop
	go l.keep(keep)
	return l, nil
}

// alive is exact at the moment of the call, whatever the keeper does.
func (l *lease) alive() bool { return int64(l.now()) < l.until.Load() }

func (l *lease) deadline() time.Duration { return time.Duration(l.until.Load()) }

// keep renews the lease at a third of its TTL, sooner after a failure. The
// deadline counts from when the renewal was sent: etcd counts from a later moment.
func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	defer close(l.lost)
	next := l.now() + l.ttl/3
	tick := time.NewTicker(max(l.ttl/30, 20*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.until.Store(0)
			return
		case <-tick.C:
		}
		now := l.now()
		left := l.deadline() - now
		if left <= 0 {
			return
		}
		if now < next {
			continue
		}
		call, cancel := context.WithTimeout(ctx, min(left, l.ttl/3))
		r, err := l.c.cli.KeepAliveOnce(call, l.id)
		cancel()
		switch {
		case err == nil && r.TTL > 0:
			until := now + time.Duration(r.TTL)*time.Second
			l.until.Store(int64(until - LeaseMargin(l.ttl)))
			next = now + l.ttl/3
		case errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil:
			l.until.Store(0)
			return
		case ctx.Err() == nil:
			l.c.logger.Debug("lease was not renewed, trying again", "err", err)
			next = l.now() + l.ttl/30
		}
	}
}

// close stops keeping and gives the lease back, so that others need not wait for its end.
func (l *lease) close(ctx context.Context) error {
	l.cancel()
	<-l.done
	return l.revoke(ctx)
}

func (l *lease) revoke(ctx context.Context) error {
	ctx, cancel := l.c.bounded(ctx)
	defer cancel()
	_, err := l.c.cli.Revoke(ctx, l.id)
	if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	l.c.owed.add(l.id)
	return failure(ctx, "revoke lease", err)
}

// owed are leases whose holder is done with them, which etcd did not answer to take back. One that was away gives
// every lease its whole time again when it is back (lessor.Promote of etcd), so each would bar the next leader, or the next owner of a shard,
// for that long, also where that is the former one.
type owed struct {
	mu     sync.Mutex
	leases []clientv3.LeaseID
}

// maxOwed bounds the list: leases of an outage that are older than these have run out by then.
const maxOwed = 16

func (o *owed) add(id clientv3.LeaseID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leases = append(o.leases, id); len(o.leases) > maxOwed {
		o.leases = slices.Delete(o.leases, 0, len(o.leases)-maxOwed)
	}
}

// pay gives them back. What fails again is owed still.
func (o *owed) pay(ctx context.Context, c *Catalog) {
	o.mu.Lock()
	leases := o.leases
	o.leases = nil
	o.mu.Unlock()
	for i, id := range leases {
		call, cancel := c.bounded(ctx)
		_, err := c.cli.Revoke(call, id)
		cancel()
		if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			c.logger.Debug("a lease that is over was not revoked", "err", err)
			for _, left := range leases[i:] {
				o.add(left)
			}
			return
		}
	}
}

func leaseLost(err error) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("%w: %w", ErrSessionLost, err)
	}
	return err
}
