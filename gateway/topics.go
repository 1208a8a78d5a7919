package gateway

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/wire"
)

// topicState is a topic as requests need it: found by name or id without a
// walk through the catalog, its configs read, its partitions' handles at hand.
// It is immutable but for the handles, and is thrown away with every change of
// the topic.
type topicState struct {
	topic    *catalog.Topic
	name     []byte // the topic's
	settings topicSettings
	parts    []atomic.Pointer[chain.Partition]
	stale    atomic.Bool // something of the topic has changed since
}

// topicSettings are the configs that the gateway itself holds produced batches
// against.
type topicSettings struct {
	maxMessageBytes int
	beforeMax       int64 // ms; -1 no limit
	afterMax        int64 // ms; -1 no limit
	logAppendTime   bool
	compact         bool
}

// topics finds topicStates. Reads take a shared lock; what is missing is filled
// from the snapshot under the exclusive one, as is what has changed thrown away,
// so that a fill never brings back what an invalidation has just removed.
type topics struct {
	g  *Gateway
	mu sync.RWMutex

	byName map[string]map[string]*topicState // tenant, name
	byID   map[catalog.ID]*topicState
}

func newTopics(g *Gateway) *topics {
	return &topics{g: g, byName: map[string]map[string]*topicState{}, byID: map[catalog.ID]*topicState{}}
}

// invalidate forgets the topics of a catalog change. The watcher has published
// the new snapshot before it calls this.
func (t *topics) invalidate(ids []catalog.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range ids {
		if st := t.byID[id]; st != nil {
			st.stale.Store(true)
			delete(t.byID, id)
			// Another topic may have taken the name meanwhile.
			if names := t.byName[st.topic.Tenant]; names[st.topic.Name] == st {
				delete(names, st.topic.Name)
			}
		}
	}
}

// named returns nil if the tenant has no such topic, as far as this gateway knows.
func (t *topics) named(tenant string, name []byte) *topicState {
	t.mu.RLock()
	st := t.byName[tenant][string(name)]
	t.mu.RUnlock()
	if st != nil {
		return st
	}
	return t.fill(func(s *catalog.Snapshot) *catalog.Topic {
		return s.TopicByName(tenant, string(name))
	})
}

// withID is named, by topic id.
func (t *topics) withID(tenant string, id catalog.ID) *topicState {
	t.mu.RLock()
	st := t.byID[id]
	t.mu.RUnlock()
	if st == nil {
		st = t.fill(func(s *catalog.Snapshot) *catalog.Topic {
			return s.TopicByID(id)
		})
	}
	if st == nil || st.topic.Tenant != tenant {
		return nil
	}
	return st
}

func (t *topics) fill(find func(*catalog.Snapshot) *catalog.Topic) *topicState {
	t.mu.Lock()
	defer t.mu.Unlock()
	topic := find(t.g.watcher.Snapshot())
	if topic == nil || topic.Deleting {
		return nil
	}
	st := t.byID[topic.ID]
	if st == nil {
		st = &topicState{
			topic:    topic,
			name:     []byte(topic.Name),
			settings: t.g.settingsOf(topic),
			parts:    make([]atomic.Pointer[chain.Partition], topic.Partitions),
		}
		t.byID[topic.ID] = st
	}
	names := t.byName[topic.Tenant]
	if names == nil {
		names = map[string]*topicState{}
		t.byName[topic.Tenant] = names
	}
	names[topic.Name] = st
	return st
}

// partition returns the handle of a partition; the error is one for the table.
func (st *topicState) partition(logs *chain.Logs, index int32) (*chain.Partition, error) {
	if index < 0 || int(index) >= len(st.parts) {
		return nil, wire.UnknownTopicOrPartition
	}
	if p := st.parts[index].Load(); p != nil {
		return p, nil
	}
	p, err := logs.Partition(st.topic.ID, index)
	if err != nil {
		return nil, err
	}
	st.parts[index].Store(p)
	return p, nil
}

// settingsOf reads the configs of a topic. The catalog holds only values that
// were checked when they were set; one that cannot be read counts as not set.
func (g *Gateway) settingsOf(t *catalog.Topic) topicSettings {
	number := func(key string, def int64) int64 {
		if v, err := strconv.ParseInt(t.Config[key], 10, 64); err == nil {
			return v
		}
		return def
	}
	s := topicSettings{
		maxMessageBytes: int(min(number("max.message.bytes", int64(g.cfg.MaxMessageBytes)), 1<<31-1)),
		beforeMax:       limitMillis(number("message.timestamp.before.max.ms", millis(g.cfg.TimestampBeforeMax))),
		afterMax:        limitMillis(number("message.timestamp.after.max.ms", millis(g.cfg.TimestampAfterMax))),
		logAppendTime:   t.Config["message.timestamp.type"] == "LogAppendTime",
	}
	for policy := range strings.SplitSeq(t.Config["cleanup.policy"], ",") {
		s.compact = s.compact || strings.TrimSpace(policy) == "compact"
	}
	return s
}

func millis(d time.Duration) int64 {
	if d <= 0 {
		return -1
	}
	return d.Milliseconds()
}

// limitMillis turns Kafka's "no limit", the largest number, into -1.
func limitMillis(ms int64) int64 {
	if ms < 0 || ms >= 1<<62 {
		return -1
	}
	return ms
}

// freshness makes sure that "there is no such topic" is not said out of a
// snapshot that lags: the catalog is asked, once for all who wonder at a time.
type freshness struct {
	g *Gateway

	mu      sync.Mutex
	begun   time.Time // of the latest refresh that has ended
	failed  time.Time // when the catalog last did not answer
	running chan struct{}
}

const (
	refreshTimeout = 2 * time.Second
	// refreshPause is how long a catalog that did not answer is left alone: what
	// is known is served meanwhile.
	refreshPause = time.Second
)

// refresh returns when the snapshot holds all that was committed before the
// call, or the catalog did not answer.
func (f *freshness) refresh(ctx context.Context) {
	asked := time.Now()
	for {
		f.mu.Lock()
		if f.begun.After(asked) || !f.failed.IsZero() && asked.Sub(f.failed) < refreshPause {
			f.mu.Unlock()
			return
		}
		if wait := f.running; wait != nil {
			f.mu.Unlock()
			select {
			case <-wait:
				// It may have begun before we asked, and so have missed what we are after.
				continue
			case <-ctx.Done():
				return
			}
		}
		done := make(chan struct{})
		f.running = done
		f.mu.Unlock()

		begun := time.Now()
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		_, err := f.g.watcher.Refresh(ctx)
		cancel()

		f.mu.Lock()
		f.running = nil
		f.begun, f.failed = begun, time.Time{}
		if err != nil {
			f.failed = time.Now()
		}
		f.mu.Unlock()
		close(done)
		if err != nil {
			f.g.log.Debug("catalog did not answer for an unknown topic", "err", err)
		}
		return
	}
}
