package chain

import (
	"context"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// sizesKept is how long a measured size is the answer for whoever asks again.
const sizesKept = time.Second

// sizes holds what was measured a moment ago, and lets one ask a cluster at a time:
// a client that asks over and over, or for ever other topics, costs a cluster no more
// than one that does so once.
type sizes struct {
	mu       sync.Mutex
	clusters map[string]*clusterSizes
}

type clusterSizes struct {
	turn  chan struct{}          // who holds its one place asks the cluster, and owns kept
	kept  map[[16]byte]keptSizes // by physical topic
	clock func() time.Time
}

type keptSizes struct {
	sizes []int64
	until time.Time
}

func (s *sizes) of(cluster string) *clusterSizes {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusters[cluster]
	if c == nil {
		if s.clusters == nil {
			s.clusters = map[string]*clusterSizes{}
		}
		c = &clusterSizes{turn: make(chan struct{}, 1), kept: map[[16]byte]keptSizes{}, clock: time.Now}
		s.clusters[cluster] = c
	}
	return c
}

// measure gives the sizes of physical topics of one cluster. What could not be
// measured before the context ended has no entry.
func (c *clusterSizes) measure(ctx context.Context, m span.Sizer, topics map[[16]byte]span.Topic) map[[16]byte][]int64 {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil
	}
	now := c.clock()
	for id, k := range c.kept {
		if !now.Before(k.until) {
			delete(c.kept, id)
		}
	}
	found := make(map[[16]byte][]int64, len(topics))
	var missing []span.Topic
	for id, t := range topics {
		if k, ok := c.kept[id]; ok {
			found[id] = k.sizes
		} else {
			missing = append(missing, t)
		}
	}
	fresh := map[[16]byte][]int64{}
	if many, ok := m.(span.ManySizer); ok && len(missing) > 0 {
		fresh = many.SizesOfMany(ctx, missing)
	} else {
		for _, t := range missing {
			// An error leaves the topic unmeasured: that is the answer.
			if list, err := m.Sizes(ctx, t); err == nil {
				fresh[t.ID] = list
			} else if ctx.Err() != nil {
				break
			}
		}
	}
	until := c.clock().Add(sizesKept)
	for id, list := range fresh {
		found[id] = list
		c.kept[id] = keptSizes{list, until}
	}
	return found
}

// Sizes measures topics: the bytes that each partition's spans take in the copies
// that are read, by index; -1 where not all of them could be measured before the
// context ended. A size may be a second old. Clusters are asked at the same time, so
// that one that hangs costs the topics that lie on it their answer and no others. A
// topic that is not known has no entry.
func (l *Logs) Sizes(ctx context.Context, topics []catalog.ID) map[catalog.ID][]int64 {
	chains := map[catalog.ID][]*catalog.Chain{}
	asked := map[string]map[[16]byte]span.Topic{}
	for _, id := range topics {
		if chains[id] != nil {
			continue // named twice
		}
		for p := int32(0); ; p++ {
			c, _, err := l.source.Chain(id, p)
			if err != nil {
				break
			}
			chains[id] = append(chains[id], c)
			for i := range c.Spans {
				if at := ReadableCopy(&c.Spans[i]); at >= 0 {
					cp := &c.Spans[i].Copies[at]
					if asked[cp.Cluster] == nil {
						asked[cp.Cluster] = map[[16]byte]span.Topic{}
					}
					asked[cp.Cluster][cp.TopicID] = span.Topic{Name: cp.Topic, ID: cp.TopicID}
				}
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	found := map[[16]byte][]int64{}
	for cluster, physical := range asked {
		st, err := l.stores.Store(cluster)
		if err != nil {
			continue
		}
		m, ok := st.(span.Sizer)
		if !ok {
			continue
		}
		wg.Go(func() {
			measured := l.sizes.of(cluster).measure(ctx, m, physical)
			mu.Lock()
			defer mu.Unlock()
			for id, list := range measured {
				found[id] = list
			}
		})
	}
	wg.Wait()
	out := make(map[catalog.ID][]int64, len(chains))
	for id, cs := range chains {
		for _, c := range cs {
			out[id] = append(out[id], sizeOf(c, found))
		}
	}
	return out
}

func sizeOf(c *catalog.Chain, found map[[16]byte][]int64) (total int64) {
	for i := range c.Spans {
		at := ReadableCopy(&c.Spans[i])
		if at < 0 {
			return -1
		}
		cp := &c.Spans[i].Copies[at]
		sizes := found[cp.TopicID]
		if int(cp.Partition) >= len(sizes) || sizes[cp.Partition] < 0 {
			return -1
		}
		total += sizes[cp.Partition]
	}
	return total
}
