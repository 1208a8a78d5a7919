package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Session is a registration that lives under a lease: a gateway's or a process's.
// When the lease is lost the registration is made again, under a new one, in the
// background; what hung on the old one (shards, votes) is gone.
//
// Register before you load: a gateway that loads first and registers then may act
// on chains from before a fence that it was not waited for.
type Session struct {
	c    *Catalog
	ttl  time.Duration
	now  clock
	node int32
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	key    string
	value  string
	cur    *lease
	back   chan struct{} // closed when cur is replaced by a live one
	reload func(context.Context) error
}

// Reload sets what must succeed after a lost session was registered anew and
// before it counts as alive: as a rule a linearizable refresh of the watcher. A
// gateway that was fenced because it did not hear would go on with old chains
// otherwise.
func (s *Session) Reload(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reload = f
}

// Register announces a gateway under a lease of ttl (0: [DefaultTTL]; whole seconds).
func (c *Catalog) Register(ctx context.Context, g Gateway, ttl time.Duration) (*Session, error) {
	value, err := encode(&g)
	if err != nil {
		return nil, err
	}
	return c.register(ctx, fmt.Sprintf("register gateway %d", g.Node), gatewayKey(g.Node), value, g.Node, ttl, bootTime)
}

// RegisterProcess announces a process under a lease of ttl.
func (c *Catalog) RegisterProcess(ctx context.Context, p Process, ttl time.Duration) (*Session, error) {
	value, err := encode(&p)
	if err != nil {
		return nil, err
	}
	return c.register(ctx, "register process "+p.ID, processKey(p.ID), value, 0, ttl, bootTime)
}

func (c *Catalog) register(ctx context.Context, what, key, value string, node int32, ttl time.Duration, now clock) (*Session, error) {
	s := &Session{c: c, ttl: ttl, now: now, node: node, key: key, value: value,
		done: make(chan struct{}), back: make(chan struct{})}
	l, err := s.attach(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	s.cur = l
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.run(run)
	return s, nil
}

// attach puts the registration under a fresh lease. A registration of the same
// key by a former session, this one's or a former process's, is taken over.
func (s *Session) attach(ctx context.Context) (*lease, error) {
	l, err := s.c.grant(ctx, s.ttl, s.now)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	key, value := s.key, s.value
	s.mu.Unlock()
	ctx2, cancel := s.c.bounded(ctx)
	defer cancel()
	if _, err := s.c.cli.Put(ctx2, key, value, clientv3.WithLease(l.id)); err != nil {
		l.cancel()
		<-l.done
		return nil, failure(ctx2, "put registration", err)
	}
	return l, nil
}

func (s *Session) run(ctx context.Context) {
	defer close(s.done)
	for {
		s.mu.Lock()
		l := s.cur
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-l.lost:
		}
		s.c.logger.Warn("catalog lease is lost, registering anew", "key", s.key)
		next := s.again(ctx)
		if next == nil {
			return
		}
		s.mu.Lock()
		s.cur = next
		close(s.back)
		s.back = make(chan struct{})
		s.mu.Unlock()
		// What hung on the old lease and is still there would block its next owner until it expires.
		if err := l.revoke(ctx); err != nil {
			s.c.logger.Debug("the lost lease was not revoked", "err", err)
		}
	}
}

func (s *Session) again(ctx context.Context) *lease {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		l, err := s.attach(ctx)
		if err == nil {
			s.mu.Lock()
			reload := s.reload
			s.mu.Unlock()
			if reload == nil {
				return l
			}
			if err = reload(ctx); err == nil {
				return l
			}
			l.cancel()
			<-l.done
		}
		s.c.logger.Debug("registration failed, trying again", "key", s.key, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

func (s *Session) lease() (clientv3.LeaseID, bool) {
	l := s.current()
	return l.id, l.alive()
}

func (s *Session) current() *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cur
}

// Node is the gateway's broker id; 0 for a process.
func (s *Session) Node() int32 { return s.node }

// Alive tells whether the lease certainly still stands. Exact when called: it
// compares the deadline with the clock.
func (s *Session) Alive() bool { return s.current().alive() }

// Deadline is the time since boot (CLOCK_BOOTTIME) up to which the lease certainly
// stands: when the last renewal was sent, plus the TTL, less the margin.
func (s *Session) Deadline() time.Duration { return s.current().deadline() }

// Lease identifies the present lease; it changes when the session was lost and made anew.
func (s *Session) Lease() int64 { return int64(s.current().id) }

// TTL is the lease's, as etcd granted it.
func (s *Session) TTL() time.Duration { return s.current().ttl }

// Lost is closed when the present lease is lost. Ask again after [Session.Wait].
func (s *Session) Lost() <-chan struct{} { return s.current().lost }

// Wait returns when the session is alive.
func (s *Session) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		l, back := s.cur, s.back
		s.mu.Unlock()
		if l.alive() {
			return nil
		}
		select {
		case <-back:
		case <-s.done:
			return ErrSessionLost
		case <-ctx.Done():
			return fmt.Errorf("wait for the session: %w", ctx.Err())
		}
	}
}

// Update replaces what is registered, under the present lease and later ones.
func (s *Session) Update(ctx context.Context, g Gateway) error {
	value, err := encode(&g)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.value = value
	l := s.cur
	s.mu.Unlock()
	ctx, cancel := s.c.bounded(ctx)
	defer cancel()
	_, err = s.c.cli.Put(ctx, s.key, value, clientv3.WithLease(l.id))
	return leaseLost(failure(ctx, "update registration", err))
}

// Close ends the session at once: the registration and all that hangs on the
// lease vanish.
func (s *Session) Close(ctx context.Context) error {
	s.stop()
	<-s.done
	return s.current().close(ctx)
}
