package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// readBytes is how much of the log is asked for at once.
const readBytes = 4 << 20

// readTries is how often a read may fail in a row before the shard is given back.
const readTries = 20

// load fences the former owner and replays the log up to the barrier: nothing of
// a former owner can come behind it, and nothing was acknowledged that is not
// before it.
func (s *shard) load(ctx context.Context) error {
	s.c.mu.RLock()
	topic := s.c.topic
	s.c.mu.RUnlock()
	log, err := s.c.logs.Open(topic, s.number)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	s.log = log
	if err := s.fence(ctx); err != nil {
		return err
	}
	if err := s.catchUp(ctx); err != nil {
		return fmt.Errorf("catch up with the catalog: %w", err)
	}
	m, size, err := s.whole(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.phase != phaseOver {
		m.counts.counted(&s.c.counts)
		m.ids.counted(&s.c.txnCounts)
		m.held.counted(&s.c.held)
	}
	s.m = m
	s.grown = size
	s.mu.Unlock()
	return nil
}

// errMissing: a part of the log could not be read, and what can be changed meanwhile. The shard is to be taken anew.
var errMissing = errors.New("a part of the shard's log cannot be read")

// whole replays the log, all of it: a shard that lacks a part would answer that a group has no commits, give a
// transactional id a second producer, or take the place in a pool of a transaction that is decided. It may lack what
// was written again behind it, and one that never wrote anything lacks nothing. Else the shard does not answer while
// that part cannot be read: it waits for the cluster, or for an operator who gives the part up, and is taken anew
// with another term, as the barrier of this one may be lost as well by then.
func (s *shard) whole(ctx context.Context) (*machine, int64, error) {
	start, err := s.log.Start(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("start of the log: %w", err)
	}
	_, before := s.log.Sealed()
	m := s.newMachine()
	r, err := replay(ctx, s.log, m, s.lease.Term, start)
	if err != nil {
		return nil, 0, fmt.Errorf("replay: %w", err)
	}
	_, after := s.log.Sealed() // a span may have gone or come back meanwhile
	missing := max(before, after, r.missing)
	switch {
	case missing == 0 || s.lease.Empty:
		return m, r.size, nil
	case r.snapshot >= missing:
		// What was replayed from before the snapshot may have been removed by what is missing.
		m = s.newMachine()
		if r, err = replay(ctx, s.log, m, s.lease.Term, r.snapshot); err != nil {
			return nil, 0, fmt.Errorf("replay: %w", err)
		}
		return m, r.size, nil
	}
	return nil, 0, s.awaitLog(ctx, missing)
}

func (s *shard) newMachine() *machine {
	m := newMachine(s.c.config, newUUID, topicCheck{s.c}, s.logger)
	m.configs = s.c.directory.GroupConfig
	m.room, m.most = s.c.room, s.c.most
	m.now = s.c.clock.Now().UnixMilli()
	m.term, m.shard, m.fleet = s.lease.Term, s.number, s.c.fleet
	m.overdue = func(key groupKey) {
		s.c.settlers.run(func(ctx context.Context) { s.c.expireTxn(ctx, key) })
	}
	number, term := s.number, s.lease.Term
	m.watch = func(key groupKey, f *former, ends map[string]ending) { s.c.watchFormer(number, term, key, f, ends) }
	m.freed = func(was participant, next span.Transaction) {
		s.c.settlers.run(func(ctx context.Context) { s.c.readySlot(ctx, number, &was, next) })
	}
	return m
}

// sealedPoll is how often a shard that waits looks whether what is missing of its log is there.
const sealedPoll = 200 * time.Millisecond

// awaitLog returns errMissing when what is missing of the log has changed, and nil when the shard is to be
// given back.
func (s *shard) awaitLog(ctx context.Context, missing int64) error {
	s.loaded() // others may be loaded meanwhile
	s.logger.Warn("a part of the shard's log cannot be read: its groups and transactional ids wait for it", "before", missing)
	tick := time.NewTicker(sealedPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.resign:
			return errMissing
		case <-tick.C:
		}
		if _, now := s.log.Sealed(); now != missing {
			return errMissing
		}
	}
}

// replayed is what a replay found besides state.
type replayed struct {
	size     int64 // bytes
	snapshot int64 // start of the last snapshot that is complete, -1: none
	missing  int64 // see [Log.Sealed], the most of what it was on the way
	started  uint64
	began    int64 // start of the snapshot of id started, -1: none
}

// mark notes a mark of a snapshot.
func (r *replayed) mark(m logMark, offset int64) {
	switch {
	case m.kind == kindSnapshotStart:
		r.started, r.began = m.snapshot, offset
	case m.kind == kindSnapshotEnd && m.snapshot == r.started && r.began >= 0:
		r.snapshot = r.began
	case m.kind == kindBarrier:
		r.began = -1 // its owner wrote no end
	}
}

// idleReads is how many reads in a row may find nothing before the barrier. It was acknowledged, so it
// comes, unless its span was lost since.
const idleReads = 600

// replay applies the log from an offset up to the barrier of the term.
func replay(ctx context.Context, log Log, m *machine, term, offset int64) (r replayed, err error) {
	r.snapshot, r.began = -1, -1
	first := true
	wait, failures, idle := time.Millisecond, 0, 0
	for {
		run, _, release, err := log.Read(ctx, offset, readBytes)
		if err != nil {
			if failures++; failures == readTries {
				return r, fmt.Errorf("read at %d: %w", offset, err)
			}
			select {
			case <-ctx.Done():
				return r, ctx.Err()
			case <-time.After(wait):
			}
			wait = min(2*wait, 100*time.Millisecond)
			continue
		}
		_, missing := log.Sealed()
		r.missing = max(r.missing, missing)
		if at, ok := firstOffset(run); ok {
			if !first && at > offset {
				// Between spans, after the loss of a cluster. If its records were written
				// again behind the hole, nothing is missing.
				m.logger.Warn("shard log has a hole", "from", offset, "to", at)
			}
			first = false
		}
		next, found, err := replayRun(run, offset, m, term, &r)
		r.size += int64(len(run))
		if release != nil {
			release()
		}
		if err != nil || found {
			return r, err
		}
		if next > offset {
			offset, wait, failures, idle = next, time.Millisecond, 0, 0
			continue
		}
		if idle++; idle == idleReads {
			return r, fmt.Errorf("the barrier of term %d is not in the log from %d on", term, offset)
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

func firstOffset(run []byte) (int64, bool) {
	it := batch.NewIter(run)
	if !it.Next() {
		return 0, false
	}
	return it.Header.BaseOffset, true
}

// replayRun applies whole batches. next is where to read on; found is true at
// the barrier of the term.
func replayRun(run []byte, offset int64, m *machine, term int64, r *replayed) (next int64, found bool, err error) {
	next = offset
	it := batch.NewIter(run)
	var rr batch.RecordReader
	defer rr.Close()
	for it.Next() {
		if it.Header.NextOffset() <= offset {
			continue
		}
		next = it.Header.NextOffset()
		if it.Header.IsControl() {
			continue
		}
		if err := rr.Reset(it.Bytes, 4*maxRecordLimit); err != nil {
			return next, false, fmt.Errorf("batch at %d: %w", it.Header.BaseOffset, err)
		}
		for rr.Next() {
			if rr.Record.Offset < offset {
				continue
			}
			mark, err := m.apply(rr.Record.Value)
			if err != nil {
				return next, false, fmt.Errorf("record at %d: %w", rr.Record.Offset, err)
			}
			r.mark(mark, rr.Record.Offset)
			if mark.kind == kindBarrier && mark.term > term {
				return next, false, fmt.Errorf("%w: term %d, ours is %d", ErrFenced, mark.term, term)
			}
			// The id of a former term is closed with a barrier of the term too; that one
			// comes before, so go on to the end of what is there.
			if mark.kind == kindBarrier && mark.term == term && ownBarrier(it.Header, term) {
				return next, true, nil
			}
		}
		if err := rr.Err(); err != nil {
			return next, false, fmt.Errorf("batch at %d: %w", it.Header.BaseOffset, err)
		}
	}
	if err := it.Err(); err != nil {
		return next, false, err
	}
	return next, false, nil
}

// ownBarrier tells the barrier of a term from the one that closes the former id.
func ownBarrier(h batch.Header, term int64) bool { return h.ProducerEpoch == int16(term%epochsPerID) }

// newUUID is a random UUID (RFC 9562, version 4), as member ids end in.
func newUUID() string {
	var b [16]byte
	// crypto/rand.Read never fails: it ends the process rather than return weak bytes.
	rand.Read(b[:]) //nolint:errcheck
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var out [36]byte
	hex.Encode(out[:], b[:4])
	out[8] = '-'
	hex.Encode(out[9:], b[4:6])
	out[13] = '-'
	hex.Encode(out[14:], b[6:8])
	out[18] = '-'
	hex.Encode(out[19:], b[8:10])
	out[23] = '-'
	hex.Encode(out[24:], b[10:])
	return string(out[:])
}

// topicCheck is the directory as machines ask for topics.
type topicCheck struct{ c *Coordinator }

func (t topicCheck) exists(id [16]byte) bool {
	_, ok := t.c.directory.TopicByID(catalog.ID(id))
	return ok
}

func (t topicCheck) named(tenant, name string) (catalog.ID, int32, bool) {
	topic, ok := t.c.directory.TopicByName(tenant, name)
	return topic.ID, topic.Partitions, ok && !topic.Deleting
}

func (t topicCheck) name(id catalog.ID) (string, bool) {
	topic, ok := t.c.directory.TopicByID(id)
	return topic.Name, ok && !topic.Deleting
}

func (t topicCheck) version(tenant string) uint64 { return t.c.topicVersion(tenant) }

// catchUp has the directory know at least what the former owner can have known: a
// target that was computed with more topics must not be taken back.
func (s *shard) catchUp(ctx context.Context) error {
	if _, claimed := s.claim(); s.c.directory.Revision() >= claimed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return s.c.directory.Refresh(ctx)
}
