package local

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// keeper is the background goroutine: it writes aged appends to segments, takes
// checkpoints, removes files, applies retention, and watches the free space.
type keeper struct {
	s    *Store
	kick chan struct{}
	ask  chan func() // what others want done by the keeper
	quit chan struct{}
	done chan struct{}
	// Closed when what a former process left over is removed.
	swept chan struct{}

	mu     sync.Mutex
	topics []uint32  // deleted; their directories are to be removed
	trash  []dropped // segments that no partition uses any more

	// The keeper's own.
	replay  uint64 // LSN from which the last checkpoint is replayed
	flushed uint64 // what lies before it is in segments
	short   bool   // files could not be opened: nothing is flushed until the next second
}

type dropped struct {
	p    *partition
	segs []*segment
}

func (k *keeper) start(s *Store) {
	k.s = s
	k.kick = make(chan struct{}, 1)
	k.ask = make(chan func())
	k.quit = make(chan struct{})
	k.done = make(chan struct{})
	k.swept = make(chan struct{})
	go k.run()
}

func (k *keeper) stop() {
	close(k.quit)
	<-k.done
}

// do runs f on the keeper and waits for it.
func (k *keeper) do(f func() error) error {
	done := make(chan error, 1)
	select {
	case k.ask <- func() { done <- f() }:
		return <-done
	case <-k.done:
		return errClosed
	}
}

// kickKeeper wakes the keeper if there is something to do.
func (s *Store) kickKeeper() {
	if s.log.liveBytes(s.log.replayed.Load()) >= s.flushAt() {
		s.keeper.wake()
	}
}

const (
	denseFlush = 1 << 20 // what a partition has on average when a flush writes large pieces
	leastFlush = 16 << 20
)

// flushAt is how much the shared log has to hold for a flush. Where few partitions have
// much, there is nothing to gain by waiting: while all of it is still in memory it
// needs no reading back, and a short log stays in the same few files, and these in the
// page cache. Where many have little, each flush costs a sync for each.
func (s *Store) flushAt() int64 {
	dense := max(s.opt.MemoryBudget/2, s.unflushed.Load()*denseFlush, leastFlush)
	return min(s.opt.FlushBytes, dense)
}

// brake holds the sequencer up after a group of so many bytes when the shared log grows
// faster than segments are written: what it may hold is what a start has to replay, and
// what left the memory has to be read back. The delay grows with the excess, so that
// appends slow down to what the disk takes of both, instead of coming to a halt.
func (s *Store) brake(bytes int64) {
	at := s.flushAt()
	excess := s.log.liveBytes(s.log.replayed.Load()) - at - at/2
	if excess <= 0 || at == 0 || s.failure() != nil {
		return
	}
	share := min(float64(excess)/float64(at), steepest) * float64(bytes) / groupBytes
	timer := time.NewTimer(time.Duration(share * float64(brakeStep)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.hurry: // the keeper waits for the sequencer
	}
}

// calm tells whether segments follow the log without effort.
func (s *Store) calm() bool {
	at := s.flushAt()
	return s.log.liveBytes(s.log.replayed.Load()) < at+at/4
}

// pace leaves the disk to the log for as long as a write to a segment took. A flush is tens
// of mebibytes, and an append that comes meanwhile waits behind what the disk has in its
// queue. When the log grows faster than this lets segments follow, they have the disk.
func (s *Store) pace(took time.Duration) {
	if took < paceFrom || !s.calm() {
		return
	}
	timer := time.NewTimer(min(took, paceMost))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.keeper.quit: // the store is closed: what is left goes without a break
	}
}

const (
	paceFrom = 500 * time.Microsecond
	paceMost = 50 * time.Millisecond
)

const (
	brakeStep = 10 * time.Millisecond // delay of a whole group for each flushAt of excess
	steepest  = 20
)

func (k *keeper) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

func (k *keeper) removed(number uint32) {
	k.mu.Lock()
	k.topics = append(k.topics, number)
	k.mu.Unlock()
	k.wake()
}

func (k *keeper) dropped(p *partition, segs []*segment) {
	if len(segs) == 0 {
		return
	}
	k.mu.Lock()
	k.trash = append(k.trash, dropped{p, segs})
	k.mu.Unlock()
}

func (k *keeper) run() {
	defer close(k.done)
	space := time.NewTicker(time.Second)
	defer space.Stop()
	tend := time.NewTicker(k.s.opt.Maintenance)
	defer tend.Stop()
	k.note(k.sweep())
	close(k.swept)
	k.watchSpace()
	if k.s.log.sparse() {
		k.note(k.flush(0))
	}
	for {
		select {
		case <-k.quit:
			return
		case <-k.kick:
		case f := <-k.ask:
			f()
		case <-space.C:
			k.short = false
			k.watchFiles()
			k.tendProof()
			k.watchSpace()
		case <-tend.C:
			k.note(k.retain())
		}
		if !k.short {
			k.note(k.flush(k.s.flushAt()))
			k.note(k.removeTopics())
		}
	}
}

// note reports an error of a pass. What has failed for good is known to the
// store already; a lack of space goes away.
func (k *keeper) note(err error) {
	if err == nil || k.s.failure() != nil || errors.Is(err, errClosed) {
		return
	}
	// The sequencer may have refused what the keeper asked of it, while it waited for space.
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, errNoSpace) {
		k.s.noSpace(err)
		return
	}
	if shortage(err) || errors.Is(err, errShort) {
		k.short = true
		k.s.short(err)
		return
	}
	k.s.fail(err)
}

// watchSpace compares the room on the file system with the marks.
func (k *keeper) watchSpace() {
	s := k.s
	room, err := s.opt.FS.Space(s.opt.Dir)
	if err != nil {
		s.opt.Logger.Warn("free space is unknown", "dir", s.opt.Dir, "error", err)
		return
	}
	free := int64(min(room.Free, 1<<62))
	switch {
	case s.opt.MinSpace >= 0 && free < s.opt.MinSpace:
		s.noSpace(syscall.ENOSPC)
	case s.full.Load() && free >= s.opt.MinSpace:
		// One file of the log must fit, or the next append finds out again.
		if s.opt.MinSpace < 0 && free < s.opt.LogFileBytes {
			break
		}
		s.full.Store(false)
		s.opt.Logger.Info("there is space again, appends go on", "cluster", s.opt.Name, "dir", s.opt.Dir, "free", free)
	}
	if s.opt.LowSpace >= 0 && free < s.opt.LowSpace {
		k.note(k.retain())
		k.note(k.flush(0))
	}
}

// removeTopics removes the directories of deleted topics, once the deletion is
// in a checkpoint or will be replayed.
func (k *keeper) removeTopics() error {
	k.mu.Lock()
	topics := k.topics
	k.topics = nil
	k.mu.Unlock()
	for i, number := range topics {
		if k.s.cleaner.holds(number) {
			k.mu.Lock()
			k.topics = append(k.topics, number)
			k.mu.Unlock()
			continue // a later pass finds it let go
		}
		if err := k.s.opt.FS.RemoveAll(topicDir(k.s.opt.Dir, number)); err != nil && !errors.Is(err, os.ErrNotExist) {
			k.mu.Lock()
			k.topics = append(topics[i:], k.topics...)
			k.mu.Unlock()
			return err
		}
	}
	return nil
}

// removeDropped removes the segments that a checkpoint does not name any more.
// take returned them before the checkpoint was made.
func (k *keeper) removeDropped(list []dropped) error {
	for _, d := range list {
		for _, seg := range d.segs {
			k.s.files.forget(seg)
			if err := k.s.opt.FS.Remove(seg.path(k.s.opt.Dir, d.p)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func (k *keeper) takeDropped() []dropped {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := k.trash
	k.trash = nil
	return list
}
