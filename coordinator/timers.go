package coordinator

import "container/heap"

// timer calls fire when due. Putting it off is free: it stays where it is in the
// heap and is looked at again when its old time comes, since sessions are put
// off by each heartbeat and hardly ever end.
type timer struct {
	due   int64 // ms
	at    int64 // ms, position in the heap; <= due
	index int   // in the heap, -1 if not in it
	order uint64
	fire  func()
}

func newTimer(fire func()) *timer { return &timer{index: -1, fire: fire} }

// timers is a heap by time, then by the order in which they were set.
type timers struct {
	heap  timerHeap
	order uint64
}

// set arms t for due, whether or not it was armed.
func (ts *timers) set(t *timer, due int64) {
	t.due = due
	switch {
	case t.index < 0:
		ts.order++
		t.at, t.order = due, ts.order
		heap.Push(&ts.heap, t)
	case due < t.at:
		ts.order++
		t.at, t.order = due, ts.order
		heap.Fix(&ts.heap, t.index)
	}
}

// stop disarms t.
func (ts *timers) stop(t *timer) {
	if t.index >= 0 {
		heap.Remove(&ts.heap, t.index)
	}
}

// next is when something may be due; it may turn out to have been put off.
func (ts *timers) next() (int64, bool) {
	if len(ts.heap) == 0 {
		return 0, false
	}
	return ts.heap[0].at, true
}

// due takes out one timer that is due at now, nil if none is.
func (ts *timers) due(now int64) *timer {
	for len(ts.heap) > 0 && ts.heap[0].at <= now {
		t := ts.heap[0]
		if t.due > t.at {
			ts.order++
			t.at, t.order = t.due, ts.order
			heap.Fix(&ts.heap, 0)
			continue
		}
		heap.Pop(&ts.heap)
		return t
	}
	return nil
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].order < h[j].order
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
