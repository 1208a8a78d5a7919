package local

import (
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
)

// agingClock is the time by which things are dropped: retention, tombstones, idle producers.
// A wall clock that is set wrong must not make everything look old.
//
//   - While the process runs, a wall clock more than clockTolerance ahead of the
//     steady one is not believed until the next start.
//   - At a start more than clockDoubt after the last time that the directory knows, the machine was off for long or
//     its clock is wrong, and nothing tells which: time goes on from the last known
//     for clockDoubt, in which somebody can read the warning. Then the wall clock is believed, and the gap does not
//     count for what has no time but ours: see believe. Starts do not begin the doubt anew: checkpoints have
//     how long the clock was in it.
//
// What the directory knows is stamped by this clock (frames, and through them producers; first appends of segments), or
// a start would take a wrong time that a former process wrote down for a proof of it.
//
// A clock that is behind makes things look young, which costs room only.
type agingClock struct {
	s     *Store
	mu    sync.Mutex
	began time.Time // wall clock at the start
	from  time.Duration
	known int64         // ms; the newest time in the directory at the start while the wall clock is in doubt, else 0
	spent time.Duration // how long processes before this one were in the same doubt
	said  bool

	saved    doubt         // of the checkpoint that the start found
	recorded time.Duration // keeper only: what the last checkpoint has of the time in doubt; -1: it has no doubt
}

// doubt is what a checkpoint says of a clock that is not believed.
type doubt struct {
	spent time.Duration // how long it was in doubt; 0: it is not
	at    int64         // ms; the time that things were aged by in the end
	ahead int64         // ms; how far the clock was ahead of that
}

const (
	clockTolerance = 10 * time.Minute
	clockDoubt     = 24 * time.Hour
	doubtStep      = 10 * time.Minute // the time in doubt is written down in steps of it
)

// start begins to count; known is the newest time in the directory in ms, or batch.NoTimestamp.
func (c *agingClock) start(s *Store, known int64) {
	c.s = s
	c.began, c.from = s.opt.Now(), s.opt.Steady()
	c.recorded = c.saved.recorded()
	if c.saved.spent > 0 {
		known = max(known, c.saved.at)
	}
	ahead := c.began.UnixMilli() - known
	if known == batch.NoTimestamp || ahead <= clockDoubt.Milliseconds() {
		return
	}
	c.known = known
	// It is the same doubt if the clock went on since then by no more than what would not have raised one. One that was set
	// meanwhile is another clock.
	if went := ahead - c.saved.ahead; c.saved.spent > 0 && went >= -clockTolerance.Milliseconds() && went <= clockDoubt.Milliseconds() {
		c.spent = c.saved.spent
	}
	s.opt.Logger.Warn("clock is far ahead of the newest record; if it is right, retention begins after a day of running, else set it and restart",
		"cluster", s.opt.Name, "clock", c.began.UTC(), "newest", time.UnixMilli(known).UTC(), "ran", c.spent)
}

// recorded is what an [agingClock] keeps of it.
func (d doubt) recorded() time.Duration {
	if d.spent == 0 {
		return -1
	}
	return d.spent
}

// doubt is what a checkpoint is to say now.
func (c *agingClock) doubt() doubt {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == 0 {
		return doubt{}
	}
	ran := c.s.opt.Steady() - c.from
	// Even a moment counts: 0 says that there is none.
	return doubt{spent: min(max(c.spent+ran, time.Millisecond), clockDoubt), at: c.known + ran.Milliseconds(), ahead: c.began.UnixMilli() - c.known}
}

// unrecorded tells whether a checkpoint is due for the sake of the doubt alone; keeper only.
func (c *agingClock) unrecorded() bool {
	spent := c.doubt().spent
	if spent == 0 {
		return c.recorded >= 0
	}
	return spent-max(c.recorded, 0) >= doubtStep
}

// ms is the time to age things by.
func (c *agingClock) ms() int64 {
	wall, ran := c.s.opt.Now(), c.s.opt.Steady()-c.from
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != 0 {
		return c.known + ran.Milliseconds()
	}
	steady := c.began.Add(ran)
	ahead := wall.UnixMilli() - steady.UnixMilli()
	if ahead <= clockTolerance.Milliseconds() {
		return wall.UnixMilli()
	}
	if !c.said {
		c.said = true
		c.s.opt.Logger.Warn("clock jumped ahead, retention goes by the steady clock until the next start",
			"cluster", c.s.opt.Name, "ahead", time.Duration(ahead)*time.Millisecond)
	}
	return steady.UnixMilli()
}

// doubted tells whether the wall clock was in doubt for long enough.
func (c *agingClock) doubted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known != 0 && c.spent+c.s.opt.Steady()-c.from >= clockDoubt
}

// believe ends a doubt; sequencer only. The time makes a leap by what was doubted. Producers, and segments by their
// first append, were stamped by the time before it, also those of a moment ago: they leap too, or would all
// look as old as the gap is long.
func (s *Store) believe() error {
	before := s.aging.ms()
	s.aging.mu.Lock()
	s.aging.known = 0
	s.aging.mu.Unlock()
	s.clock()
	leap := s.aging.ms() - before
	for _, t := range s.liveTopics() {
		for _, p := range t.partitions() {
			p.mu.Lock()
			for _, st := range p.producers {
				st.lastTime += leap
			}
			for _, sg := range p.segs {
				sg.first += leap
			}
			p.since += leap
			p.mu.Unlock()
		}
	}
	return nil
}

// newestTime is the newest time by our own clock that the directory holds, in ms: of
// the log's frames, of producers, and of segments' first appends. Times of clients do not count, nor do
// log append times, which are the wall clock's.
func (s *Store) newestTime() int64 {
	newest := batch.NoTimestamp
	if s.ms > 0 {
		newest = s.ms
	}
	for _, t := range s.liveTopics() {
		for _, p := range t.partitions() {
			p.mu.Lock()
			for _, st := range p.producers {
				newest = max(newest, st.lastTime)
			}
			for _, sg := range p.segs {
				newest = max(newest, sg.first)
			}
			p.mu.Unlock()
		}
	}
	if newest <= 0 {
		return batch.NoTimestamp
	}
	return newest
}
