package chain

import (
	"context"
	"sync"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Sizes measures topics: the bytes that each partition's spans take in the copies
// that are read, by index; -1 where not all of them could be measured before the
// context ended. Clusters are asked at the same time, so that one that hangs costs
// the topics that lie on it their answer and no others. A topic that is not known
// has no entry.
func (l *Logs) Sizes(ctx context.Context, topics []catalog.ID) map[catalog.ID][]int64 {
	chains := map[catalog.ID][]*catalog.Chain{}
	asked := map[string]map[[16]byte]span.Topic{}
	for _, id := range topics {
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
			for id, t := range physical {
				// An error leaves the topic unmeasured: that is the answer.
				sizes, err := m.Sizes(ctx, t)
				if err != nil {
					if ctx.Err() != nil {
						return
					}
					continue
				}
				mu.Lock()
				found[id] = sizes
				mu.Unlock()
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
