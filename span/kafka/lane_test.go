package kafka

import (
	"testing"
	"time"

	"github.com/braidstream/braid/span"
)

// A broker that finds a partition twice in one Produce request appends one of the
// two batches, and its one answer stands for both: the other was acknowledged and
// lost. It happened when an append came to a partition that had given its only
// batch to the request which was just being made.
func TestARequestTakesOnePartitionOnce(t *testing.T) {
	s := &Store{}
	l := &lane{s: s, wake: make(chan struct{}, 1)}
	p := newPartition(s, span.Topic{Name: "t"}, 0)
	p.lane, p.lead.epoch = l, 0
	queue := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.numbers++
		p.queue = append(p.queue, &entry{p: p, number: p.numbers, a: &span.Append{Deadline: time.Now().Add(time.Minute)}})
	}
	queue()
	first := &call{lane: l}
	if e, again := p.take(l, first); e == nil || again {
		t.Fatalf("first batch: entry %v, again %t; want an entry, and no more", e, again)
	}
	queue()
	if e, again := p.take(l, first); e != nil || !again {
		t.Fatalf("second batch for the same request: entry %v, again %t; want none now, and its turn later", e, again)
	}
	// The answer to an older request must not make room in this one.
	p.mu.Lock()
	p.over(&entry{p: p, call: &call{lane: l}})
	p.mu.Unlock()
	if e, again := p.take(l, first); e != nil || !again {
		t.Fatalf("second batch after an answer: entry %v, again %t; want none now, and its turn later", e, again)
	}
	if e, again := p.take(l, &call{lane: l}); e == nil || again {
		t.Fatalf("second batch for the next request: entry %v, again %t; want an entry, and no more", e, again)
	}
}
