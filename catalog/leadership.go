package catalog

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Leadership is a won election; it lasts until Lost is closed or Resign.
type Leadership struct {
	lease *lease
	fence Fence
}

// Campaign waits until this caller leads and returns the leadership. who is
// shown to people.
func (c *Catalog) Campaign(ctx context.Context, name, who string) (*Leadership, error) {
	what := "campaign for " + name
	key := electionKey(name)
	value, err := encode(who)
	if err != nil {
		return nil, err
	}
	for {
		l, err := c.grant(ctx, DefaultTTL, bootTime)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		revision, err := c.elect(ctx, l, what, key, value)
		if err == nil {
			return &Leadership{lease: l, fence: Fence{Key: key, Revision: revision}}, nil
		}
		if cerr := l.close(context.WithoutCancel(ctx)); cerr != nil {
			c.logger.Debug("lease of a lost campaign was not revoked", "err", cerr)
		}
		if !errors.Is(err, ErrSessionLost) {
			return nil, err
		}
	}
}

// elect returns the create revision of the election key once it is ours.
func (c *Catalog) elect(ctx context.Context, l *lease, what, key, value string) (int64, error) {
	for {
		r, err := c.txn(ctx, what, []clientv3.Cmp{absent(key)},
			[]clientv3.Op{clientv3.OpPut(key, value, clientv3.WithLease(l.id))}, []clientv3.Op{clientv3.OpGet(key)})
		if err != nil {
			return 0, leaseLost(err)
		}
		if r.Succeeded {
			return r.Header.Revision, nil
		}
		kvs := r.Responses[0].GetResponseRange().Kvs
		if len(kvs) > 0 && kvs[0].Lease == int64(l.id) {
			return kvs[0].CreateRevision, nil // an answer was lost: it is ours
		}
		if err := c.awaitDelete(ctx, l, key, r.Header.Revision+1); err != nil {
			return 0, fmt.Errorf("%s: %w", what, err)
		}
	}
}

func (c *Catalog) awaitDelete(ctx context.Context, l *lease, key string, from int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := c.cli.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithRev(from))
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.lost:
			return ErrSessionLost
		case r, ok := <-events:
			if !ok || r.Err() != nil {
				return ctx.Err() // look again
			}
			for _, e := range r.Events {
				if e.Type == mvccpb.Event_DELETE {
					return nil
				}
			}
		}
	}
}

// Fence guards writes by this leadership.
func (l *Leadership) Fence() Fence { return l.fence }

// Lost is closed when the leadership is over.
func (l *Leadership) Lost() <-chan struct{} { return l.lease.lost }

// Alive tells whether the leadership certainly still stands.
func (l *Leadership) Alive() bool { return l.lease.alive() }

// Resign gives the leadership up.
func (l *Leadership) Resign(ctx context.Context) error { return l.lease.close(ctx) }

// Leader tells who leads; [ErrNotFound] if nobody does.
func (c *Catalog) Leader(ctx context.Context, name string) (string, error) {
	var who string
	_, err := c.get(ctx, "leader of "+name, electionKey(name), &who)
	return who, err
}
