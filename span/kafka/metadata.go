package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

const (
	// maxBrokers and maxPartitions bound what a metadata answer may make us keep.
	maxBrokers    = 2000
	maxPartitions = 1 << 20
	// metadataPause is the least time between two metadata requests: all that
	// ask meanwhile share the next one.
	metadataPause = 5 * time.Millisecond
	// metadataBatch is how many topics one request names.
	metadataBatch = 1000
	// goneTries answers of UNKNOWN_TOPIC_ID over at least goneSettle make a topic
	// gone: a broker that lags behind the controller says the same of a new one.
	goneTries  = 3
	goneSettle = 600 * time.Millisecond
)

// topicMeta is what metadata said of one topic. It is never changed.
type topicMeta struct {
	id         [16]byte
	name       string
	partitions []partMeta
	asked      time.Time // when the request was sent
}

type partMeta struct {
	leader int32 // -1: none
	epoch  int32
}

// metadata keeps what is known of topics' leaders, and asks for many at once.
type metadata struct {
	s      *Store
	mu     sync.Mutex
	topics map[[16]byte]*topicMeta
	wanted map[[16]byte][]chan metaAnswer
	wake   chan struct{}
	// controller is the broker for requests that change the cluster.
	controller int32
	clusterID  string
	strength   strength
	away       awayness
}

type metaAnswer struct {
	topic *topicMeta
	code  wire.Code // of the topic
	err   error     // of the request
}

func newMetadata(s *Store) *metadata {
	return &metadata{
		s: s, topics: map[[16]byte]*topicMeta{}, wanted: map[[16]byte][]chan metaAnswer{},
		wake: make(chan struct{}, 1), controller: -1,
	}
}

// cached is what is known of a topic, nil if nothing.
func (m *metadata) cached(id [16]byte) *topicMeta {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topics[id]
}

// forget drops a topic that nobody uses any more.
func (m *metadata) forget(id [16]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.topics, id)
}

// fresh returns metadata that was asked for after now. ErrGone means that the
// cluster has no such topic, and has settled on that.
func (m *metadata) fresh(ctx context.Context, t span.Topic) (*topicMeta, error) {
	var first time.Time
	for tries := 1; ; tries++ {
		a := m.ask(ctx, t.ID)
		if a.err != nil {
			return nil, a.err
		}
		switch kindOf(a.code) {
		case kindNone:
			if t.Name != "" && a.topic.name != t.Name {
				return nil, fmt.Errorf("%w: its id belongs to another name", span.ErrGone)
			}
			return a.topic, nil
		case kindGone:
			if first.IsZero() {
				first = time.Now()
			}
			if tries >= goneTries && time.Since(first) >= goneSettle {
				m.forget(t.ID)
				return nil, fmt.Errorf("%w: %w", span.ErrGone, a.code)
			}
		case kindRetry, kindMoved, kindMaybe:
		default:
			return nil, asError(a.code)
		}
		if err := m.s.pause(ctx, goneSettle/goneTries); err != nil {
			return nil, unavailable(errors.Join(a.code, err))
		}
	}
}

// ask joins the next request.
func (m *metadata) ask(ctx context.Context, id [16]byte) metaAnswer {
	answer := make(chan metaAnswer, 1)
	m.mu.Lock()
	m.wanted[id] = append(m.wanted[id], answer)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
	select {
	case a := <-answer:
		return a
	case <-ctx.Done():
		return metaAnswer{err: unavailable(ctx.Err())}
	case <-m.s.closing.Done():
		return metaAnswer{err: unavailable(errClosed)}
	}
}

// run serves ask until the store closes.
func (m *metadata) run() {
	for {
		select {
		case <-m.wake:
		case <-m.s.closing.Done():
			return
		}
		m.mu.Lock()
		batch := map[[16]byte][]chan metaAnswer{}
		for id, waiting := range m.wanted {
			if len(batch) == metadataBatch {
				break
			}
			batch[id] = waiting
			delete(m.wanted, id)
		}
		more := len(m.wanted) > 0
		m.mu.Unlock()
		if len(batch) > 0 {
			m.load(batch)
		}
		if more {
			select {
			case m.wake <- struct{}{}:
			default:
			}
		}
		if m.s.pause(m.s.closing, metadataPause) != nil {
			return
		}
	}
}

func (m *metadata) load(batch map[[16]byte][]chan metaAnswer) {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	for id := range batch {
		t := kmsg.NewMetadataRequestTopic()
		t.TopicID = id
		req.Topics = append(req.Topics, t)
	}
	asked := time.Now()
	resp, err := m.request(m.s.closing, req)
	if err != nil && m.s.closing.Err() == nil {
		m.s.noAnswer(asked)
	}
	answers := map[[16]byte]metaAnswer{}
	if err == nil {
		for i := range resp.Topics {
			t := &resp.Topics[i]
			a := metaAnswer{code: wire.Code(t.ErrorCode)}
			if a.code == wire.None {
				a.topic = m.keep(t, asked)
			}
			answers[t.TopicID] = a
		}
	}
	for id, waiting := range batch {
		a, ok := answers[id]
		if !ok {
			a = metaAnswer{code: wire.UnknownTopicID}
		}
		if err != nil {
			a = metaAnswer{err: err}
		}
		for _, w := range waiting {
			w <- a
		}
	}
}

// request sends a Metadata request to a broker that answers, and takes brokers,
// controller and cluster id from the answer.
func (m *metadata) request(ctx context.Context, req *kmsg.MetadataRequest) (*kmsg.MetadataResponse, error) {
	resp, err := m.s.any(ctx, req, 12, 13, func(r kmsg.Response) error {
		answer := r.(*kmsg.MetadataResponse)
		if code := wire.Code(answer.ErrorCode); code != wire.None {
			return code
		}
		return m.checkCluster(answer.ClusterID)
	})
	if err != nil {
		return nil, err
	}
	m.away.passed()
	answer := resp.(*kmsg.MetadataResponse)
	m.s.setBrokers(answer.Brokers)
	m.mu.Lock()
	m.controller = answer.ControllerID
	m.strength.saw(len(answer.Brokers))
	m.mu.Unlock()
	return answer, nil
}

// checkCluster refuses a broker of another cluster than the one that was added.
func (m *metadata) checkCluster(id *string) error {
	if id == nil || *id == "" {
		return nil
	}
	want := m.s.opts.ClusterID
	m.mu.Lock()
	defer m.mu.Unlock()
	if want == "" {
		want = m.clusterID
	}
	if want != "" && want != *id {
		return fmt.Errorf("it belongs to another cluster: its id is %s, expected %s", *id, want)
	}
	m.clusterID = *id
	return nil
}

// keep takes a topic from an answer. An older epoch of a partition is that of a
// broker that lags and does not replace a newer one.
func (m *metadata) keep(t *kmsg.MetadataResponseTopic, asked time.Time) *topicMeta {
	topic := &topicMeta{id: t.TopicID, asked: asked}
	if t.Topic != nil {
		topic.name = *t.Topic
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Partition < 0 || p.Partition >= maxPartitions {
			continue
		}
		for int(p.Partition) >= len(topic.partitions) {
			topic.partitions = append(topic.partitions, partMeta{leader: -1, epoch: -1})
		}
		topic.partitions[p.Partition] = partMeta{leader: p.Leader, epoch: p.LeaderEpoch}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.topics[topic.id]; old != nil {
		for i := range old.partitions {
			if i >= len(topic.partitions) {
				topic.partitions = append(topic.partitions, old.partitions[i])
			} else if old.partitions[i].epoch > topic.partitions[i].epoch {
				topic.partitions[i] = old.partitions[i]
			}
		}
	}
	if len(m.topics) >= maxIdle && m.topics[topic.id] == nil {
		for id := range m.topics {
			delete(m.topics, id) // any: it is asked for again when it is needed
			break
		}
	}
	m.topics[topic.id] = topic
	return topic
}

// partition is the leader of one partition by metadata not older than after.
func (m *metadata) partition(ctx context.Context, t span.Topic, partition int32, after time.Time) (partMeta, error) {
	topic := m.cached(t.ID)
	first := time.Time{}
	for tries := 1; ; tries++ {
		if topic == nil || topic.asked.Before(after) || topic.name != t.Name {
			var err error
			if topic, err = m.fresh(ctx, t); err != nil {
				return partMeta{}, err
			}
		}
		if int(partition) < len(topic.partitions) {
			p := topic.partitions[partition]
			if p.leader < 0 {
				return p, unavailable(errNoLeader)
			}
			return p, nil
		}
		// A broker that lags does not know partitions that were just added.
		if first.IsZero() {
			first = time.Now()
		}
		if tries > goneTries && time.Since(first) >= goneSettle {
			return partMeta{}, fmt.Errorf("%w: partition %d of %d", span.ErrGone, partition, len(topic.partitions))
		}
		if err := m.s.pause(ctx, goneSettle/goneTries); err != nil {
			return partMeta{}, unavailable(err)
		}
		topic = nil
	}
}

func joinHostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
