package kafka

import (
	"context"

	"github.com/braidstream/braid/span"
)

// EnlistedIn is what a seal asks before it begins.
func (s *Store) EnlistedIn(ctx context.Context, t span.Topic) error { return s.enlistedIn(ctx, t) }

// TakeSealBack is what a seal does by itself when it finds a transaction under it.
func (s *Store) TakeSealBack(ctx context.Context, t span.Topic) error { return s.unseal(ctx, t) }
