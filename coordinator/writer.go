package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

const (
	// batchBytes is when a batch takes no further record. One record may be larger.
	batchBytes = 1 << 20
	// snapshotStep is how much of a snapshot is written between other records.
	snapshotStep = 256 << 10
	// epochsPerID: an epoch is an int16, and the last one is kept for closing the id.
	epochsPerID = math.MaxInt16
	// shardProducers is the first producer id of the shards' own, far above what
	// those that the catalog gives out (below 2^52).
	shardProducers = int64(1) << 60
)

// producer is the id and epoch with which the owner of a term writes. The epoch is
// the term; after 32,767 terms the next id begins.
func producer(number int32, term int64) (id int64, epoch int16) {
	return shardProducers + int64(number)<<24 + term/epochsPerID, int16(term % epochsPerID)
}

// fence makes the log refuse all former owners and returns with the barrier in it.
//
// Where the term began a new id, an owner with the old one would not be refused:
// the old id is closed first, with an epoch that no term has. All owners with
// the new id do so, as the first may have died before it could.
func (s *shard) fence(ctx context.Context) error {
	if s.lease.Term >= epochsPerID {
		old, _ := producer(s.number, s.lease.Term-epochsPerID)
		b, err := s.batch([]record{barrier{term: s.lease.Term, node: s.c.node}.encode()}, old, math.MaxInt16, 0)
		if err != nil {
			return err
		}
		if _, err := s.append(ctx, b); err != nil {
			return fmt.Errorf("close former producer id: %w", err)
		}
	}
	s.id, s.epoch = producer(s.number, s.lease.Term)
	b, err := s.batch([]record{barrier{term: s.lease.Term, node: s.c.node}.encode()}, s.id, s.epoch, 0)
	if err != nil {
		return err
	}
	if _, err := s.append(ctx, b); err != nil {
		return fmt.Errorf("write barrier: %w", err)
	}
	s.seq = 1
	return nil
}

func (s *shard) batch(records []record, id int64, epoch int16, seq int32) ([]byte, error) {
	now := s.c.clock.Now().UnixMilli()
	b := batch.NewBuilder().Producer(id, epoch, seq)
	for _, r := range records {
		b.Add(batch.Record{Timestamp: now, Value: r})
	}
	out, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("build batch: %w", err)
	}
	return out, nil
}

// append sends the batch until the log has it. It gives up only when the log
// says that it never will, or with ctx: the sequence number makes a repeat safe.
func (s *shard) append(ctx context.Context, b []byte) (start int64, err error) {
	type outcome struct {
		start int64
		err   error
	}
	wait := 10 * time.Millisecond
	for {
		ch := make(chan outcome, 1)
		s.log.Append(b, s.c.clock.Now().Add(s.c.config.CommitTimeout), func(start int64, err error) { ch <- outcome{start, err} })
		var o outcome
		s.patience.Reset(s.c.config.CommitTimeout / 4)
		for waiting := true; waiting; {
			select {
			case o = <-ch:
				waiting = false
			case <-s.patience.C:
				s.overdue()
				s.patience.Reset(s.c.config.CommitTimeout / 4)
			case <-ctx.Done():
				// The answer goes to the channel, which nobody reads any more.
				return 0, ctx.Err()
			}
		}
		if o.err == nil || errors.Is(o.err, ErrFenced) || errors.Is(o.err, ErrBroken) {
			return o.start, o.err
		}
		s.logger.Warn("shard log did not take a batch, trying again", "err", o.err)
		s.overdue()
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

// write is the loop of an active shard: everything that came while one batch was
// on its way goes into the next.
func (s *shard) write(ctx context.Context) error {
	trims := trimmer{s: s}
	defer trims.wait()
	// A batch may be long on its way: resigning does not wait for it.
	var resigner sync.WaitGroup
	defer resigner.Wait()
	written := make(chan struct{})
	defer close(written)
	resigner.Go(func() {
		select {
		case <-s.resign:
			s.stopTaking()
			s.poke()
		case <-written:
		}
	})
	for {
		// Who is about to say something goes into the same batch: the partitions of one Produce request come side by side.
		runtime.Gosched()
		s.mu.Lock()
		s.advanceSnapshot()
		records := s.nextBatch()
		over := s.phase == phaseOver && len(records) == 0
		s.mu.Unlock()
		if over {
			return nil
		}
		if len(records) > 0 {
			if err := s.writeBatch(ctx, records, &trims); err != nil {
				return err
			}
			continue
		}
		select {
		case <-s.kick:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stopTaking lets nothing new come in; what is queued is written, and its answers
// go out.
func (s *shard) stopTaking() {
	s.mu.Lock()
	if s.phase == phaseOver {
		s.mu.Unlock()
		return
	}
	s.phase = phaseOver
	if s.unwake != nil {
		s.unwake()
	}
	s.snap = nil
	if _, missing := s.log.Sealed(); missing > s.sealed.written {
		s.rewrite = true // the next owner could not read it
	}
	var replies []func()
	s.m.lose(wire.NotCoordinator)
	replies = append(replies, s.m.take().replies...)
	s.mu.Unlock()
	for _, reply := range replies {
		reply()
	}
}

// nextBatch takes records for one batch, if there are any that are due. Needs s.mu.
func (s *shard) nextBatch() []record {
	if !s.due && s.phase == phaseActive {
		return nil
	}
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size+len(s.queue[n]) <= batchBytes) {
		size += len(s.queue[n])
		n++
	}
	records := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.due = len(s.queue) > 0
	return records
}

// holds has the catalog know, once in the shard's life, that the log is about to hold something: from then on the
// shard does not do without what of it cannot be read.
func (s *shard) holds(ctx context.Context, records []record) error {
	s.mu.Lock()
	lease := s.lease
	s.mu.Unlock()
	if !lease.Empty || !slices.ContainsFunc(records, record.isState) {
		return nil
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := s.c.leases.SetShardHolds(ctx, lease)
		if err == nil {
			break
		}
		s.logger.Warn("the catalog does not take that the shard holds something, trying again", "err", err)
		s.overdue()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
	s.mu.Lock()
	s.lease.Empty = false
	s.mu.Unlock()
	return nil
}

func (s *shard) writeBatch(ctx context.Context, records []record, trims *trimmer) error {
	if err := s.holds(ctx, records); err != nil {
		return err
	}
	b, err := s.batch(records, s.id, s.epoch, s.seq)
	if err != nil {
		return err
	}
	start, err := s.append(ctx, b)
	if err != nil {
		return err
	}
	s.c.metrics.records.Add(float64(len(records)))
	s.c.metrics.bytes.Add(float64(len(b)))
	s.seq = batch.IncrementSequence(s.seq, int32(len(records)))
	s.mu.Lock()
	for _, r := range records {
		s.bytes -= len(r)
	}
	s.grown += int64(len(b))
	if start >= 0 {
		if s.next > 0 && start > s.next {
			// The log was extended past records that cannot be read, maybe never again.
			// What they said is known here: say it again.
			s.logger.Warn("shard log has a hole, its state is written anew", "from", s.next, "to", start)
			s.size, s.grown = 0, max(s.grown, s.c.config.SnapshotBytes)
			s.snap, s.rewrite = nil, true
		}
		s.next = start + int64(len(records))
	}
	first := s.durable
	s.durable += uint64(len(records))
	trim := s.noteSnapshot(first, start)
	s.m.now = max(s.m.now, s.c.clock.Now().UnixMilli())
	replies := s.settle()
	s.mu.Unlock()
	for _, reply := range replies {
		reply()
	}
	if trim > 0 {
		trims.to(ctx, trim)
	}
	return nil
}
