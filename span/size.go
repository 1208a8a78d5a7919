package span

import "context"

// Sizer is a [Store] that can measure its topics. Without it retention by size
// cannot tell when a sealed span may go.
type Sizer interface {
	// Sizes gives the bytes that the batches of each partition take, by index; -1
	// where nobody could be asked. What a store has not removed yet although it lies
	// before the log start may be counted, and a topic that was deleted a moment ago
	// may be measured once more.
	Sizes(ctx context.Context, t Topic) ([]int64, error)
}

// ManySizer is a [Sizer] for which it is less work to measure many topics at once.
type ManySizer interface {
	Sizer

	// SizesOfMany gives what Sizes does for each topic, by its id. What could not be
	// measured before the context ended has no entry.
	SizesOfMany(ctx context.Context, topics []Topic) map[[16]byte][]int64
}
