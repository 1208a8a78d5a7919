// Package local is the embedded engine: a span.Store on a local directory.
//
// All appends of a directory go into one shared log; one fdatasync acknowledges
// all that waited for it. What has aged is written to files of its own partition
// in the background. docs/storage.md explains, docs/formats/local.md has the formats.
package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Store is an open data directory. It implements span.Store.
//
// Lock order: mu, then a partition's mu. qmu, lmu, and those of files, tail and
// wal are taken last and alone.
type Store struct {
	opt  Options
	id   [16]byte // of the directory
	lock io.Closer
	// The lock file as it was taken; no name where it has none to be found by.
	locked named
	log    *wal
	proof  proof // of log.durable, in the directory

	files *files

	// The queue of the sequencer.
	qmu     sync.Mutex
	queue   []request
	ahead   []request     // go first
	hurry   chan struct{} // something is in ahead
	queued  int64
	share   queueShare
	closing bool
	wake    chan struct{}
	groups  chan *group

	// Sequencer only.
	group      *group
	groupStart uint64
	wall       time.Time
	ms         int64  // of aging
	lastFrame  uint64 // LSN of the last frame, 0 if there is none

	mu     sync.RWMutex // the sequencer alone writes
	byName map[string]*topic
	byID   map[[16]byte]*topic
	number uint32 // the next topic's

	lmu  sync.Mutex
	logs map[logKey]*log

	// Of a store that is only looked at: nothing is written, nothing runs.
	inspect bool
	holes   []error
	hollow  bool // the log has lost bytes: where partitions end is not known

	unflushed atomic.Int64 // partitions with appends that are in no segment yet

	failed atomic.Pointer[failure]
	full   atomic.Bool
	ended  ended
	// When [Store.short] last said something, by the steady clock; 0: never.
	shortSaid atomic.Int64

	aging   agingClock
	cold    *coldReads
	keeper  keeper
	cleaner cleaner
	stats   stats

	synced chan struct{} // closed when the syncer has ended
	done   chan struct{} // closed when Close begins
	close  sync.Once
	closed error
}

var _ span.Store = (*Store)(nil)

// failure is why the store is read-only for good.
type failure struct{ err error }

// fail makes the store read-only until it is opened anew.
func (s *Store) fail(err error) {
	s.stop(fmt.Errorf("data directory %s is read-only since a write failed, restart after the disk was checked: %w: %w", s.opt.Dir, span.ErrStorage, err))
}

// stop is fail with the whole reason given.
func (s *Store) stop(err error) {
	if s.failed.CompareAndSwap(nil, &failure{err}) {
		s.opt.Logger.Error("storage failed, read-only from here on", "cluster", s.opt.Name, "dir", s.opt.Dir, "error", err)
	}
}

func (s *Store) failure() error {
	if f := s.failed.Load(); f != nil {
		return f.err
	}
	return nil
}

func (s *Store) noSpace(err error) {
	if s.full.CompareAndSwap(false, true) {
		s.opt.Logger.Error("no space left, appends are refused until there is", "cluster", s.opt.Name, "dir", s.opt.Dir, "error", err)
	}
}

// Name implements [span.Store].
func (s *Store) Name() string { return s.opt.Name }

// ID is the directory's id, drawn when it was made, in hex.
func (s *Store) ID() string { return hex.EncodeToString(s.id[:]) }

// topic finds a live topic.
func (s *Store) topic(t span.Topic) (*topic, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if found := s.byID[t.ID]; found != nil && found.name == t.Name {
		if found.gone.Load() {
			return nil, errGone
		}
		return found, nil
	}
	return nil, s.missing(errGone)
}

// Create implements [span.Store].
func (s *Store) Create(ctx context.Context, spec span.Spec) (span.Topic, error) {
	if err := ctx.Err(); err != nil {
		return span.Topic{}, err
	}
	cfg, err := parseConfig(spec.Config)
	if err != nil {
		return span.Topic{}, err
	}
	switch {
	case spec.Name == "" || len(spec.Name) > maxNameLength:
		return span.Topic{}, reject(wire.InvalidTopicException, "the name is empty or too long")
	case spec.Partitions < 1 || spec.Partitions > maxPartitions:
		return span.Topic{}, reject(wire.InvalidPartitions, fmt.Sprintf("%d partitions, between 1 and %d", spec.Partitions, maxPartitions))
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return span.Topic{}, fmt.Errorf("draw a topic id: %w", err)
	}
	raw := maps.Clone(spec.Config)
	var t *topic
	err = s.do(func() error {
		if s.byName[spec.Name] != nil {
			return span.ErrExists
		}
		if s.full.Load() {
			return errNoSpace
		}
		t = newTopic(s.number, spec.Name, id, spec.Partitions, raw, cfg)
		if err := s.writeMeta(frame{Kind: kindCreate, Topic: t.number}, appendTopicRecord(nil, t, spec.Partitions, raw)); err != nil {
			return err
		}
		s.mu.Lock()
		s.number++
		s.byName[t.name], s.byID[t.id] = t, t
		s.mu.Unlock()
		return nil
	})
	if err != nil {
		return span.Topic{}, fmt.Errorf("create %q: %w", spec.Name, err)
	}
	return t.public(), nil
}

// AddPartitions implements [span.Store].
func (s *Store) AddPartitions(_ context.Context, pub span.Topic, total int32) error {
	if total < 1 || total > maxPartitions {
		return reject(wire.InvalidPartitions, fmt.Sprintf("%d partitions, between 1 and %d", total, maxPartitions))
	}
	return s.do(func() error {
		t, err := s.topic(pub)
		if err != nil || int(total) <= len(t.partitions()) {
			return err
		}
		if s.full.Load() {
			return errNoSpace
		}
		if err := s.writeMeta(frame{Kind: kindGrow, Topic: t.number, Partition: uint32(total)}, nil); err != nil {
			return err
		}
		t.grow(total)
		return nil
	})
}

// Configure implements [span.Store].
func (s *Store) Configure(_ context.Context, pub span.Topic, config map[string]string) error {
	return s.do(func() error {
		t, err := s.topic(pub)
		if err != nil {
			return err
		}
		raw := make(map[string]string, len(config))
		maps.Copy(raw, *t.raw.Load())
		maps.Copy(raw, config)
		cfg, err := parseConfig(raw)
		if err != nil {
			return err
		}
		if err := s.writeMeta(frame{Kind: kindConfig, Topic: t.number}, appendTopicRecord(nil, t, int32(len(t.partitions())), raw)); err != nil {
			return err
		}
		t.raw.Store(&raw)
		t.cfg.Store(cfg)
		return nil
	})
}

// Delete implements [span.Store].
func (s *Store) Delete(_ context.Context, pub span.Topic) error {
	if s.hole() != nil {
		return s.hideTopic(pub)
	}
	var t *topic
	err := s.do(func() error {
		var err error
		if t, err = s.topic(pub); err != nil {
			if errors.Is(err, errGone) {
				err = nil
			}
			return err
		}
		if err := s.writeMeta(frame{Kind: kindDelete, Topic: t.number}, nil); err != nil {
			return err
		}
		s.remove(t)
		return nil
	})
	if err == nil && t != nil {
		for _, p := range t.partitions() {
			p.mu.Lock()
			p.notify()
			p.mu.Unlock()
		}
		s.keeper.removed(t.number)
		s.kickKeeper()
	}
	return err
}

// remove takes the topic out of the tables.
func (s *Store) remove(t *topic) {
	t.gone.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, t.name)
	delete(s.byID, t.id)
	for _, p := range t.partitions() {
		p.mu.Lock()
		s.settled(p, p.next)
		p.mu.Unlock()
	}
}

// settled notes that nothing of p below flushed is only in the shared log any more; under
// the partition's mu.
func (s *Store) settled(p *partition, flushed int64) {
	p.flushed = flushed
	if p.unflushed && flushed >= p.next {
		p.unflushed = false
		s.unflushed.Add(-1)
	}
}

// Topics implements [span.Store].
func (s *Store) Topics(_ context.Context, prefix string) ([]span.Topic, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []span.Topic
	for name, t := range s.byName {
		if strings.HasPrefix(name, prefix) {
			out = append(out, t.public())
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Seal implements [span.Store]: a record in the log, synced. The sequencer
// refuses every append that it comes to later. A directory that has ended takes none: there a seal is
// a line in a file of its own. Transactions that are open there stay so, since no marker can end them.
func (s *Store) Seal(_ context.Context, pub span.Topic) ([]span.End, error) {
	var t *topic
	lossy := s.hole() != nil
	seal := func() error {
		var err error
		if t, err = s.topic(pub); err != nil || t.sealed.Load() {
			return err
		}
		for _, p := range t.partitions() {
			if p.inTransaction() {
				return fmt.Errorf("partition %d: %w", p.n, span.ErrOpenTransaction)
			}
		}
		if err := s.writeMeta(frame{Kind: kindSeal, Topic: t.number}, nil); err != nil {
			return err
		}
		t.sealed.Store(true)
		return nil
	}
	var err error
	if !lossy {
		err = s.do(seal)
	} else if t, err = s.topic(pub); err == nil {
		err = s.end(t)
	}
	if err != nil {
		return nil, fmt.Errorf("seal %q: %w", pub.Name, err)
	}
	parts := t.partitions()
	ends := make([]span.End, len(parts))
	for i, p := range parts {
		p.mu.Lock()
		// Everything before the seal was acknowledged before this was: hw = next.
		ends[i] = span.End{Partition: int32(i), Start: p.start, End: p.hw, MaxTimestamp: p.maxTimestamp(), Lossy: lossy}
		p.mu.Unlock()
	}
	return ends, nil
}

// trim logs and applies a new log start; sequencer only.
func (s *Store) trim(p *partition, start int64) error {
	if err := s.writeMeta(frame{Kind: kindTrim, Topic: p.t.number, Partition: p.n, Offset: start}, nil); err != nil {
		return err
	}
	p.mu.Lock()
	gone := p.trim(start)
	p.mu.Unlock()
	s.keeper.dropped(p, gone)
	return nil
}

// Log implements [span.Store].
func (s *Store) Log(t span.Topic, partition int32) span.Log {
	s.lmu.Lock()
	defer s.lmu.Unlock()
	key := logKey{t, partition}
	l := s.logs[key]
	if l == nil {
		l = &log{s: s, key: key}
		s.logs[key] = l
	}
	l.refs++
	return l
}

// Health implements [span.Store].
func (s *Store) Health(context.Context) (span.Health, error) {
	h := span.Health{ClusterID: s.ID(), Brokers: 1, CanSeal: true, Writable: true}
	select {
	case <-s.done:
		return h, errClosed
	default:
	}
	if err := s.failure(); err != nil {
		h.Writable, h.Detail = false, err.Error()
	} else if s.full.Load() {
		h.Writable, h.Full, h.Detail = false, true, fmt.Sprintf("data directory %s is full: appends are refused until there is room", s.opt.Dir)
	}
	return h, nil
}

// doQuick runs f on the sequencer and returns without waiting for the disk.
func (s *Store) doQuick(f func() error) error {
	answer := make(chan error, 1)
	c := &control{quick: true, done: make(chan error, 1)}
	c.run = func() error {
		answer <- f()
		return nil
	}
	s.submit(request{ctl: c})
	select {
	case err := <-answer:
		return err
	case err := <-c.done:
		select {
		case err = <-answer:
		default: // refused before it ran
		}
		return err
	}
}

// Close ends the store. Appends that wait are written first.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.done)
		s.qmu.Lock()
		s.closing = true
		s.qmu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
		<-s.synced
		s.cleaner.stop()
		s.keeper.stop()
		err := s.lastCheckpoint()
		s.files.close()
		s.ended.mu.Lock()
		defer s.ended.mu.Unlock()
		s.closed = errors.Join(err, s.proof.close(), s.log.close(), s.lock.Close())
	})
	return s.closed
}
