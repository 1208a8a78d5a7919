package coordinator

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Where groups stand in topics that are about to lose a span, or to get one back: the certificate
// of that names those who go past records that cannot be read.

const (
	// StandTopics is how many topics may be asked for at once.
	StandTopics = 1000
	// standGroups bounds the groups that are told of, per partition, and standTotal those of an answer.
	standGroups = 1000
	standTotal  = 50_000
	// maxShards bounds the shards that a question names; a fleet has far fewer.
	maxShards = 10_000
)

// PeerStand asks where the groups of a gateway's shards stand in some topics.
type PeerStand struct {
	Topics []catalog.ID
	Shards []int32 // those alone; none: all
}

// TopicStand answers for one topic; a topic in which no group has committed anything is not there.
type TopicStand struct {
	Topic    catalog.ID
	Groups   []catalog.GroupStand
	Unlisted int64
}

// ownStand tells where the groups of this gateway's shards stand, and which shards those are. What is on
// its way into the log counts.
func (c *Coordinator) ownStand(q *PeerStand) (all []TopicStand, shards []int32) {
	type at struct {
		topic     catalog.ID
		partition int32
	}
	index := make(map[catalog.ID]int, len(q.Topics))
	for _, id := range q.Topics {
		if _, ok := index[id]; !ok && !id.IsZero() {
			index[id] = len(all)
			all = append(all, TopicStand{Topic: id})
		}
	}
	told, total := map[at]int{}, 0
	for _, s := range c.owned() {
		if len(q.Shards) > 0 && !slices.Contains(q.Shards, s.number) {
			continue
		}
		code := s.do(func(m *machine) {
			for key, g := range m.groups {
				for _, store := range g.offsets {
					i, ok := index[store.id]
					if !ok {
						continue
					}
					for p, o := range store.partitions {
						k := at{store.id, p}
						if told[k] == standGroups || total == standTotal {
							all[i].Unlisted++
							continue
						}
						told[k]++
						total++
						all[i].Groups = append(all[i].Groups, catalog.GroupStand{Group: key.group, Partition: p, Offset: o.offset})
					}
				}
			}
		})
		if code == wire.None {
			shards = append(shards, s.number)
		}
	}
	return slices.DeleteFunc(all, func(t TopicStand) bool { return len(t.Groups) == 0 && t.Unlisted == 0 }), shards
}

// Standings asks the coordinators of a fleet, all gateways at once, where groups stand in up to
// [StandTopics] topics, and gives an answer for each topic. shards are those that matter, none: all. The
// shards of gateways that do not answer before ctx ends are named as silent. It may be called where
// there is no coordinator.
func Standings(ctx context.Context, d Directory, peers Peers, topics []catalog.ID, shards []int32) map[catalog.ID]catalog.Standing {
	out := make(map[catalog.ID]catalog.Standing, len(topics))
	internal, _ := d.TopicByName(catalog.SystemTenant, TopicName) // without it nobody has committed anything
	owners := map[int32][]int32{}                                 // by node
	silent := map[int32]bool{}
	if len(shards) == 0 {
		for n := range internal.Partitions {
			shards = append(shards, n)
		}
	}
	for _, n := range shards {
		silent[n] = true
		if s, ok := d.Shard(n); ok {
			owners[s.Node] = append(owners[s.Node], n)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	byTopic := map[catalog.ID]*catalog.Standing{}
	for node, own := range owners {
		wg.Go(func() {
			resp, err := peers.Ask(ctx, node, &PeerRequest{Stand: &PeerStand{Topics: topics, Shards: own}})
			if err != nil || resp.Code != wire.None {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, n := range resp.Shards {
				delete(silent, n)
			}
			for _, t := range resp.Stand {
				s := byTopic[t.Topic]
				if s == nil {
					s = &catalog.Standing{}
					byTopic[t.Topic] = s
				}
				s.Groups = append(s.Groups, t.Groups...)
				s.Unlisted += t.Unlisted
			}
		})
	}
	wg.Wait()
	var quiet, answered []int32
	for _, n := range slices.Sorted(slices.Values(shards)) {
		if silent[n] {
			quiet = append(quiet, n)
		} else {
			answered = append(answered, n)
		}
	}
	for _, id := range topics {
		s := byTopic[id]
		if s == nil {
			s = &catalog.Standing{}
		}
		s.Silent, s.Answered = quiet, answered
		slices.SortFunc(s.Groups, func(a, b catalog.GroupStand) int {
			return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Group, b.Group))
		})
		out[id] = *s
	}
	return out
}
