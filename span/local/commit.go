package local

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Appends go through two goroutines. The sequencer takes all that waits, judges
// it, gives offsets, writes frames into the log with one write per group. The
// syncer takes all groups that were written, syncs the log once, moves the
// high watermarks and answers. While it syncs, the sequencer writes the next.

// request is one entry of the queue: an append or a control operation.
type request struct {
	a    *span.Append
	l    *log
	h    batch.Header
	mark *batch.Marker // of a control batch
	err  error         // refused at submission, answered in order
	// Its content is damaged, or not what the topic's configs ask for; told unless
	// something else stands against the append.
	unfit error
	ctl   *control
}

// control is an operation on a topic, in the order of the log.
type control struct {
	run   func() error // on the sequencer; may write frames
	done  chan error
	quick bool // nobody waits for the disk
	// ahead of appends that wait: the keeper must not queue behind those that wait for it.
	ahead bool
}

// outcome is what the syncer has to tell about one request.
type outcome struct {
	a    *span.Append
	p    *partition // with next > 0: the append landed
	next int64
	err  error
	ctl  *control
}

// group is what was written at once.
type group struct {
	out   []outcome
	end   uint64 // LSN past its frames
	files []*walFile
	sync  bool          // some outcome waits for it
	lag   time.Duration // else, if > 0, sync within
	err   error         // could not be written
}

const (
	groupBytes  = 1 << 20 // a group is handed on when it holds that much
	groupsAhead = 4
)

var groupPool = sync.Pool{New: func() any { return new(group) }}

// submit queues a request; it never blocks.
func (s *Store) submit(r request) {
	s.qmu.Lock()
	if s.closing {
		s.qmu.Unlock()
		go finish(outcome{a: r.a, ctl: r.ctl, err: errClosed})
		return
	}
	if r.a != nil && r.err == nil {
		if !s.share.admit(r.a, s.queued, s.opt.QueueBytes, s.queue) {
			r.err = errQueueFull
		} else {
			s.queued += int64(len(r.a.Batch))
		}
	}
	first := len(s.queue)+len(s.ahead) == 0
	if r.ctl != nil && r.ctl.ahead {
		s.ahead = append(s.ahead, r)
		select {
		case s.hurry <- struct{}{}:
		default:
		}
	} else {
		s.queue = append(s.queue, r)
	}
	s.qmu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

var (
	errClosed    = fmt.Errorf("store is closed: %w", span.ErrUnavailable)
	errQueueFull = fmt.Errorf("too many appends wait to be written: %w", span.ErrUnavailable)
	errLate      = fmt.Errorf("deadline passed before the append was written: %w", span.ErrUnavailable)
	errSealed    = span.ErrSealed
	errNoSpace   = fmt.Errorf("no space left for the log: %w", span.ErrStorage)
	errGone      = span.ErrGone
)

// take swaps the queue for an empty one.
func (s *Store) take(into []request) (batch []request, closing bool) {
	s.qmu.Lock()
	batch, s.queue = s.queue, into
	if len(s.ahead) > 0 {
		batch, s.ahead = append(s.ahead, batch...), nil
	}
	s.queued = 0
	s.share.taken()
	closing = s.closing
	s.qmu.Unlock()
	return batch, closing
}

// sequence is the sequencer.
func (s *Store) sequence() {
	defer close(s.groups)
	var spare []request
	for range s.wake {
		for {
			reqs, closing := s.take(spare[:0])
			if len(reqs) == 0 {
				spare = reqs
				if closing {
					return
				}
				break
			}
			s.group = groupPool.Get().(*group)
			s.groupStart = s.log.next.Load()
			s.clock()
			for i := range reqs {
				s.step(&reqs[i])
				if s.log.next.Load()-s.groupStart >= groupBytes {
					s.hand()
					s.letAhead()
				}
			}
			s.hand()
			clear(reqs)
			spare = reqs
		}
	}
}

// letAhead handles what goes ahead of the requests that were taken already.
func (s *Store) letAhead() {
	s.qmu.Lock()
	reqs := s.ahead
	s.ahead = nil
	s.qmu.Unlock()
	for i := range reqs {
		s.step(&reqs[i])
	}
	s.hand()
}

// step handles one request.
func (s *Store) step(r *request) {
	o := outcome{a: r.a, ctl: r.ctl, err: r.err}
	if r.ctl != nil {
		before := s.log.next.Load()
		if err := s.failure(); err != nil && !r.ctl.quick {
			o.err = err
		} else {
			o.err = r.ctl.run()
		}
		if s.log.next.Load() != before || o.err == nil && !r.ctl.quick {
			s.group.sync = true
		}
	} else if o.err == nil {
		s.stepAppend(r, &o)
	}
	s.group.out = append(s.group.out, o)
}

func (s *Store) stepAppend(r *request, o *outcome) {
	a := r.a
	a.BaseOffset, a.LogAppendTime, a.Duplicate = -1, -1, false
	p, err := r.l.partition()
	if err != nil {
		o.err = err
		return
	}
	t := p.t
	switch cfg := t.cfg.Load(); {
	case t.gone.Load():
		o.err = errGone
	case t.sealed.Load():
		o.err = errSealed
	case s.failure() != nil:
		o.err = s.failure()
	case s.full.Load():
		o.err = errNoSpace
	case !a.Deadline.IsZero() && s.wall.After(a.Deadline):
		o.err = errLate
	case len(a.Batch) > cfg.maxMessage && r.mark == nil || int64(len(a.Batch)) > s.opt.LogFileBytes/2:
		// Markers pass whatever the limit: a transaction must be able to end.
		o.err = errTooLarge
	case r.unfit != nil:
		o.err = r.unfit
	case int64(len(a.Batch)) > cfg.segmentBytes && r.mark == nil:
		o.err = errPastSegment
	default:
		o.p, o.next, o.err = s.place(p, r, cfg)
	}
}

var (
	errTooLarge    = reject(wire.MessageTooLarge, "the batch is larger than max.message.bytes")
	errPastSegment = reject(wire.RecordListTooLarge, "the batch is larger than segment.bytes")
)

// place gives the batch its offset and writes it into the log's buffer.
func (s *Store) place(p *partition, r *request, cfg *topicConfig) (*partition, int64, error) {
	a, h := r.a, &r.h
	dup, err := p.admit(h, r.mark)
	if err != nil {
		return nil, 0, err
	}
	if dup != nil {
		// It may not be durable yet: its answer goes with this group, after it.
		a.BaseOffset, a.Duplicate = dup.FirstOffset, true
		if cfg.logAppendTime {
			a.LogAppendTime = dup.Timestamp
		}
		s.need(cfg)
		return p, dup.LastOffset + 1, nil
	}
	f := frame{Length: uint32(len(a.Batch)), Topic: p.t.number, Partition: p.n, Kind: kindBatch, Time: s.ms}
	size := frameSize(len(a.Batch))
	b, lsn, err := s.reserve(size)
	if err != nil {
		return nil, 0, err
	}
	stored := b[frameHeaderSize : frameHeaderSize+len(a.Batch)]
	copy(stored, a.Batch)
	h.BaseOffset = p.next
	batch.SetBaseOffset(stored, h.BaseOffset)
	if cfg.logAppendTime {
		// The wall clock's, which is what a broker gives, but never back.
		h.MaxTimestamp = max(s.wall.UnixMilli(), p.lastTime)
		// The batch was parsed whole at submission, so this cannot fail.
		if err := batch.SetMaxTimestampLogAppend(stored, h.MaxTimestamp); err != nil {
			return nil, 0, fmt.Errorf("stamp a batch: %w", err)
		}
		stamped, _, err := batch.Parse(stored)
		if err != nil {
			return nil, 0, fmt.Errorf("stamp a batch: %w", err)
		}
		*h = stamped
		a.LogAppendTime = h.MaxTimestamp
	}
	place(p.t.number, p.n, stored)
	f.LSN, f.Durable, f.Offset, f.BatchCRC = lsn, s.log.durable.Load(), h.BaseOffset, h.CRC
	f.put(b, s.log.cur.salt)
	s.lastFrame = lsn
	if p.appended(h, r.mark, lsn+frameHeaderSize, s.ms) {
		s.unflushed.Add(1)
	}
	a.BaseOffset = h.BaseOffset
	s.stats.appended.Add(int64(len(a.Batch)))
	s.need(cfg)
	return p, h.NextOffset(), nil
}

// need notes how durable the group has to become.
func (s *Store) need(cfg *topicConfig) {
	d := cfg.durability
	switch {
	case d.sync:
		s.group.sync = true
	case d.lag > 0 && (s.group.lag == 0 || d.lag < s.group.lag):
		s.group.lag = d.lag
	}
}

// reserve is wal.reserve, with what was reserved before written out first where it
// must be, so that an error concerns this frame alone.
func (s *Store) reserve(size int) ([]byte, uint64, error) {
	if c := s.log.chunk; c == nil || c.n+size > len(c.buf) || s.log.cur.at(s.log.next.Load())+int64(size) > s.opt.LogFileBytes {
		s.flushLog()
		if err := s.failure(); err != nil {
			return nil, 0, err
		}
	}
	b, lsn, err := s.log.reserve(size)
	if err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			s.noSpace(err)
			return nil, 0, errNoSpace
		}
		if shortage(err) {
			s.short(err)
			return nil, 0, errShort
		}
		s.fail(err)
		return nil, 0, s.failure()
	}
	return b, lsn, nil
}

// writeMeta writes a frame that is no batch; sequencer only.
func (s *Store) writeMeta(f frame, payload []byte) error {
	if int64(frameSize(len(payload))) > s.opt.LogFileBytes/2 {
		return fmt.Errorf("record of %d bytes is too large for a log file of %d: %w", len(payload), s.opt.LogFileBytes, span.ErrStorage)
	}
	b, lsn, err := s.reserve(frameSize(len(payload)))
	if err != nil {
		return err
	}
	copy(b[frameHeaderSize:], payload)
	f.Length, f.LSN, f.Durable, f.Time = uint32(len(payload)), lsn, s.log.durable.Load(), s.ms
	f.BatchCRC = checksum(payload)
	f.put(b, s.log.cur.salt)
	s.lastFrame = lsn
	return nil
}

// flushLog writes the log's buffer to its file. When the disk is full it tries
// until there is room, and refuses what is asked meanwhile, at once: the frames
// have their offsets already, and their callers alone wait.
func (s *Store) flushLog() {
	err := s.log.flush()
	if err == nil {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) && s.failure() == nil {
		s.noSpace(err)
		<-tick.C
		reqs, closing := s.take(nil)
		for i := range reqs {
			refuse(&reqs[i])
		}
		if err = s.log.flush(); err == nil {
			return
		}
		if closing {
			break
		}
	}
	s.fail(err)
}

// refuse answers what came while the log could not be written. What asks and writes nothing gets its answer.
func refuse(r *request) {
	o := outcome{a: r.a, ctl: r.ctl, err: r.err}
	switch {
	case r.ctl != nil && r.ctl.quick:
		o.err = r.ctl.run()
	case o.err == nil:
		o.err = errNoSpace
	}
	finish(o)
}

// hand gives the group to the syncer and starts another.
func (s *Store) hand() {
	g := s.group
	if len(g.out) == 0 {
		return
	}
	s.flushLog()
	g.err = s.failure()
	g.end = s.log.next.Load()
	g.files = append(g.files[:0], s.log.touched...)
	s.log.touched = s.log.touched[:0]
	size := int64(g.end - s.groupStart)
	s.groupStart = g.end
	s.groups <- g // from here on it is the syncer's
	s.group = groupPool.Get().(*group)
	s.brake(size)
}

// clock reads the time once per group: the wall clock's, and that of what is written down, which never goes back.
func (s *Store) clock() {
	s.wall = s.opt.Now()
	s.ms = max(s.ms, s.aging.ms())
}

// do runs a control operation and waits until it is durable.
func (s *Store) do(run func() error) error { return s.control(&control{run: run}) }

// barrier waits until everything is durable that the sequencer has come to so far.
func (s *Store) barrier() error {
	return s.control(&control{run: func() error { return nil }, ahead: true})
}

func (s *Store) control(c *control) error {
	c.done = make(chan error, 1)
	s.submit(request{ctl: c})
	return <-c.done
}
