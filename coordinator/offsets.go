package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// topicStore holds one group's committed offsets in one topic.
type topicStore struct {
	id         catalog.ID // zero if it was not known
	partitions map[int32]*committed
	absent     bool // the topic was not there when it was last looked for
	weight     int64
}

// replacedBy tells whether a commit is of another topic of the same name.
func (s *topicStore) replacedBy(t *topicOffsets) bool {
	return s.id != t.id && t.id != (catalog.ID{}) && !s.id.IsZero()
}

// committed is one committed offset.
type committed struct {
	offset      int64
	leaderEpoch int32
	metadata    string
	at          int64 // ms
	expires     int64 // ms; -1: by retention
}

// applyOffsets takes what was committed into memory; replay and live requests
// both come here. Committing creates a group that is not there: a simple one.
func (m *machine) applyOffsets(r *offsetsRecord) {
	g := m.groups[r.key]
	if g == nil {
		g = m.newGroup(r.key)
	}
	grown := int64(0)
	for i := range r.topics {
		t := &r.topics[i]
		store := g.offsets[t.name]
		if store == nil || store.replacedBy(t) {
			// A topic of the same name with another id is another topic.
			if store == nil {
				grown += weightOfTopic(t.name)
			} else {
				grown -= store.weight
			}
			store = &topicStore{partitions: make(map[int32]*committed, len(t.partitions))}
			g.offsets[t.name] = store
		}
		if t.id != (catalog.ID{}) {
			store.id = t.id
		}
		for j := range t.partitions {
			p := &t.partitions[j]
			c := store.partitions[p.partition]
			more := p.weight()
			if c == nil {
				c = new(committed)
				store.partitions[p.partition] = c
			} else {
				more -= c.weight()
			}
			*c = committed{offset: p.offset, leaderEpoch: p.leaderEpoch, metadata: p.metadata, at: r.committed, expires: r.expires}
			store.weight += more
			grown += more
		}
	}
	g.load.add(grown)
}

// applyOffsetsGone drops committed offsets.
func (m *machine) applyOffsetsGone(r *offsetsGone) {
	g := m.groups[r.key]
	if g == nil {
		return
	}
	for i := range r.topics {
		store := g.offsets[r.topics[i].name]
		if store == nil {
			continue
		}
		for _, p := range r.topics[i].partitions {
			if o := store.partitions[p]; o != nil {
				delete(store.partitions, p)
				store.weight -= o.weight()
				g.load.add(-o.weight())
			}
		}
		if len(store.partitions) == 0 {
			delete(g.offsets, r.topics[i].name)
			g.load.add(-weightOfTopic(r.topics[i].name))
		}
	}
}

// forget drops offsets and has that written.
func (m *machine) forget(key groupKey, topics []topicPartitions) {
	if len(topics) == 0 {
		return
	}
	r := &offsetsGone{key: key, topics: topics}
	m.emit(r.encode())
	m.applyOffsetsGone(r)
}

// remove drops a group with its offsets and has that written.
func (m *machine) remove(g *group) {
	m.emit(groupGone{g.key}.encode())
	m.drop(g)
}

// GroupOffset is what a group has committed for a partition.
type GroupOffset struct {
	Tenant string
	Group  string
	Offset int64
}

// errOffsets: a shard has no owner that answers.
var errOffsets = errors.New("committed offsets are not all known")

// CommittedOffsets lists what all groups have committed for a partition, in no
// order; it asks the owners of all shards. An error means that some did not answer.
func (c *Coordinator) CommittedOffsets(ctx context.Context, topic catalog.ID, partition int32) ([]GroupOffset, error) {
	c.mu.RLock()
	shards := c.topic.Partitions
	c.mu.RUnlock()
	nodes := map[int32]bool{}
	for n := range shards {
		s, ok := c.directory.Shard(n)
		if !ok {
			return nil, fmt.Errorf("%w: shard %d has no owner", errOffsets, n)
		}
		nodes[s.Node] = true
	}
	var all []GroupOffset
	covered := map[int32]bool{}
	ctx, cancel := context.WithTimeout(ctx, 2*participantPatience)
	defer cancel()
	for node := range nodes {
		resp, err := c.askNode(ctx, node, &PeerRequest{Offsets: &PeerOffsets{Topic: topic, Partition: partition}})
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: gateway %d: %w", errOffsets, node, err)
		case resp.Code != wire.None:
			return nil, fmt.Errorf("%w: gateway %d: %w", errOffsets, node, resp.Code)
		}
		all = append(all, resp.Offsets...)
		for _, n := range resp.Shards {
			if covered[n] {
				return nil, fmt.Errorf("%w: shard %d changed its owner", errOffsets, n)
			}
			covered[n] = true
		}
	}
	if len(covered) != int(shards) {
		return nil, fmt.Errorf("%w: %d of %d shards", errOffsets, len(covered), shards)
	}
	return all, nil
}

// ownOffsets lists what the groups of this gateway's shards have committed, and those shards.
func (c *Coordinator) ownOffsets(topic catalog.ID, partition int32) (all []GroupOffset, shards []int32) {
	for _, s := range c.owned() {
		code := s.do(func(m *machine) {
			for key, g := range m.groups {
				for _, store := range g.offsets {
					if store.id != topic {
						continue
					}
					if o := store.partitions[partition]; o != nil {
						all = append(all, GroupOffset{key.tenant, key.group, o.offset})
					}
				}
			}
		})
		if code == wire.None {
			shards = append(shards, s.number)
		}
	}
	return all, shards
}
