package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/span"
)

// unseal and drop undo. Both clusters may be away: then it is taken up later.
func (r *run) unseal(ctx context.Context) error {
	// Nothing was sealed before the step said so, but a step is written ahead of
	// what it names: only the steps before it are certain.
	return r.undoing(ctx, "unseal", func(ctx context.Context) error {
		var errs []error
		for _, old := range r.e.Old {
			st, err := r.stores.Store(old.Cluster)
			if err == nil {
				if err = st.Unseal(ctx, storeTopic(old)); errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrCannotSeal) {
					err = nil
				}
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}, func() error {
		r.obs.Unsealed = true
		return r.at(FaultUnsealed)
	})
}

func (r *run) drop(ctx context.Context) error {
	return r.undoing(ctx, "drop the fresh topic", func(ctx context.Context) error {
		st, err := r.stores.Store(r.e.New.Cluster)
		if err != nil {
			return err
		}
		fresh := r.e.New
		if fresh.TopicID.IsZero() {
			// It may exist all the same: its creation was not recorded.
			list, err := st.Topics(ctx, fresh.Topic)
			if err != nil {
				return err
			}
			for _, t := range list {
				if t.Name == fresh.Topic {
					fresh.TopicID = t.ID
				}
			}
			if fresh.TopicID.IsZero() {
				return nil
			}
		}
		return st.Delete(ctx, storeTopic(fresh))
	}, func() error {
		r.obs.Dropped = true
		return r.at(FaultDropped)
	})
}

func (r *run) undoing(ctx context.Context, what string, do func(context.Context) error, then func() error) error {
	began := time.Now()
	for {
		call, cancel := context.WithTimeout(ctx, r.limits.call)
		err := do(call)
		cancel()
		if err == nil {
			return then()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.log.Warn("undoing an extend failed, trying again", "what", what, "topic", r.e.Topic.Name, "err", err)
		if what == "unseal" {
			// What may stay sealed on a cluster that is gone is looked at when it is back.
			if failed, ferr := r.sourceFailed(ctx); ferr == nil && failed {
				return then()
			}
		}
		if what != "unseal" && errors.Is(err, span.ErrUnavailable) && r.e.New.TopicID.IsZero() {
			return then() // a target that was never reached: the sweep looks after what may be there
		}
		if time.Since(began) > r.limits.undo {
			return fmt.Errorf("%w: %s: %w", errStuck, what, err)
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}
