package span

import (
	"context"
	"errors"
)

// Confirmer is a [Store] of many servers, one of which may say of a topic that it never heard of it only
// because it lags behind. Before anything is given up for lost the store is asked once more in this way.
type Confirmer interface {
	// ConfirmGone tells whether the cluster, by the word of those that decide on its topics, has the topic
	// no more: it was deleted, or another one has its name. An error: it could not be found out.
	ConfirmGone(ctx context.Context, t Topic) (bool, error)
}

// IsGone asks a store whether it has a topic no more. An answer that the topic is there, or that it cannot be told,
// is never taken for gone.
func IsGone(ctx context.Context, s Store, t Topic) (bool, error) {
	if c, ok := s.(Confirmer); ok {
		return c.ConfirmGone(ctx, t)
	}
	log := s.Log(t, 0)
	defer log.Release()
	switch err := log.Probe(ctx); {
	case errors.Is(err, ErrGone):
		return true, nil
	case err == nil, errors.Is(err, ErrSealed):
		return false, nil
	default:
		return false, err
	}
}
