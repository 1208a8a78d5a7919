package controller

import (
	"sync"

	"github.com/braidstream/braid/catalog"
)

// loads counts open partitions by cluster, kept up topic by topic so that
// placement does not walk the fleet.
type loads struct {
	mu     sync.Mutex
	topics map[catalog.ID]map[string]int // by cluster
	counts map[string]int
	cancel func()
}

func watchLoads(w *catalog.Watcher) *loads {
	l := &loads{topics: map[catalog.ID]map[string]int{}, counts: map[string]int{}}
	l.cancel = w.OnChange(func(c catalog.Change) {
		for _, id := range c.Topics {
			l.set(id, c.New.Chains(id))
		}
	})
	// A topic that changes during the walk is counted as it is afterwards by both.
	s := w.Snapshot()
	for t := range s.AllTopics() {
		l.set(t.ID, w.Snapshot().Chains(t.ID))
	}
	return l
}

// set counts a topic as it is now; nil forgets it.
func (l *loads) set(id catalog.ID, chains []*catalog.Chain) {
	var now map[string]int
	if len(chains) > 0 {
		now = map[string]int{}
	}
	for _, ch := range chains {
		if k := len(ch.Spans); k > 0 && ch.Spans[k-1].IsOpen() {
			for i := range ch.Spans[k-1].Copies {
				now[ch.Spans[k-1].Copies[i].Cluster]++
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, n := range l.topics[id] {
		l.counts[c] -= n
	}
	for c, n := range now {
		l.counts[c] += n
	}
	if now == nil {
		delete(l.topics, id)
	} else {
		l.topics[id] = now
	}
}

func (l *loads) of(cluster string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[cluster]
}

func (l *loads) close() { l.cancel() }
