package local

import (
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/span"
)

// queueShare divides the bytes that may wait to be written between owners, as [fair.Allows] has it. It is under
// Store.qmu. Most of the time it is one comparison of strings: who has how much matters only from where half of the
// room is taken, and is counted from there on.
//
// The queue is taken as a whole, many times a second, and empty then. So that a flood does not have all of it
// before another owner's first append comes, owners are beside each other also if both had an append before the latest
// time that it was taken.
type queueShare struct {
	last    string // whose the latest append was
	several int    // for how many more times that the queue is taken there is more than one
	by      map[string]int64
}

// beside is how many times that the queue is taken owners are remembered for.
const beside = 16

// admit tells whether an append may wait too, beside the queue's, of so many bytes. One append always may.
func (q *queueShare) admit(a *span.Append, queued, most int64, queue []request) bool {
	if a.Owner != q.last {
		if q.last != "" && a.Owner != "" {
			q.several = beside
		}
		q.last = a.Owner
	}
	size := int64(len(a.Batch))
	if queued+size <= most/2 || queued == 0 {
		return true
	}
	if q.by == nil {
		q.by = map[string]int64{}
		for i := range queue {
			if r := &queue[i]; r.a != nil && r.err == nil {
				q.by[r.a.Owner] += int64(len(r.a.Batch))
			}
		}
	}
	own := q.by[a.Owner]
	if queued+size > most || a.Owner != "" && own > 0 && !fair.Allows(own+size-1, queued, most, q.several > 0) {
		return false
	}
	q.by[a.Owner] += size
	return true
}

// taken tells that the queue is empty.
func (q *queueShare) taken() {
	q.by = nil
	if q.several > 0 {
		q.several--
	}
}
