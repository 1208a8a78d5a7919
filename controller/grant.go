package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// A cluster that was recorded as one that can be sealed is never fenced for a move:
// gateways ask for no lease where they append to it, so one that is cut off from the
// catalog would go on acknowledging past the end. Where such a cluster has taken the
// grant back, topics stay, or wait until it is given again.

// noSealError is a seal that a cluster did not grant.
type noSealError struct {
	cluster string
	err     error
}

func (e *noSealError) Error() string { return fmt.Sprintf("cluster %s: %v", e.cluster, e.err) }
func (e *noSealError) Unwrap() error { return e.err }

// noGrant says what an operator has to do about it.
func noGrant(cluster string) string {
	return fmt.Sprintf("cluster %s no longer lets its topics be sealed, as it did when it was added: grant ALTER_CONFIGS again (braid cluster check %s)", cluster, cluster)
}

// sealable tells what gateways go by: whether the cluster is recorded as one that
// can be sealed. One that is not recorded counts as such, for them too.
func (d *driver) sealable(ctx context.Context, cluster string) (bool, error) {
	c, err := d.cat.Cluster(ctx, cluster)
	if errors.Is(err, catalog.ErrNotFound) {
		return true, nil
	}
	return c.CanSeal, err
}

// cannotSeal deals with a seal that was not granted. Where that is on record the
// fence does, for gateways heed it; else the extend waits. Until the seal lands
// appends go on where they are.
func (r *run) cannotSeal(ctx context.Context, err error) error {
	var by *noSealError
	if !errors.As(err, &by) {
		return r.sourceAway(ctx, "seal", err)
	}
	can, rerr := r.sealable(ctx, by.cluster)
	if rerr != nil {
		return rerr
	}
	if !can {
		next := r.e
		next.Mode = catalog.ModeFence
		if next, err = r.cat.UpdateExtend(ctx, next, r.fence); err == nil {
			r.e = next
		}
		return err
	}
	if lost, err := r.goOnWithout(ctx); lost || err != nil {
		return err
	}
	if what := "grant of " + by.cluster; r.waits != what {
		r.log.Error("an extend waits for a seal that is not granted", "topic", r.e.Topic.Name, "cluster", by.cluster, "err", err)
		if err := r.saysWait(ctx, what, "waits: "+noGrant(by.cluster)); err != nil {
			return err
		}
	}
	return pause(ctx, time.Second)
}

// askGrants refuses the extend, before anything can have been sealed, where a cluster
// says that it grants no seal although it is recorded as one that does. What does not
// answer, or does not say, is left to the seal.
func (r *run) askGrants(ctx context.Context) error {
	if r.asked {
		return nil
	}
	for _, old := range r.e.Old {
		can, err := r.sealable(ctx, old.Cluster)
		if err != nil {
			return err
		}
		if !can {
			continue
		}
		if r.grants.refused(ctx, r.driver, old.Cluster) {
			r.obs.Refused = noGrant(old.Cluster)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	r.asked = true
	return nil
}

// grantFresh is how long a cluster's answer holds for the extends beside and after it.
const grantFresh = time.Second

// grants shares looks at clusters between the extends of a controller.
type grants struct {
	mu    sync.Mutex
	looks map[string]*grantLook
}

type grantLook struct {
	done    chan struct{}
	at      time.Time // of the answer, which is there when done is closed
	refused bool
}

// refused tells whether the cluster has said that it grants no seal.
func (g *grants) refused(ctx context.Context, d *driver, cluster string) bool {
	g.mu.Lock()
	x := g.looks[cluster]
	if x != nil {
		select {
		case <-x.done:
			if time.Since(x.at) > grantFresh {
				x = nil
			}
		default: // under way
		}
	}
	if x != nil {
		g.mu.Unlock()
		select {
		case <-x.done:
			return x.refused
		case <-ctx.Done():
			return false
		}
	}
	x = &grantLook{done: make(chan struct{})}
	g.looks[cluster] = x
	g.mu.Unlock()
	defer close(x.done)
	if st, err := d.stores.Store(cluster); err == nil {
		call, cancel := context.WithTimeout(ctx, d.limits.call)
		defer cancel()
		h, err := st.Health(call)
		x.refused = err == nil && !h.SealUnknown && !h.CanSeal
	}
	x.at = time.Now()
	return x.refused
}
