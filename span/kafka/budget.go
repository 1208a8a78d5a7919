package kafka

import (
	"context"
	"sync"

	"github.com/braidstream/braid/fair"
)

// budget bounds the bytes of buffers that are out. What a request will bring is
// not known before it is there, so the bound may be passed by the answers that
// are under way then: they are few, and bounded each.
//
// Owners share it as [fair.Allows] has it: who has none reads as soon as there is room at all, and who has much beside
// others, or while others wait, leaves what comes free to them. An owner has the records that were brought for it;
// the rest of a buffer that several share is nobody's.
type budget struct {
	limit  int64
	mu     sync.Mutex
	out    int64
	by     map[string]int64 // of out, of each owner that has any
	asking map[string]int   // how many of an owner wait
	room   chan struct{}    // closed and replaced when there may be room for somebody who waits
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, by: map[string]int64{}, asking: map[string]int{}, room: make(chan struct{})}
}

// wait returns when an owner may read. "" is Braid itself, which has no share that it could exceed.
func (b *budget) wait(ctx context.Context, owner string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.allows(owner) {
		return nil
	}
	b.asking[owner]++
	defer func() {
		if b.asking[owner]--; b.asking[owner] == 0 {
			delete(b.asking, owner)
			b.look() // others may have left it what it does not want any more
		}
	}()
	for {
		room := b.room
		b.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-ctx.Done():
			err = ctx.Err()
		}
		b.mu.Lock()
		if err != nil || b.allows(owner) {
			return err
		}
	}
}

// allows needs mu.
func (b *budget) allows(owner string) bool {
	own := b.by[owner]
	if b.out >= b.limit || owner == "" || own == 0 {
		return b.out < b.limit
	}
	others := len(b.by) - 1
	for other := range b.asking {
		if other != owner {
			others++
			break
		}
	}
	return fair.Allows(own, b.out, b.limit, others > 0)
}

// look has those who wait look again. Needs mu.
func (b *budget) look() {
	if len(b.asking) > 0 && b.out < b.limit {
		close(b.room)
		b.room = make(chan struct{})
	}
}

// add changes what is out by n bytes.
func (b *budget) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out += n; n < 0 {
		b.look()
	}
}

// own changes how much of what is out is an owner's by n bytes.
func (b *budget) own(owner string, n int64) {
	if owner == "" || n == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.by[owner] += n; b.by[owner] == 0 {
		delete(b.by, owner)
	}
	if n < 0 {
		b.look()
	}
}

func (b *budget) used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out
}
