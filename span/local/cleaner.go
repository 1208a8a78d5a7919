package local

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// cleaner is the background goroutine that compacts topics with
// cleanup.policy=compact, as Apache Kafka's log cleaner does.
type cleaner struct {
	s    *Store
	ask  chan func()
	quit chan struct{}
	done chan struct{}

	mu sync.Mutex
	// The topic that is compacted, 0 if none is. Its directory stays when it is deleted meanwhile, until the
	// cleaner has let it go.
	topic uint32

	replaced int64 // the cleaner's own: bytes of segments that were replaced since the last checkpoint
}

func (c *cleaner) start(s *Store) {
	c.s = s
	c.ask = make(chan func())
	c.quit = make(chan struct{})
	c.done = make(chan struct{})
	go c.run()
}

func (c *cleaner) stop() {
	close(c.quit)
	<-c.done
}

func (c *cleaner) run() {
	defer close(c.done)
	// What the cleaner writes is in no list until it is whole: it would be swept away.
	select {
	case <-c.s.keeper.swept:
	case <-c.quit:
		return
	}
	t := time.NewTicker(c.s.opt.Maintenance)
	defer t.Stop()
	for {
		select {
		case <-c.quit:
			return
		case f := <-c.ask:
			f()
		case <-t.C:
			if err := c.clean(false); err != nil && !errors.Is(err, errClosed) {
				c.s.opt.Logger.Error("compaction failed, it is tried again later", "cluster", c.s.opt.Name, "error", err)
			}
		}
	}
}

var errStopped = errors.New("store is closing")

func (c *cleaner) stopping() bool {
	select {
	case <-c.quit:
		return true
	default:
		return false
	}
}

// hold keeps the directory of the topic from being removed, and that of no other; 0 lets go. A topic that was
// gone before is not kept.
func (c *cleaner) hold(number uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.topic = number
}

func (c *cleaner) holds(number uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topic == number
}

// mostReplaced is how much disk space segments take that were replaced, and are removed with the next checkpoint. That
// is as long as there are partitions: one for each of many that have little would be most of what is written.
const mostReplaced = 64 << 20

// clean compacts every partition that is due, or, if all is set, every one of a compacted topic.
func (c *cleaner) clean(all bool) (errs error) {
	defer c.hold(0)
	defer func() {
		// Where the store is closed the last checkpoint has what was done.
		if c.replaced > 0 && !c.stopping() && c.s.failure() == nil {
			errs = errors.Join(errs, c.checkpoint())
		}
	}()
	for _, t := range c.s.liveTopics() {
		cfg := t.cfg.Load()
		if !cfg.compacts {
			continue
		}
		c.hold(t.number)
		for _, p := range t.partitions() {
			if c.stopping() || c.s.failure() != nil {
				return errs
			}
			if t.gone.Load() {
				break
			}
			// A partition that cannot be cleaned does not keep the others from it.
			if err := c.cleanPartition(p, cfg, all); err != nil && !errors.Is(err, errStopped) && !errors.Is(err, errRecycled) && !errors.Is(err, errGone) {
				errs = errors.Join(errs, fmt.Errorf("topic %q, partition %d: %w", t.name, p.n, err))
			}
		}
	}
	return errs
}

// work is what a compaction reads.
type work struct {
	segs    []segment  // copies, for their sizes and ends
	origin  []*segment // the same in the partition
	dirty   int        // index of the first that no cleaner has seen
	aborted []abortedTxn
	last    map[int64]int64 // last offset of each producer's last batch
	start   int64           // of the log
	end     int64           // what lies behind it stays as it is
	// The batch at end has more keys than the table holds, of which those before its record at noted were in the table
	// by now, or in one before; see cleanPartition.
	wide  bool
	noted int64
}

// records is how many keys there can be in what no cleaner has seen.
func (w *work) records() (n int64) {
	for _, sg := range w.segs[w.dirty:] {
		n += sg.next - sg.base
	}
	return n
}

// due returns what there is to do, nil if it is not worth it.
func (p *partition) due(cfg *topicConfig, now int64, all bool) *work {
	p.mu.Lock()
	defer p.mu.Unlock()
	lso := p.lastStable()
	w := &work{dirty: -1, start: p.start, last: map[int64]int64{}}
	var clean, dirty int64
	late := false
	for _, sg := range p.segs {
		// What is not decided yet, or too young, is left with all that follows.
		if !sg.closed || sg.damaged != "" || sg.next > lso || cfg.minLag > 0 && sg.maxTS > now-cfg.minLag {
			break
		}
		if sg.cleaned && w.dirty < 0 {
			clean += sg.size - segHeaderSize
		} else {
			if w.dirty < 0 {
				w.dirty = len(w.segs)
			}
			dirty += sg.size - segHeaderSize
			late = late || now-sg.first > cfg.maxLag
		}
		w.segs = append(w.segs, *sg)
		w.origin = append(w.origin, sg)
	}
	if len(w.segs) == 0 || !all && (w.dirty < 0 || dirty == 0 || float64(dirty)/float64(clean+dirty) < cfg.dirtyRatio && !late) {
		return nil
	}
	if w.dirty < 0 {
		w.dirty = len(w.segs)
	}
	w.aborted = append(w.aborted, p.aborted...)
	for id, st := range p.producers {
		w.last[id] = st.lastOffset
	}
	return w
}

// cleanPartition goes over what is due as far as the keys fit into the table. Where those of one batch alone do not, it
// goes over all before the batch as often as it takes, with a part of the batch's keys each time. Each time the batch loses
// those of its own records that later ones of it replace, and nothing else: only when all of its keys were noted, what was
// before its tombstones is gone, and their time begins.
func (c *cleaner) cleanPartition(p *partition, cfg *topicConfig, all bool) error {
	stop := func() bool { return c.stopping() || p.t.gone.Load() }
	var last *work
	for {
		w := p.due(cfg, c.s.aging.ms(), all || last != nil)
		if w == nil {
			return nil
		}
		keys := newKeyMap(w.records(), c.s.opt.CompactionMemory)
		if err := c.s.mapKeys(p, w, last, keys, stop); err != nil {
			return err
		}
		// What is replaced are the segments whose keys fitted, the last of them perhaps in part.
		n := 0
		for n < len(w.segs) && (w.segs[n].base < w.end || w.wide && w.segs[n].base <= w.end) {
			n++
		}
		w.segs, w.origin = w.segs[:n], w.origin[:n]
		if err := c.replace(p, w, keys, cfg, stop); err != nil || !w.wide {
			return err
		}
		last = w
	}
}

// replace writes the segments of w anew and puts what is left of them in their place.
func (c *cleaner) replace(p *partition, w *work, keys *keyMap, cfg *topicConfig, stop func() bool) error {
	out, err := c.s.rewrite(p, w, keys, cfg, stop)
	if err == nil {
		err = c.s.swap(p, w, out)
	}
	if err != nil {
		for _, o := range out {
			c.s.files.forget(o)
			// Left over, it is swept at the next start.
			_ = c.s.opt.FS.Remove(o.path(c.s.opt.Dir, p))
		}
		return err
	}
	for i := range w.segs {
		c.replaced += w.segs[i].size
	}
	if c.replaced < mostReplaced {
		return nil
	}
	return c.checkpoint()
}

// checkpoint makes what was compacted last, and what it replaced go.
func (c *cleaner) checkpoint() error {
	k := &c.s.keeper
	err := k.do(func() error { return k.checkpoint(k.replay) })
	if err == nil {
		c.replaced = 0
	}
	return err
}

// swap puts the new segments in the place of those they were made of. The old ones
// are removed once a checkpoint names the new.
func (s *Store) swap(p *partition, w *work, out []*segment) error {
	if err := s.opt.FS.SyncDir(filepath.Dir(w.origin[0].path(s.opt.Dir, p))); err != nil {
		if !shortage(err) {
			s.fail(err)
		}
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Retention may have dropped some from the head meanwhile, or the topic is gone.
	at := -1
	for i, sg := range p.segs {
		if sg == w.origin[0] {
			at = i
		}
	}
	if at < 0 || at+len(w.origin) > len(p.segs) || p.t.gone.Load() {
		return errStopped
	}
	for i, sg := range w.origin {
		if p.segs[at+i] != sg {
			return errStopped
		}
	}
	segs := append([]*segment(nil), p.segs[:at]...)
	segs = append(segs, out...)
	p.segs = append(segs, p.segs[at+len(w.origin):]...)
	p.swaps++
	// Nothing is left of aborted transactions that ended there.
	var aborted []abortedTxn
	for _, a := range p.aborted {
		if a.last >= w.end {
			aborted = append(aborted, a)
		}
	}
	p.aborted = aborted
	p.hints = nil
	// The log's tail in memory still has what was cleaned away.
	p.refs = slices.DeleteFunc(p.refs, func(r ref) bool { return r.base < w.end })
	s.keeper.dropped(p, w.origin)
	s.stats.compactions.Add(1)
	return nil
}
