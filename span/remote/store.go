package remote

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/span"
)

// Channels of a store: reads may be long and large, appends must not wait behind them.
const (
	channelWrites = 0
	channelReads  = 1
)

// Store is a store of another process. It implements span.Store.
type Store struct {
	name          string
	writes, reads *link

	mu   sync.Mutex
	logs map[logKey]*remoteLog
}

var _ span.Store = (*Store)(nil)

// Option sets what differs from the defaults.
type Option func(*settings)

type settings struct{ awayAfter time.Duration }

// AwayAfter is how long the first appends wait for an owner to whom there is no connection,
// before they end with span.ErrUnavailable, or with span.ErrUnknownOutcome if they had been sent.
// Those that follow do not wait, until there is a connection again. 0, the default: all wait
// until their deadlines.
func AwayAfter(d time.Duration) Option { return func(s *settings) { s.awayAfter = d } }

// Dial returns the store of the cluster name that is served at addr (host:port).
// It connects when it is first used and again whenever the connection breaks.
func Dial(addr, token, name string, options ...Option) *Store {
	var o settings
	for _, set := range options {
		set(&o)
	}
	var session [sessionSize]byte
	// It never fails (crypto/rand ends the process if the system has no randomness).
	_, _ = rand.Read(session[:])
	return &Store{
		name:   name,
		writes: newLink(addr, token, name, session, channelWrites, o.awayAfter),
		reads:  newLink(addr, token, name, session, channelReads, o.awayAfter),
		logs:   make(map[logKey]*remoteLog),
	}
}

// Name implements [span.Store].
func (s *Store) Name() string { return s.name }

// Close implements [span.Store].
func (s *Store) Close() error {
	s.writes.close()
	s.reads.close()
	return nil
}

type result struct {
	m       message
	release func()
	err     error
}

// do sends one call and waits for its answer. release must be called when the body
// is not needed any more, if there was no error.
func (s *Store) do(ctx context.Context, l *link, o op, head []byte) (d decoder, body []byte, release func(), err error) {
	if err := ctx.Err(); err != nil {
		return d, nil, nil, err
	}
	got := make(chan result, 1)
	c := &call{op: o, head: head, done: func(m message, release func(), err error) { got <- result{m, release, err} }}
	l.submit(c)
	select {
	case r := <-got:
		if r.err != nil {
			return d, nil, nil, r.err
		}
		d = decoder{b: r.m.head}
		if r.m.op == opOK {
			return d, r.m.body, r.release, nil
		}
		r.release()
		if err := d.error(); err != nil {
			return d, nil, nil, err
		}
		return d, nil, nil, fmt.Errorf("%w: %w", span.ErrUnavailable, errFrame)
	case <-ctx.Done():
		l.abandon(c)
		// The answer may have come in the meantime: its buffer has to go back.
		select {
		case r := <-got:
			if r.err == nil {
				r.release()
			}
		default:
		}
		return d, nil, nil, ctx.Err()
	}
}

// simple is do for answers without a body.
func (s *Store) simple(ctx context.Context, o op, e encoder) (decoder, error) {
	d, _, release, err := s.do(ctx, s.writes, o, e.b)
	if err == nil {
		release()
	}
	return d, err
}

// ended is the error of an answer that was not understood.
func ended(d *decoder) error {
	if err := d.end(); err != nil {
		return fmt.Errorf("%w: %w", span.ErrUnavailable, err)
	}
	return nil
}

// Create implements [span.Store]. When the connection is lost on the way the error
// is span.ErrUnknownOutcome.
func (s *Store) Create(ctx context.Context, spec span.Spec) (span.Topic, error) {
	var e encoder
	e.text(spec.Name)
	e.int(int64(spec.Partitions))
	e.config(spec.Config)
	d, err := s.simple(ctx, opCreate, e)
	if err != nil {
		return span.Topic{}, err
	}
	t := d.topic()
	return t, ended(&d)
}

// AddPartitions implements [span.Store].
func (s *Store) AddPartitions(ctx context.Context, t span.Topic, total int32) error {
	var e encoder
	e.topic(t)
	e.int(int64(total))
	_, err := s.simple(ctx, opAddPartitions, e)
	return err
}

// Configure implements [span.Store].
func (s *Store) Configure(ctx context.Context, t span.Topic, config map[string]string) error {
	var e encoder
	e.topic(t)
	e.config(config)
	_, err := s.simple(ctx, opConfigure, e)
	return err
}

// Delete implements [span.Store].
func (s *Store) Delete(ctx context.Context, t span.Topic) error { return s.onTopic(ctx, opDelete, t) }

func (s *Store) onTopic(ctx context.Context, o op, t span.Topic) error {
	var e encoder
	e.topic(t)
	_, err := s.simple(ctx, o, e)
	return err
}

// Topics implements [span.Store].
func (s *Store) Topics(ctx context.Context, prefix string) ([]span.Topic, error) {
	var e encoder
	e.text(prefix)
	d, err := s.simple(ctx, opTopics, e)
	if err != nil {
		return nil, err
	}
	var list []span.Topic
	for range d.count(17) {
		list = append(list, d.topic())
	}
	return list, ended(&d)
}

// Seal implements [span.Store].
func (s *Store) Seal(ctx context.Context, t span.Topic) ([]span.End, error) {
	var e encoder
	e.topic(t)
	d, err := s.simple(ctx, opSeal, e)
	if err != nil {
		return nil, err
	}
	n := d.count(4)
	ends := make([]span.End, 0, n)
	for range n {
		ends = append(ends, span.End{Partition: int32(d.int()), Start: d.int(), End: d.int(), MaxTimestamp: d.int()})
	}
	if len(d.b) > 0 {
		for i := range ends {
			ends[i].Lossy = d.flag()
		}
	}
	return ends, ended(&d)
}

// Health implements [span.Store].
func (s *Store) Health(ctx context.Context) (span.Health, error) {
	began := time.Now()
	d, err := s.simple(ctx, opHealth, encoder{})
	if err != nil {
		return span.Health{}, err
	}
	h := span.Health{ClusterID: d.text(maxName), Brokers: int(d.int()), Kafka: d.text(maxName)}
	h.CanSeal, h.Full = d.bits()
	h.Writable, h.Detail = d.flag(), d.text(maxText)
	h.Latency = time.Since(began)
	return h, ended(&d)
}

// Log implements [span.Store].
func (s *Store) Log(t span.Topic, partition int32) span.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := logKey{t, partition}
	l := s.logs[key]
	if l == nil {
		l = &remoteLog{s: s, key: key}
		s.logs[key] = l
	}
	l.refs++
	return l
}
