package local

import (
	"sync/atomic"
	"time"
)

type stats struct {
	syncs, syncNanos atomic.Int64
	segmentBytes     atomic.Int64
	checkpoints      atomic.Int64
	checkpointBytes  atomic.Int64
	compactions      atomic.Int64
	appended         atomic.Int64
	began            uint64 // LSN at the start
}

// Stats are counters since the store was opened.
type Stats struct {
	Syncs    int64         // of the shared log
	SyncTime time.Duration // spent in them
	Appended int64         // bytes of batches
	LogBytes int64         // written to the shared log
	// SegmentBytes were written to segments, by compactions too. Write amplification
	// is (LogBytes + SegmentBytes + CheckpointBytes) / Appended.
	SegmentBytes    int64
	Checkpoints     int64
	CheckpointBytes int64
	Compactions     int64 // runs that put new segments in the place of others
	Backlog         int64 // bytes of the shared log that a start would replay
	Queued          int64 // bytes of appends that wait for the sequencer
	OpenSegments    int
	Full            bool // appends are refused for lack of space
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.qmu.Lock()
	queued := s.queued
	s.qmu.Unlock()
	s.files.mu.Lock()
	open := s.files.lru.Len()
	s.files.mu.Unlock()
	return Stats{
		Syncs: s.stats.syncs.Load(), SyncTime: time.Duration(s.stats.syncNanos.Load()),
		Appended: s.stats.appended.Load(), LogBytes: int64(s.log.next.Load() - s.stats.began),
		SegmentBytes: s.stats.segmentBytes.Load(), Checkpoints: s.stats.checkpoints.Load(),
		CheckpointBytes: s.stats.checkpointBytes.Load(), Compactions: s.stats.compactions.Load(), Backlog: s.log.liveBytes(s.log.replayed.Load()),
		Queued: queued, OpenSegments: open, Full: s.full.Load(),
	}
}
