package span

import "sync"

// Burst groups appends or reads that a caller submits one right after the
// other, as the partitions of one client request are: a store queues them at
// once and puts off the I/O until the end of the burst, so that they leave
// together instead of the first one alone. It is a hint: a store may ignore it.
//
// Whoever opens a burst ends it without waiting for anything in between. All
// methods may be called concurrently, and on nil, which is a burst that has
// ended. The zero value has ended too; it is used again by Begin.
type Burst struct {
	mu   sync.Mutex
	open bool
	put  []putOff
}

// Queue is what a store puts off: Put makes an item ready, Wake begins with the I/O.
type Queue interface {
	Put(item any)
	Wake()
}

type putOff struct {
	q    Queue
	item any
}

// Begin opens the burst.
func (b *Burst) Begin() {
	b.mu.Lock()
	b.open = true
	b.mu.Unlock()
}

// PutOff keeps an item for the end of the burst. It returns false, and keeps
// nothing, when the burst has ended: the caller goes on at once.
func (b *Burst) PutOff(q Queue, item any) bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		b.put = append(b.put, putOff{q, item})
	}
	return b.open
}

// End makes everything ready that was put off, and then begins with it.
func (b *Burst) End() {
	if b == nil {
		return
	}
	b.mu.Lock()
	put := b.put
	b.open, b.put = false, nil
	b.mu.Unlock()
	if len(put) == 0 {
		return
	}
	for _, p := range put {
		p.q.Put(p.item)
	}
	for i, p := range put {
		// Partitions of one request mostly share their queue.
		if i == 0 || p.q != put[i-1].q {
			p.q.Wake()
		}
	}
	clear(put)
	b.mu.Lock()
	if !b.open && b.put == nil && cap(put) <= 256 {
		b.put = put[:0]
	}
	b.mu.Unlock()
}
