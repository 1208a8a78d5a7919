package chaintest

import (
	"context"
	"sync"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// Fault is what happens to one append on its way. The zero Fault is none.
type Fault struct {
	// Lost: it never arrives, and the sender does not learn that.
	Lost bool
	// Unanswered: it arrives, and the answer is lost.
	Unanswered bool
	// Err is answered, and it does not arrive.
	Err error
	// Wait holds it up, and all behind it of the same Log, until the channel is closed.
	Wait <-chan struct{}
	// WaitAnswer holds the answer up, after it arrived.
	WaitAnswer <-chan struct{}
}

// Store is one gateway's client of a cluster. Each Log has its own connection:
// order is kept in it, and not between Logs or Stores.
type Store struct {
	c *Cluster

	mu     sync.Mutex
	fault  func(t span.Topic, partition int32, b []byte) Fault
	hide   bool
	logs   map[logKey]*Log
	closed chan struct{}
	wg     sync.WaitGroup
	reads  int64
	readB  int64
	warmed int
}

type logKey struct {
	t span.Topic
	p int32
}

// Client makes a client of the cluster.
func (c *Cluster) Client() *Store {
	return &Store{c: c, logs: map[logKey]*Log{}, closed: make(chan struct{})}
}

// SetFault makes f decide on each append. f must not call the store.
func (s *Store) SetFault(f func(t span.Topic, partition int32, b []byte) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// HideBatches makes Producers leave out batches and offsets, as Kafka's
// DescribeProducers does.
func (s *Store) HideBatches(hide bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hide = hide
}

// Reads counts the reads that returned records, and their bytes.
func (s *Store) Reads() (n, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads, s.readB
}

func (s *Store) Name() string { return s.c.name }

func (s *Store) Create(_ context.Context, spec span.Spec) (span.Topic, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	t, err := s.c.create(spec)
	if err == nil {
		for k, v := range spec.Config {
			s.c.topics[spec.Name].config[k] = v
		}
	}
	return t, err
}

func (s *Store) AddPartitions(_ context.Context, t span.Topic, total int32) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	found, err := s.c.find(t)
	if err != nil {
		return err
	}
	for int32(len(found.parts)) < total {
		found.parts = append(found.parts, newPart())
	}
	return nil
}

func (s *Store) Configure(_ context.Context, t span.Topic, config map[string]string) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	found, err := s.c.find(t)
	if err != nil {
		return err
	}
	for k, v := range config {
		found.config[k] = v
	}
	return nil
}

func (s *Store) Delete(_ context.Context, t span.Topic) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.down {
		return span.ErrUnavailable
	}
	if found := s.c.topics[t.Name]; found != nil && found.id == t {
		delete(s.c.topics, t.Name)
		for _, p := range found.parts {
			p.change()
		}
	}
	return nil
}

func (s *Store) Topics(_ context.Context, prefix string) ([]span.Topic, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.list(prefix)
}

func (s *Store) Seal(_ context.Context, t span.Topic) ([]span.End, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.cannot {
		return nil, span.ErrCannotSeal
	}
	found, err := s.c.find(t)
	if err != nil {
		return nil, err
	}
	var ends []span.End
	for i, p := range found.parts {
		p.sealed = true
		p.change()
		ends = append(ends, p.sealedEnd(int32(i)))
	}
	return ends, nil
}

func (p *part) sealedEnd(i int32) span.End {
	e := span.End{Partition: i, Start: p.start, End: p.end, MaxTimestamp: -1}
	for _, st := range p.stored {
		if h, _, err := batch.Parse(st.b); err == nil {
			e.MaxTimestamp = max(e.MaxTimestamp, h.MaxTimestamp)
		}
	}
	return e
}

// TakeSealBack opens a sealed topic again, as span/kafka does where a seal finds a transaction
// that was opened under it.
func (s *Store) TakeSealBack(t span.Topic) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	found, err := s.c.find(t)
	if err != nil {
		return err
	}
	for _, p := range found.parts {
		p.sealed = false
	}
	return nil
}

// Warmed counts the copies that were made ready ahead of their first append.
func (s *Store) Warmed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.warmed
}

// Logs counts the handles in use.
func (s *Store) Logs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.logs)
}

func (s *Store) Log(t span.Topic, partition int32) span.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := logKey{t, partition}
	l := s.logs[k]
	if l == nil {
		l = &Log{s: s, t: t, p: partition, wake: make(chan struct{}, 1), stop: make(chan struct{})}
		s.logs[k] = l
		s.wg.Add(1)
		go l.work()
	}
	l.users++
	return l
}

func (s *Store) Health(context.Context) (span.Health, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.down {
		return span.Health{}, span.ErrUnavailable
	}
	return span.Health{ClusterID: s.c.name, Brokers: 1, CanSeal: !s.c.cannot, Writable: true}, nil
}

func (s *Store) Close() error {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}
