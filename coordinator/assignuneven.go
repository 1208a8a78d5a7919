package coordinator

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// balanceRounds bounds how often assignUneven goes over the topics. Each round only
// moves partitions to members that have at least two less, so it converges; the bound
// is for the time it takes.
const balanceRounds = 16

// uneven is the work of assignUneven.
type uneven struct {
	s           *assignSpec
	load        []int // partitions of each member
	subscribers map[catalog.ID][]int
	owners      map[catalog.ID][]int // by partition; -1: nobody
}

// assignUneven is the uniform assignor where subscriptions differ: what members have
// stays, free partitions go to the subscriber with least, and then partitions move
// from those with most to those with least, topic by topic, as long as that evens
// them out.
func assignUneven(s *assignSpec) []assignment {
	u := &uneven{
		s: s, load: make([]int, len(s.members)),
		subscribers: map[catalog.ID][]int{}, owners: map[catalog.ID][]int{},
	}
	for i := range s.members {
		for _, topic := range s.members[i].topics {
			u.subscribers[topic] = append(u.subscribers[topic], i)
			if u.owners[topic] == nil {
				u.owners[topic] = make([]int, s.partitions[topic])
				for p := range u.owners[topic] {
					u.owners[topic][p] = -1
				}
			}
		}
	}
	for i := range s.members {
		for topic, all := range s.members[i].was {
			for _, p := range all {
				if owners := u.owners[topic]; int(p) < len(owners) && owners[p] < 0 {
					owners[p] = i
					u.load[i]++
				}
			}
		}
	}
	topics := u.order()
	for _, topic := range topics {
		u.fill(topic)
	}
	for range balanceRounds {
		moved := 0
		for _, topic := range topics {
			moved += u.even(topic)
		}
		if moved == 0 {
			break
		}
	}
	out := make([]assignment, len(s.members))
	for i := range out {
		out[i] = assignment{}
	}
	for _, topic := range topics {
		for p, i := range u.owners[topic] {
			if i >= 0 {
				out[i][topic] = append(out[i][topic], int32(p))
			}
		}
	}
	return out
}

// order has topics with many partitions for each subscriber first, and of equal ones
// those with few subscribers: where the choice is smallest.
func (u *uneven) order() []catalog.ID {
	topics := sortedTopics(u.subscribers)
	slices.SortStableFunc(topics, func(a, b catalog.ID) int {
		// p/s of b against p/s of a, without division.
		x := int64(u.s.partitions[b]) * int64(len(u.subscribers[a]))
		y := int64(u.s.partitions[a]) * int64(len(u.subscribers[b]))
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(len(u.subscribers[a]), len(u.subscribers[b])))
	})
	return topics
}

// fill hands out the partitions of a topic that nobody has.
func (u *uneven) fill(topic catalog.ID) {
	h := &loadHeap{load: u.load, members: slices.Clone(u.subscribers[topic])}
	heap.Init(h)
	for p, owner := range u.owners[topic] {
		if owner >= 0 {
			continue
		}
		i := h.members[0]
		u.owners[topic][p] = i
		u.load[i]++
		heap.Fix(h, 0)
	}
}

// even moves partitions of a topic between its subscribers, and tells how many.
func (u *uneven) even(topic catalog.ID) int {
	subscribers := u.subscribers[topic]
	if len(subscribers) < 2 {
		return 0
	}
	has := make(map[int][]int32, len(subscribers)) // partitions of the topic
	for p, owner := range u.owners[topic] {
		if owner >= 0 {
			has[owner] = append(has[owner], int32(p))
		}
	}
	moved := 0
	for {
		most, least := -1, -1
		for _, i := range subscribers {
			if len(has[i]) > 0 && (most < 0 || u.load[i] > u.load[most]) {
				most = i
			}
			if least < 0 || u.load[i] < u.load[least] {
				least = i
			}
		}
		if most < 0 || u.load[most]-u.load[least] <= 1 {
			return moved
		}
		all := has[most]
		p := all[len(all)-1]
		has[most] = all[:len(all)-1]
		has[least] = append(has[least], p)
		u.owners[topic][p] = least
		u.load[most]--
		u.load[least]++
		moved++
	}
}

// loadHeap has the member with least on top; of equals the first.
type loadHeap struct {
	load    []int
	members []int
}

func (h *loadHeap) Len() int { return len(h.members) }
func (h *loadHeap) Less(a, b int) bool {
	x, y := h.members[a], h.members[b]
	return cmp.Or(cmp.Compare(h.load[x], h.load[y]), cmp.Compare(x, y)) < 0
}
func (h *loadHeap) Swap(a, b int) { h.members[a], h.members[b] = h.members[b], h.members[a] }
func (h *loadHeap) Push(x any)    { h.members = append(h.members, x.(int)) }
func (h *loadHeap) Pop() any {
	last := h.members[len(h.members)-1]
	h.members = h.members[:len(h.members)-1]
	return last
}
