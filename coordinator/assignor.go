package coordinator

import (
	"cmp"
	"slices"

	"github.com/braidstream/braid/catalog"
)

// Names of the server's assignors (KIP-848).
const (
	assignorUniform = "uniform"
	assignorRange   = "range"
)

// assignSpec is what an assignor works on: members in the order of their ids, and
// how many partitions each topic has that anybody subscribes to.
type assignSpec struct {
	members    []assignMember
	partitions map[catalog.ID]int32
}

type assignMember struct {
	id       string
	instance *string
	topics   []catalog.ID // sorted; all of them exist
	// was is its target so far, less topics that it no longer subscribes to.
	was assignment
}

// assign computes a target for each member. Both assignors are pure functions of
// the spec.
func assign(assignor string, s *assignSpec) []assignment {
	if assignor == assignorRange {
		return assignByRange(s)
	}
	for i := range s.members {
		if !slices.Equal(s.members[i].topics, s.members[0].topics) {
			return assignUneven(s)
		}
	}
	return assignEven(s)
}

// assignByRange gives each member a run of each of its topics' partitions. Topics with
// equal subscribers and partitions are cut alike, so partitions of the same number
// meet at one member. Static members come first, by instance id: they keep their
// place when they come back.
func assignByRange(s *assignSpec) []assignment {
	order := make([]int, len(s.members))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := &s.members[a], &s.members[b]
		switch {
		case x.instance != nil && y.instance != nil:
			return cmp.Compare(*x.instance, *y.instance)
		case x.instance != nil:
			return -1
		case y.instance != nil:
			return 1
		}
		return cmp.Compare(x.id, y.id)
	})
	type run struct{ subscribers, next, extra int32 }
	runs := make(map[catalog.ID]*run, len(s.partitions))
	for i := range s.members {
		for _, topic := range s.members[i].topics {
			if runs[topic] == nil {
				runs[topic] = &run{}
			}
			runs[topic].subscribers++
		}
	}
	for topic, r := range runs {
		r.extra = s.partitions[topic] % r.subscribers
	}
	out := make([]assignment, len(s.members))
	for _, i := range order {
		out[i] = assignment{}
		for _, topic := range s.members[i].topics {
			r := runs[topic]
			quota := s.partitions[topic] / r.subscribers
			if r.extra > 0 {
				r.extra--
				quota++
			}
			if quota == 0 {
				continue
			}
			all := make([]int32, 0, quota)
			for range quota {
				all = append(all, r.next)
				r.next++
			}
			out[i][topic] = all
		}
	}
	return out
}

// topicPartition names a partition within an assignor.
type topicPartition struct {
	topic     catalog.ID
	partition int32
}

// assignEven is the uniform assignor where all subscribe to the same topics: members
// differ by at most one partition, and keep as much as that allows.
func assignEven(s *assignSpec) []assignment {
	out := make([]assignment, len(s.members))
	if len(s.members) == 0 {
		return out
	}
	topics := s.members[0].topics
	taken := make(map[topicPartition]bool)
	for i := range s.members {
		for topic, all := range s.members[i].was {
			for _, p := range all {
				taken[topicPartition{topic, p}] = true
			}
		}
	}
	var free []topicPartition
	total := 0
	for _, topic := range topics {
		for p := range s.partitions[topic] {
			if tp := (topicPartition{topic, p}); !taken[tp] {
				free = append(free, tp)
			}
		}
		total += int(s.partitions[topic])
	}
	least, extras := total/len(s.members), total%len(s.members)
	open := make([]int, len(s.members)) // how many more each gets
	for i := range s.members {
		quota := least
		extra := extras > 0
		if extra {
			quota++
		}
		out[i] = assignment{}
		for _, topic := range topics {
			was := s.members[i].was[topic]
			keep := min(quota, len(was))
			quota -= keep
			if keep > 0 {
				out[i][topic] = slices.Clone(was[:keep])
			}
			for _, p := range was[keep:] {
				free = append(free, topicPartition{topic, p})
			}
		}
		if extra && quota > 0 && len(s.members)-i > extras {
			// Enough members are left for the extra ones: one that has more already
			// should not have to give it up for this one.
			quota--
			extra = false
		}
		if extra {
			extras--
		}
		open[i] = quota
	}
	for i := range open {
		n := min(open[i], len(free))
		for _, tp := range free[:n] {
			out[i][tp.topic] = append(out[i][tp.topic], tp.partition)
		}
		free = free[n:]
		out[i].sort()
	}
	return out
}

func (a assignment) sort() {
	for _, all := range a {
		slices.Sort(all)
	}
}
