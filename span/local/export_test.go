package local

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/span"
)

// FlushNow writes everything to segments and takes a checkpoint.
func (s *Store) FlushNow() error {
	return s.keeper.do(func() error {
		err := s.keeper.flush(0)
		s.keeper.note(err)
		return err
	})
}

// KeepNow is a pass of the keeper: what is to be removed goes.
func (s *Store) KeepNow() error {
	return s.keeper.do(func() error {
		err := errors.Join(s.keeper.flush(0), s.keeper.removeTopics())
		s.keeper.note(err)
		return err
	})
}

// RetainBehind applies retention so that its trims are decided before what first asks of the log is done, and come behind it.
func (s *Store) RetainBehind(first func() error) error {
	held, release := make(chan struct{}), make(chan struct{})
	results := make(chan error, 3)
	go func() {
		results <- s.do(func() error {
			close(held)
			<-release
			return nil
		})
	}()
	<-held
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	queued := func(n int) {
		for have := 0; have < n; <-tick.C {
			s.qmu.Lock()
			have = len(s.queue)
			s.qmu.Unlock()
		}
	}
	go func() { results <- first() }()
	queued(1)
	go func() { results <- s.RetainNow() }()
	queued(2)
	close(release)
	return errors.Join(<-results, <-results, <-results)
}

// RetainNow applies retention.
func (s *Store) RetainNow() error {
	return s.keeper.do(func() error { return s.keeper.retain() })
}

// WatchSpaceNow looks at the room on the file system.
func (s *Store) WatchSpaceNow() error {
	return s.keeper.do(func() error {
		s.keeper.watchSpace()
		return nil
	})
}

// WatchFilesNow looks whether files went away.
func (s *Store) WatchFilesNow() error {
	return s.keeper.do(func() error {
		s.keeper.watchFiles()
		return nil
	})
}

// CompactNow compacts every compacted topic.
func (s *Store) CompactNow() error {
	done := make(chan error, 1)
	s.cleaner.ask <- func() { done <- s.cleaner.clean(true) }
	return <-done
}

// SegmentFiles counts the segments of a partition.
func (s *Store) SegmentFiles(t span.Topic, partition int32) int {
	found, err := s.topic(t)
	if err != nil {
		return -1
	}
	p := found.partitions()[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.segs)
}

// Internals describes a partition for the messages of tests.
func (s *Store) Internals(t span.Topic, partition int32) string {
	found, err := s.topic(t)
	if err != nil {
		return err.Error()
	}
	p := found.partitions()[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	out := fmt.Sprintf("start %d next %d hw %d flushed %d tail from %d replay %d\n", p.start, p.next, p.hw, p.flushed, s.log.tail.first.Load(), s.log.replayed.Load())
	for _, sg := range p.segs {
		out += fmt.Sprintf("segment %+v\n", *sg)
	}
	for _, r := range p.refs {
		out += fmt.Sprintf("ref %+v\n", r)
	}
	return out
}

// CompactDue compacts what is due by its topic's configs.
func (s *Store) CompactDue() error {
	done := make(chan error, 1)
	s.cleaner.ask <- func() { done <- s.cleaner.clean(false) }
	return <-done
}

// Pace is what follows each write to a segment.
func (s *Store) Pace(took time.Duration) { s.pace(took) }

// Calm tells whether segments follow the log without effort.
func (s *Store) Calm() bool { return s.calm() }

// ColdPlaces is how many reads of the disk go at a time.
const ColdPlaces = coldPlaces

// ColdReadsWaiting is how many reads wait for their owner's turn.
func (s *Store) ColdReadsWaiting() int { return s.cold.gate.Waiting() }

// PatientColdReads lets nobody in beside those who have a turn, however long that takes, and has the log not in use.
func (s *Store) PatientColdReads() {
	s.cold.gate = fair.NewGate(coldPlaces, time.Hour)
	s.cold.synced.Store(0)
}

// HoldColdReads makes cold reads wait for a turn that does not come, as while the log is synced all the time.
func (s *Store) HoldColdReads() {
	s.cold.synced.Store(1 << 62)
	s.cold.turn <- struct{}{}
	for range lateReads {
		s.cold.late <- struct{}{}
	}
}

// TendProofNow does what the keeper does about the proof every second.
func (s *Store) TendProofNow() error {
	return s.keeper.do(func() error {
		s.keeper.tendProof()
		return nil
	})
}

// Cleaned is the offset up to which a compaction has seen the partition's closed segments.
func (s *Store) Cleaned(t span.Topic, partition int32) int64 {
	return s.closedTo(t, partition, func(sg *segment) bool { return sg.closed && sg.cleaned })
}

// Closed is the offset up to which there is something that a compaction may look at: closed segments below the last stable offset.
func (s *Store) Closed(t span.Topic, partition int32) int64 {
	return s.closedTo(t, partition, func(sg *segment) bool { return sg.closed })
}

func (s *Store) closedTo(t span.Topic, partition int32, fits func(*segment) bool) int64 {
	found, err := s.topic(t)
	if err != nil {
		return -1
	}
	p := found.partitions()[partition]
	p.mu.Lock()
	defer p.mu.Unlock()
	to := p.start
	for _, sg := range p.segs {
		if !fits(sg) || sg.next > p.lastStable() {
			break
		}
		to = sg.next
	}
	return to
}
