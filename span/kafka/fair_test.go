package kafka

import (
	"fmt"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
)

// One owner has hundreds of partitions ready, and another comes with one: it is in the next
// request, and so are those of the system itself.
func TestOwnersTakeTurnsAtALane(t *testing.T) {
	s := &Store{}
	s.opts.RequestBytes = 64 << 10
	l := &lane{s: s, wake: make(chan struct{}, 1)}
	ready := func(owner, topic string, n int) {
		p := newPartition(s, span.Topic{Name: topic}, 0)
		p.lane, p.lead.epoch, p.scheduled = l, 0, true
		if owner != "" {
			p.owner.Store(&owner)
		}
		for range n {
			p.numbers++
			p.queue = append(p.queue, &entry{p: p, number: p.numbers, size: 10 << 10, a: &span.Append{Deadline: time.Now().Add(time.Minute)}})
		}
		l.Put(p)
	}
	for i := range 500 {
		ready("noisy", fmt.Sprintf("noisy-%d", i), 2)
	}
	in := func() map[string]int {
		n := map[string]int{}
		for _, e := range l.collect(nil).entries {
			n[e.p.ownedBy()]++
		}
		return n
	}
	if got := in(); got["noisy"] != 7 {
		t.Fatalf("alone: %v", got)
	}
	ready("quiet", "quiet", 1)
	ready("", "system", 1)
	if got := in(); got["quiet"] != 1 || got[""] != 1 || got["noisy"] != 5 {
		t.Fatalf("beside others: %v", got)
	}
	for range 10 {
		ready("other", fmt.Sprintf("other-%d", l.ready.Len()), 1)
	}
	if got := in(); got["other"] < 3 || got["noisy"] < 3 {
		t.Fatalf("two that want all: %v", got)
	}
	total := 21
	for l.waiting() {
		c := l.collect(nil)
		if c == nil {
			t.Fatal("something is ready, and not taken")
		}
		total += len(c.entries)
	}
	if total != 500*2+1+1+10 {
		t.Errorf("%d batches were sent", total)
	}
}

// An owner whose appends wait leaves room for those of others; alone it has all of it.
func TestOwnersShareTheQueue(t *testing.T) {
	s := &Store{}
	s.stats.busy = make(chan struct{}, 1)
	c := &s.stats
	batch := make([]byte, 10)
	of := func(owner string) *span.Append { return &span.Append{Owner: owner, Batch: batch} }
	fill := func(owner string) (n int) {
		for c.admit(of(owner), 1000) {
			n++
		}
		return n
	}
	if n := fill("a"); n != 100 {
		t.Errorf("alone: %d", n)
	}
	for range 100 {
		c.leave(of("a"))
	}
	if c.queuedBytes.Load() != 0 {
		t.Errorf("%d bytes at the end", c.queuedBytes.Load())
	}
	c.admit(of("b"), 1000)
	if n := fill("a"); n < 45 || n > 50 {
		t.Errorf("beside another: %d", n)
	}
	if n := fill("b"); n < 20 || n > 25 {
		t.Errorf("of the rest: %d", n)
	}
	if n := fill("c"); n < 10 {
		t.Errorf("of the rest of that: %d", n)
	}
	if n := fill(""); n < 10 {
		t.Errorf("the system's own: %d", n)
	}
	for owner, own := range c.owners {
		for own.Load() > 0 {
			c.leave(of(owner))
		}
	}
	for c.queuedBytes.Load() > 0 {
		c.leave(of(""))
	}
	if n := fill("b"); n != 100 {
		t.Errorf("alone again: %d", n)
	}
}
