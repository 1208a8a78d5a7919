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
// others, who read or wait, leaves what comes free to them. An owner has the records that were brought for it;
// the rest of a buffer that several share is nobody's.
type budget struct {
	limit   int64
	mu      sync.Mutex
	out     int64
	by      map[string]int64 // of out, of each owner that has any
	reads   map[string]int   // of each owner, under way and waiting
	waiting int
	room    chan struct{} // closed and replaced when there may be room for somebody who waits
}

func newBudget(limit int64) *budget {
	return &budget{limit: limit, by: map[string]int64{}, reads: map[string]int{}, room: make(chan struct{})}
}

// begin returns when an owner may read; end is to be called behind the read, unless it fails. "" is Braid itself, which
// has no share that it could exceed.
func (b *budget) begin(ctx context.Context, owner string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads[owner]++
	for !b.allows(owner) {
		b.waiting++
		room := b.room
		b.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-ctx.Done():
			err = ctx.Err()
		}
		b.mu.Lock()
		b.waiting--
		if err != nil {
			b.ended(owner)
			return err
		}
	}
	return nil
}

func (b *budget) end(owner string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended(owner)
}

// ended needs mu.
func (b *budget) ended(owner string) {
	if b.reads[owner]--; b.reads[owner] == 0 {
		delete(b.reads, owner)
		b.look() // who was beside it may be alone now
	}
}

// allows needs mu.
func (b *budget) allows(owner string) bool {
	own := b.by[owner]
	if b.out >= b.limit || owner == "" || own == 0 {
		return b.out < b.limit
	}
	several := len(b.by) > 1
	for other := range b.reads {
		several = several || other != owner && other != ""
	}
	return fair.Allows(own, b.out, b.limit, several)
}

// look has those who wait look again. Needs mu.
func (b *budget) look() {
	if b.waiting > 0 && b.out < b.limit {
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
