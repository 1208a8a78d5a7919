package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// snapshot is the rewriting of a shard's whole state into its log, so that what
// lies before it can be trimmed. It goes on between other records: each group is
// written again as it is at that moment, and as every record says all of what
// it names, the order among groups does not matter.
type snapshot struct {
	id     uint64
	keys   []groupKey
	txns   []groupKey // transactional ids
	first  uint64     // which of the emitted records is the start mark
	last   uint64     // which is the end mark, 0 while it is not there
	offset int64      // of the start mark; -1 unknown
}

func (sn *snapshot) left() bool { return len(sn.keys) > 0 || len(sn.txns) > 0 }

// step writes the next group or transactional id again.
func (sn *snapshot) step(m *machine) {
	if len(sn.keys) > 0 {
		key := sn.keys[0]
		sn.keys = sn.keys[1:]
		m.snapshotGroup(key)
		return
	}
	key := sn.txns[0]
	sn.txns = sn.txns[1:]
	m.snapshotTxn(key)
}

// advanceSnapshot begins a snapshot if the log has grown enough, or writes the
// next part of the one under way. A shard that is being given back writes one only if its next owner needs it. Needs s.mu.
func (s *shard) advanceSnapshot() {
	if s.snap == nil {
		if !s.rewrite && s.phase != phaseActive {
			return
		}
		if !s.rewrite && s.grown < max(s.c.config.SnapshotBytes, 2*s.size) {
			return
		}
		s.snap = &snapshot{id: uint64(s.emitted), keys: s.m.snapshotKeys(), txns: s.m.snapshotTxns(), first: s.emitted, offset: -1}
		s.grown, s.size, s.rewrite = 0, 0, false
		s.push(snapshotMark{id: s.snap.id}.encode())
	}
	for step := 0; s.snap.left() && step < snapshotStep && len(s.queue) < 4096; {
		s.snap.step(s.m)
		for _, r := range s.m.take().records {
			s.push(r)
			s.size += int64(len(r))
			step += len(r)
		}
	}
	if !s.snap.left() && s.snap.last == 0 {
		s.snap.last = s.emitted
		s.push(snapshotMark{end: true, id: s.snap.id}.encode())
	}
}

// push queues a record that no answer waits for. Needs s.mu.
func (s *shard) push(r record) {
	s.queue = append(s.queue, r)
	s.bytes += len(r)
	s.emitted++
	s.due = true
}

// noteSnapshot looks for the marks among records that became durable: first is
// the number of the first of them, start its offset. It returns the offset up
// to which the log may be trimmed, 0 for none. Needs s.mu.
func (s *shard) noteSnapshot(first uint64, start int64) int64 {
	sn := s.snap
	if sn == nil {
		return 0
	}
	if sn.first >= first && sn.first < s.durable && start >= 0 {
		sn.offset = start + int64(sn.first-first)
	}
	if sn.last == 0 || sn.last >= s.durable {
		return 0
	}
	s.snap = nil
	s.sealed.written = max(s.sealed.written, sn.offset)
	return max(sn.offset, 0)
}

// sealedPart is the part of a shard's log that lies in sealed spans. While there is
// one the clusters that hold those spans cannot be removed.
type sealedPart struct {
	upTo    int64
	missing int64     // see [Log.Sealed]
	written int64     // start of the last snapshot that is whole in the log
	next    time.Time // when the log is rewritten because of it
}

// sealedRetry is when a log is rewritten once more if its sealed part is still there.
const sealedRetry = time.Minute

// tidy tells whether the shard is rewriting its log, and else whether it should: as a part of it has been sealed
// for long enough, by this gateway's clock alone (a seal's time is another process's), or, at once and with urgent,
// as a part of it cannot be read any more. A shard that answers has all that its log says in memory (see load), so
// it lacks nothing of that part, but its next owner would.
func (s *shard) tidy(now time.Time) (busy, due, urgent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != phaseActive {
		return false, false, false
	}
	if s.rewrite || s.snap != nil {
		return true, false, false // the log is looked at again when it is written, from before the loss or not
	}
	upTo, missing := s.log.Sealed()
	if upTo != s.sealed.upTo {
		s.sealed.upTo, s.sealed.next = upTo, now.Add(s.c.config.SealedAge)
	}
	if missing > s.sealed.missing && missing > s.sealed.written {
		s.sealed.next = now
	}
	s.sealed.missing = missing
	return false, max(upTo, missing) > 0 && !now.Before(s.sealed.next), missing > 0
}

// rewriteLog has a snapshot begin.
func (s *shard) rewriteLog(now time.Time) {
	s.mu.Lock()
	s.rewrite = true
	s.sealed.next = now.Add(sealedRetry)
	s.mu.Unlock()
	s.poke()
}

// trimmer trims the log beside the writer, so that no answer waits for it. While
// one trim is under way others are left out: the next snapshot trims further.
type trimmer struct {
	s    *shard
	busy atomic.Bool
	wg   sync.WaitGroup
}

func (t *trimmer) to(ctx context.Context, offset int64) {
	if !t.busy.CompareAndSwap(false, true) {
		return
	}
	t.wg.Go(func() {
		defer t.busy.Store(false)
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		if err := t.s.log.Trim(ctx, offset); err != nil {
			t.s.logger.Warn("shard log not trimmed", "before", offset, "err", err)
			return
		}
		t.s.c.metrics.snapshots.Inc()
	})
}

func (t *trimmer) wait() { t.wg.Wait() }
