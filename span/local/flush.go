package local

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

const (
	filesPerRound = 128 // segments written before they are synced together
	syncsAtOnce   = 8
)

// flush writes what the shared log holds to segments if it holds at least so
// many bytes, takes a checkpoint, and gives log files back.
//
// What waits for a segment is not written by its age, but where something comes of that: see flushAged.
func (k *keeper) flush(atLeast int64) error {
	s := k.s
	if s.log.liveBytes(k.flushed) < max(atLeast, 1) || s.failure() != nil {
		return nil
	}
	round, err := k.newRound()
	if err != nil {
		return err
	}
	defer round.abandon()
	for _, t := range s.liveTopics() {
		for _, p := range t.partitions() {
			if err := round.add(p); err != nil {
				return err
			}
		}
	}
	if err := round.finish(); err != nil {
		return err
	}
	if err := k.checkpoint(max(k.replay, round.replay)); err != nil {
		return err
	}
	k.flushed = round.upTo
	s.log.replayed.Store(k.flushed)
	return nil
}

func (s *Store) liveTopics() []*topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*topic, 0, len(s.byID))
	for _, t := range s.byID {
		out = append(out, t)
	}
	return out
}

// round collects segments that were written and are not synced yet.
type round struct {
	k    *keeper
	upTo uint64
	// From here the log is to be replayed when all below upTo is in segments: its last frame stays, or the next start would
	// know of no time but that of the oldest append of each segment, and take the clock for one that is far ahead.
	replay uint64
	began  int64 // ms; what is not below upTo was appended later
	aged   bool  // segments that a compaction may wait for no longer are closed
	done   []*draft
	parts  []published
	dirs   map[string]bool // with new names in them
	made   map[string]bool // directories that exist
	buf    []byte          // of writer, used again
	refs   []ref
	busy   []*draft // of segments marked busy
}

// draft is a segment as it will be once its bytes are synced.
type draft struct {
	p    *partition
	seg  *segment
	of   *openFile
	now  segment // size, next, maxTS, first, closed as they will be
	made bool    // seg is not in the partition's list yet
	cut  bool    // what comes next is too far from it in time
	// header goes to the file with the first batches; nil once it is there.
	header []byte
}

type published struct {
	p       *partition
	drafts  []*draft
	flushed int64
}

func (k *keeper) newRound() (*round, error) {
	s := k.s
	r := &round{k: k, began: s.aging.ms(), dirs: map[string]bool{}, made: map[string]bool{}}
	// What topics with weaker durability wrote has to be durable too before the log
	// may be given back.
	err := s.control(&control{run: func() error {
		r.replay = s.lastFrame
		return nil
	}, ahead: true})
	if err != nil {
		return nil, err
	}
	r.upTo = min(s.log.durable.Load(), s.log.committed.Load())
	if r.replay == 0 || r.replay > r.upTo {
		r.replay = r.upTo
	}
	return r, nil
}

// add writes the part of p's tail that lies below upTo into its segments.
func (r *round) add(p *partition) error {
	cfg := p.t.cfg.Load()
	s := r.k.s
	now := s.aging.ms()
	p.mu.Lock()
	late := r.aged && p.overdue(cfg, now)
	if p.flushed == p.hw && !late || p.t.gone.Load() {
		p.mu.Unlock()
		return nil
	}
	r.refs = r.refs[:0]
	for i := p.refAt(p.flushed); i < len(p.refs); i++ {
		ref := p.refs[i]
		if ref.next() > p.hw || ref.lsn >= r.upTo {
			break
		}
		r.refs = append(r.refs, ref)
	}
	var active *segment
	if n := len(p.segs); n > 0 && !p.segs[n-1].closed && p.segs[n-1].damaged == "" {
		active = p.segs[n-1]
	}
	start, since := p.start, p.since
	pub := published{p: p, flushed: p.flushed}
	var d *draft
	if active != nil {
		d = &draft{p: p, seg: active, now: *active}
		active.busy = true
		r.busy = append(r.busy, d)
	}
	p.mu.Unlock()
	if len(r.refs) == 0 && !late {
		return nil
	}
	used, cuts := false, 0
	for i := 0; i < len(r.refs); {
		ref := r.refs[i]
		pub.flushed = ref.next()
		if ref.next() <= start {
			i++ // trimmed before it ever reached a segment
			continue
		}
		if d != nil && r.full(d, cfg, int64(ref.size), now) {
			if err := r.open(d); err != nil {
				return err
			}
			if err := r.closeSegment(d); err != nil {
				return err
			}
			if !used {
				pub.drafts = append(pub.drafts, d)
			}
			d = nil
		}
		if d == nil {
			first, err := s.appendedAt(&ref)
			if err != nil {
				return err
			}
			// Frames of before a leap of the clock have a time that is worth nothing any more.
			first = max(min(first, now), since)
			seg := &segment{base: ref.base, size: segHeaderSize, next: ref.base, maxTS: batch.NoTimestamp, first: first}
			d = &draft{p: p, seg: seg, now: *seg, made: true}
			used = false
		}
		if err := r.open(d); err != nil {
			return err
		}
		if !used {
			pub.drafts = append(pub.drafts, d)
			used = true
		}
		grain := int64(math.MaxInt64)
		if cuts < mostCuts {
			grain = cfg.grain()
		}
		n, err := r.fill(d, r.refs[i:], cfg, grain)
		if err != nil {
			return err
		}
		if d.cut {
			cuts++
		}
		i += n
		pub.flushed = r.refs[i-1].next()
	}
	if r.aged && d != nil && cfg.late(d.now.first, now) {
		if err := r.open(d); err != nil {
			return err
		}
		if err := r.closeSegment(d); err != nil {
			return err
		}
		if !used {
			pub.drafts = append(pub.drafts, d)
		}
	}
	r.parts = append(r.parts, pub)
	if len(r.done) >= filesPerRound {
		return r.finish()
	}
	return nil
}

func (r *round) full(d *draft, cfg *topicConfig, size, now int64) bool {
	return d.now.size > segHeaderSize && (d.cut || d.now.size+size > cfg.segmentBytes || now-d.now.first >= cfg.segmentMs ||
		cfg.late(d.now.first, now))
}

// open opens the draft's file, and makes it if it is new.
func (r *round) open(d *draft) error {
	if d.of != nil {
		return nil
	}
	s := r.k.s
	path := d.seg.path(s.opt.Dir, d.p)
	dir := filepath.Dir(path)
	if d.made && !r.made[dir] {
		if _, err := s.opt.FS.Stat(dir); err != nil {
			if err := s.opt.FS.MkdirAll(dir); err != nil {
				return fmt.Errorf("make %s: %w", dir, err)
			}
		}
		// Also where it is there: a round that was given up, or a process that was killed, may have made it.
		r.dirs[filepath.Dir(dir)] = true
		r.made[dir] = true
	}
	of, err := s.files.get(d.seg, path, d.made)
	if err != nil {
		return err
	}
	d.of = of
	r.done = append(r.done, d)
	if d.made {
		r.dirs[dir] = true
		d.header = segHeader(s.id, d.p.t.number, d.p.n, d.seg.base, d.seg.gen)
		of.mu.Lock()
		of.index = &segIndex{end: segHeaderSize}
		of.mu.Unlock()
	}
	return nil
}

// closeSegment writes the index behind the batches.
func (r *round) closeSegment(d *draft) error {
	d.of.mu.Lock()
	x, err := d.of.indexOf(d.p, view{seg: d.seg, size: d.now.size})
	var b []byte
	if err == nil {
		b = x.encode(d.now.next, d.now.maxTS)
	}
	d.of.mu.Unlock()
	if errors.Is(err, errDamaged) {
		// Readers will find out; the index can be made from what is there, never
		// the other way round, so the segment stays without.
		d.now.closed, d.now.damaged = true, err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := d.of.f.WriteAt(b, d.now.size); err != nil {
		return fmt.Errorf("close a segment: %w", err)
	}
	if err := d.of.f.Truncate(d.now.size + int64(len(b))); err != nil {
		return fmt.Errorf("close a segment: %w", err)
	}
	d.now.closed = true
	return nil
}

// finish syncs what was written and lets readers see it.
func (r *round) finish() error {
	s := r.k.s
	if err := r.sync(); err != nil {
		// As with the log: the next sync would lie. Unless there was none.
		if !shortage(err) {
			s.fail(err)
		}
		return err
	}
	first := s.log.tail.first.Load()
	for _, pub := range r.parts {
		p := pub.p
		p.mu.Lock()
		for _, d := range pub.drafts {
			seg := d.seg
			seg.size, seg.next, seg.maxTS, seg.closed = d.now.size, d.now.next, d.now.maxTS, d.now.closed
			// A reader may have fenced it since the draft was made: that stays.
			if d.now.damaged != "" {
				seg.damaged = d.now.damaged
			}
			if d.made {
				p.segs = append(p.segs, seg)
			}
		}
		for _, d := range pub.drafts {
			d.seg.busy = false
		}
		r.k.dropped(p, p.prune())
		s.settled(p, pub.flushed)
		p.since = max(p.since, r.began)
		n := 0
		for n < len(p.refs) && p.refs[n].base < p.flushed && p.refs[n].lsn < first {
			n++
		}
		if n > 0 {
			p.refs = append(make([]ref, 0, len(p.refs)-n+16), p.refs[n:]...)
		}
		p.mu.Unlock()
	}
	r.release()
	r.parts = r.parts[:0]
	return nil
}

// release gives the files back, and lets segments that were not written to after all
// be trimmed again.
func (r *round) release() {
	for _, d := range r.busy {
		d.p.mu.Lock()
		d.seg.busy = false
		d.p.mu.Unlock()
	}
	r.busy = r.busy[:0]
	for _, d := range r.done {
		r.k.s.files.put(d.of)
	}
	r.done = r.done[:0]
}

// abandon forgets what was written and not finished: it is written anew, so
// what the index says of it may be wrong.
func (r *round) abandon() {
	for _, d := range r.done {
		d.of.mu.Lock()
		d.of.index = nil
		d.of.mu.Unlock()
	}
	r.release()
}

func (r *round) sync() error {
	errs := make([]error, len(r.done))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(syncsAtOnce, len(r.done)) {
		wg.Go(func() {
			for i := range next {
				errs[i] = r.done[i].of.f.Sync()
			}
		})
	}
	for i := range r.done {
		next <- i
	}
	close(next)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sync segments: %w", err)
	}
	for dir := range r.dirs {
		if err := r.k.s.opt.FS.SyncDir(dir); err != nil {
			return fmt.Errorf("sync %s: %w: %w", dir, span.ErrStorage, err)
		}
	}
	clear(r.dirs)
	return nil
}
