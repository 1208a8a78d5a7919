package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/extend"
	"github.com/braidstream/braid/span"
)

// settle waits until no transaction is open on the open copies: a marker that the
// seal refuses wedges its transactional id for good. It also reads ahead what
// the commit will need.
func (r *run) settle(ctx context.Context) error {
	if r.settled.IsZero() {
		r.settled = time.Now()
	}
	if err := r.loadStates(ctx); err != nil {
		return err
	}
	if err := r.readAlarms(ctx); err != nil {
		return err
	}
	if r.e.Mode == catalog.ModeLossy || r.e.Unreadable {
		r.obs.Settled = true
		return nil
	}
	if err := r.askGrants(ctx); err != nil || r.obs.Refused != "" {
		return err
	}
	var mu sync.Mutex
	open := ""
	err := each(ctx, chainsOf(r.pages), func(ctx context.Context, p int, ch *catalog.Chain) error {
		who, err := r.openTransaction(ctx, ch)
		if who != "" {
			mu.Lock()
			open = fmt.Sprintf("partition %d: %s", p, who)
			mu.Unlock()
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		if time.Since(r.settled) < r.limits.call && errors.Is(err, span.ErrUnavailable) {
			return pause(ctx, 100*time.Millisecond)
		}
		return r.unreadable(err)
	case open == "":
		r.obs.Settled = true
		return r.at(FaultSettled)
	case time.Since(r.settled) > r.limits.settle:
		r.obs.Refused = "a transaction stays open: " + open
		return nil
	}
	return pause(ctx, 20*time.Millisecond)
}

func (r *run) openTransaction(ctx context.Context, ch *catalog.Chain) (string, error) {
	open, err := r.openProducers(ctx, ch)
	if len(open) == 0 {
		return "", err
	}
	return fmt.Sprintf("producer id %d since offset %d", open[0].ID, open[0].TxnStart), err
}

// openProducers are those whose transactions are open in a partition.
func (r *run) openProducers(ctx context.Context, ch *catalog.Chain) (open []span.Producer, err error) {
	if chain.Extended(ch, r.e.New.TopicID) {
		return nil, nil
	}
	log, err := r.openLog(ch)
	if log == nil || err != nil {
		return nil, err
	}
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	o, err := log.Offsets(call)
	var lost *span.TruncatedError
	if errors.As(err, &lost) {
		// The log went back: that is what a repair is for. Its seal looks at open
		// transactions by itself.
		return nil, nil
	}
	if err != nil || o.LastStable == o.HighWatermark {
		return nil, err
	}
	producers, err := log.Producers(call)
	for _, p := range producers {
		if p.TxnStart >= 0 {
			open = append(open, p)
		}
	}
	return open, err
}

// openLog gives the handle of the copy that the chain appends to; nil if it is
// not on one of the old topics.
func (r *run) openLog(ch *catalog.Chain) (span.Log, error) {
	i := extend.OldIndex(&r.e, ch)
	if i < 0 {
		return nil, nil
	}
	st, err := r.stores.Store(r.e.Old[i].Cluster)
	if err != nil {
		return nil, err
	}
	return st.Log(storeTopic(r.e.Old[i]), extend.Copy(&r.e, ch).Partition), nil
}

// loadStates reads the producers' states at the former seals, before the pause.
func (r *run) loadStates(ctx context.Context) error {
	var mu sync.Mutex
	return each(ctx, chainsOf(r.pages), func(ctx context.Context, _ int, ch *catalog.Chain) error {
		ref := chain.SealedState(ch)
		mu.Lock()
		_, have := r.before[ref]
		mu.Unlock()
		if ref == "" || have {
			return nil
		}
		blob, err := r.cat.Producers(ctx, ref)
		if err != nil {
			return err
		}
		state, err := chain.DecodeProducers(blob)
		if err != nil {
			return fmt.Errorf("producers %s: %w", ref, err)
		}
		mu.Lock()
		r.before[ref] = state
		mu.Unlock()
		return nil
	})
}
