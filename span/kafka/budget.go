package kafka

import (
	"context"
	"sync"
)

// budget bounds the bytes of buffers that are out. What a request will bring is
// not known before it is there, so the bound may be passed by the answers that
// are under way then: they are few, and bounded each.
type budget struct {
	limit int64
	mu    sync.Mutex
	out   int64
	room  chan struct{} // closed and replaced when there is room again
}

func newBudget(limit int64) *budget { return &budget{limit: limit, room: make(chan struct{})} }

// wait returns when less than the limit is out.
func (b *budget) wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		room, full := b.room, b.out >= b.limit
		b.mu.Unlock()
		if !full {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// add changes what is out by n bytes.
func (b *budget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	full := b.out >= b.limit
	b.out += n
	if full && b.out < b.limit {
		close(b.room)
		b.room = make(chan struct{})
	}
}

func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out
}
