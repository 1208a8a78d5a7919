// Package fair divides what a process has little of between owners, which are tenants
// or addresses: turns at something that several want ([Line], [Gate]) and room for
// bytes ([Room]). Who wants less than its share waits for nobody but who has the turn
// just now; what nobody else wants, one owner may have alone. It does no I/O.
package fair

import "container/heap"

// Line has items of several owners wait for their turn: those of one owner in the order in
// which they came, and owners by what they have used. It is start-time fair queueing
// (Goyal, Vin and Cheng, 1996) where the cost of an item may be told after its turn.
//
// Each owner has a clock that advances by what its items cost; the owner whose clock is
// furthest behind is next. Who comes back after a while begins at the line's own time: what was
// not used cannot be saved up, and what was used while nobody waited is not held against
// anyone. So of two owners that always wait, what they have had never differs by more than the
// costs of the items that were begun for each and not paid for yet.
//
// The zero value is ready. It is for one goroutine at a time.
type Line[T any] struct {
	owners map[string]*owner[T] // those who wait, and those whose clock is ahead
	order  []*owner[T]          // a heap of those who wait
	now    int64                // clock of the latest who had a turn, as it was before
	came   uint64
	n      int
	sweep  int // of owners: from how many on it is looked for those to forget
}

// mostIdle bounds the owners that are remembered although they do not wait: addresses are
// made up as fast as packets.
const mostIdle = 4096

type owner[T any] struct {
	name  string
	clock int64
	came  uint64 // breaks ties: who has waited for longer
	at    int    // in order, -1: does not wait
	items []T
	first int // of items; those before had their turn
}

// Len is how many items wait.
func (l *Line[T]) Len() int { return l.n }

// Push has an item wait.
func (l *Line[T]) Push(name string, item T) {
	o := l.owner(name)
	o.items = append(o.items, item)
	l.n++
	if o.at >= 0 {
		return
	}
	o.clock = max(o.clock, l.now)
	l.came++
	o.came = l.came
	heap.Push((*byClock[T])(l), o)
}

// Pop returns the item whose turn it is. The caller tells what it costs, or what it will
// probably cost, by Pay before the next Pop. ok is false when nothing waits.
func (l *Line[T]) Pop() (name string, item T, ok bool) {
	if l.n == 0 {
		return "", item, false
	}
	o := l.order[0]
	l.now = max(l.now, o.clock)
	var none T
	item, o.items[o.first] = o.items[o.first], none
	o.first++
	l.n--
	if o.first == len(o.items) {
		heap.Pop((*byClock[T])(l))
		o.items, o.first = o.items[:0], 0
		return o.name, item, true
	}
	if o.first >= 64 && o.first*2 >= len(o.items) {
		n := copy(o.items, o.items[o.first:])
		clear(o.items[n:])
		o.items, o.first = o.items[:n], 0
	}
	// Among equals the others are next.
	l.came++
	o.came = l.came
	heap.Fix((*byClock[T])(l), 0)
	return o.name, item, true
}

// Pay advances an owner's clock by what its turns cost; a negative cost takes back what was
// paid too much.
func (l *Line[T]) Pay(name string, cost int64) {
	o := l.owner(name)
	o.clock += cost
	if o.at >= 0 {
		heap.Fix((*byClock[T])(l), o.at)
	}
}

// owner finds or makes an owner's place, and forgets those who neither wait nor are ahead.
func (l *Line[T]) owner(name string) *owner[T] {
	o := l.owners[name]
	if o != nil {
		return o
	}
	if l.owners == nil {
		l.owners = map[string]*owner[T]{}
	}
	if len(l.owners) >= max(64, l.sweep) {
		idle := len(l.owners) - len(l.order)
		for other, x := range l.owners {
			if x.at < 0 && (x.clock <= l.now || idle >= mostIdle) {
				delete(l.owners, other)
			}
		}
		l.sweep = 2 * len(l.owners)
	}
	o = &owner[T]{name: name, clock: l.now, at: -1}
	l.owners[name] = o
	return o
}

// byClock is the line's heap.
type byClock[T any] Line[T]

func (h *byClock[T]) Len() int { return len(h.order) }

func (h *byClock[T]) Less(i, j int) bool {
	a, b := h.order[i], h.order[j]
	if a.clock != b.clock {
		return a.clock < b.clock
	}
	return a.came < b.came
}

func (h *byClock[T]) Swap(i, j int) {
	h.order[i], h.order[j] = h.order[j], h.order[i]
	h.order[i].at, h.order[j].at = i, j
}

// Push implements [heap.Interface].
func (h *byClock[T]) Push(x any) {
	o := x.(*owner[T])
	o.at = len(h.order)
	h.order = append(h.order, o)
}

// Pop implements [heap.Interface].
func (h *byClock[T]) Pop() any {
	n := len(h.order) - 1
	o := h.order[n]
	h.order[n] = nil
	h.order = h.order[:n]
	o.at = -1
	return o
}
