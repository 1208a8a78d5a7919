package local

import (
	"encoding/binary"
	"math"
)

// flushAged writes to segments what a compaction may not wait for any longer, and closes their segments: those partitions
// only, and the log is replayed from where it was before. So a site with many slow partitions pays for those that are
// due, once in segment.ms or max.compaction.lag.ms each, and not for all of them each time one is. Where nothing is
// compacted no segment is written for its age: retention drops what has aged out of the shared log, see expire.
func (k *keeper) flushAged(now int64) error {
	s := k.s
	if s.failure() != nil {
		return nil
	}
	var due []*partition
	for _, t := range s.liveTopics() {
		cfg := t.cfg.Load()
		for _, p := range t.partitions() {
			if p.waited(cfg, now) {
				due = append(due, p)
			}
		}
	}
	if len(due) == 0 {
		return nil
	}
	round, err := k.newRound()
	if err != nil {
		return err
	}
	defer round.abandon()
	round.aged = true
	for _, p := range due {
		if err := round.add(p); err != nil {
			return err
		}
	}
	if err := round.finish(); err != nil {
		return err
	}
	return k.checkpoint(k.replay)
}

// waited tells whether something of p is to go to a segment, or its segment to be closed, for its age.
func (p *partition) waited(cfg *topicConfig, now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overdue(cfg, now) {
		return true
	}
	if p.flushed >= p.hw {
		return false
	}
	age := now - p.since
	if cfg.compacts && (age >= cfg.segmentMs || cfg.late(p.since, now)) {
		return true
	}
	// Retention goes by the segment's time where a record has none.
	i := p.refAt(max(p.flushed, p.start))
	return cfg.deletes && cfg.retentionMs >= 0 && age >= cfg.segmentMs && i < len(p.refs) && p.refs[i].maxTS < 0
}

// overdue tells whether the segment that is written to has to be closed for a compaction to come in time, should nothing
// more ever be appended; under mu.
func (p *partition) overdue(cfg *topicConfig, now int64) bool {
	n := len(p.segs)
	return n > 0 && !p.segs[n-1].closed && p.segs[n-1].damaged == "" && cfg.late(p.segs[n-1].first, now)
}

// late tells whether a compaction of what was appended at first, ms, may not wait any longer.
func (c *topicConfig) late(first, now int64) bool { return c.compacts && now-first >= c.maxLag }

// mostCuts bounds how many segments a flush makes of what a partition has for no more than the records' times.
const mostCuts = 8

// grain is how far the records of one segment lie apart in time at most, ms, where a flush can tell: what retention drops
// with a segment is no older by more than that. Partitions may be many and have little, and each segment costs a file
// and a sync, so the grain is not always as fine as segment.ms.
func (c *topicConfig) grain() int64 {
	if !c.deletes || c.retentionMs < 0 {
		return math.MaxInt64
	}
	return max(c.segmentMs, c.retentionMs/4)
}

// apart tells whether b is younger than a by so many ms, by the times of their records.
func apart(a, b *ref, ms int64) bool { return a.maxTS >= 0 && b.maxTS-a.maxTS >= ms }

// piece returns how many of the batches given would be one segment, by segment.bytes and segment.ms, their size, the
// largest timestamp, and whether one of them has none.
func piece(refs []ref, cfg *topicConfig) (n int, size, newest int64, timeless bool) {
	for n < len(refs) && (n == 0 || segHeaderSize+size+int64(refs[n].size) <= cfg.segmentBytes && !apart(&refs[0], &refs[n], cfg.segmentMs)) {
		size += int64(refs[n].size)
		newest = max(newest, refs[n].maxTS)
		timeless = timeless || refs[n].maxTS < 0
		n++
	}
	return n, size, newest, timeless
}

// appendedAt is when the batch was appended, ms, as its frame in the log says.
func (s *Store) appendedAt(r *ref) (int64, error) {
	var b [8]byte
	at := r.lsn - frameHeaderSize + atFrameTime
	if c := s.log.tail.get(at); c != nil {
		copy(b[:], c.buf[at-c.lsn:])
		c.unpin()
	} else if err := s.log.read(b[:], at); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b[:])), nil
}
