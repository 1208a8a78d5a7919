package local

import (
	"testing"

	"github.com/braidstream/braid/span"
)

// An owner that floods the queue has all of it alone, and leaves room beside another: also for one whose append comes
// after the flood of that round.
func TestOwnersShareTheQueue(t *testing.T) {
	t.Parallel()
	var q queueShare
	var queue []request
	queued := int64(0)
	put := func(owner string) bool {
		a := &span.Append{Owner: owner, Batch: make([]byte, 10)}
		if !q.admit(a, queued, 1000, queue) {
			return false
		}
		queue, queued = append(queue, request{a: a}), queued+10
		return true
	}
	fill := func(owner string) (n int) {
		for put(owner) {
			n++
		}
		return n
	}
	take := func() { queue, queued = nil, 0; q.taken() }
	if n := fill("noisy"); n != 100 {
		t.Errorf("alone: %d", n)
	}
	if put("quiet") {
		t.Error("there is more room than there is")
	}
	take()
	// Half of it, or one more: the first past the half is counted by what is there.
	if n := fill("noisy"); n < 49 || n > 51 {
		t.Errorf("in the next round: %d", n)
	}
	if n := fill("quiet"); n < 20 || n > 30 {
		t.Errorf("of the rest: %d", n)
	}
	if !put("third") || !put("") {
		t.Error("there is no room for who comes with nothing")
	}
	for range beside + 1 {
		take()
		put("noisy")
	}
	take()
	if n := fill("noisy"); n != 100 {
		t.Errorf("alone again: %d", n)
	}
	take()
	if !q.admit(&span.Append{Owner: "noisy", Batch: make([]byte, 5000)}, 0, 1000, nil) {
		t.Error("a batch larger than the queue is never taken")
	}
}
