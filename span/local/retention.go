package local

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// retain trims partitions whose records have aged or grown past their topics'
// retention, a whole segment at a time, and forgets producers that were idle
// for too long.
func (k *keeper) retain() error {
	s := k.s
	if s.failure() != nil {
		return nil
	}
	if s.aging.doubted() {
		if err := s.do(s.believe); err != nil {
			return err
		}
		s.aging.recorded = max(s.aging.recorded, 0) // the leap is to be in a checkpoint
		// Frames of before the leap would tell the next start how old what they hold is.
		if err := k.flush(0); err != nil {
			return err
		}
	}
	if s.aging.unrecorded() {
		if err := k.checkpoint(k.replay); err != nil {
			return err
		}
	}
	now := s.aging.ms()
	var due []*partition
	for _, t := range s.liveTopics() {
		cfg := t.cfg.Load()
		for _, p := range t.partitions() {
			p.forget(now - s.opt.ProducerExpiry.Milliseconds())
			if p.expire(cfg, now) < 0 {
				continue
			}
			if due = append(due, p); len(due) == trimsAtOnce {
				if err := s.trimAged(due, now); err != nil {
					return err
				}
				due = due[:0]
			}
		}
	}
	if err := s.trimAged(due, now); err != nil {
		return err
	}
	return k.flushAged(now)
}

// trimsAtOnce is how many partitions are trimmed with one sync of the log.
const trimsAtOnce = 64

// trimAged trims what has aged of the partitions given.
func (s *Store) trimAged(due []*partition, now int64) error {
	if len(due) == 0 {
		return nil
	}
	return s.do(func() error {
		for _, p := range due {
			// Anew, in the order of the log: who has asked for a longer retention since, and got it, is to
			// have it.
			start := p.expire(p.t.cfg.Load(), now)
			if start < 0 || p.t.gone.Load() {
				continue
			}
			if err := s.trim(p, start); err != nil {
				return err
			}
		}
		return nil
	})
}

// expire returns the log start that retention asks for, -1 if it is fine as it is. What is in no segment yet goes by the
// piece that would be one.
func (p *partition) expire(cfg *topicConfig, now int64) int64 {
	if !cfg.deletes {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var total int64
	for _, sg := range p.segs {
		total += sg.size - segHeaderSize
	}
	waiting := p.refs[p.refAt(max(p.flushed, p.start)):]
	for i := range waiting {
		total += int64(waiting[i].size)
	}
	// As Apache Kafka: a segment goes when what is left without it is still enough.
	tooMuch := func(size int64) bool { return cfg.retentionBytes >= 0 && total-size >= cfg.retentionBytes }
	tooOld := func(newest int64) bool { return cfg.retentionMs >= 0 && newest < now-cfg.retentionMs }
	start := int64(-1)
	all := true
	for _, sg := range p.segs {
		// Without any record's time it is the file's that counts, as with Apache Kafka.
		newest := sg.maxTS
		if newest < 0 {
			newest = sg.first
		}
		size := sg.size - segHeaderSize
		if !tooOld(newest) && !tooMuch(size) {
			all = false
			break
		}
		total -= size
		start = sg.next
	}
	for i := 0; all && i < len(waiting) && waiting[i].next() <= p.hw; {
		n, size, newest, timeless := piece(waiting[i:], cfg)
		last := waiting[i+n-1].next()
		i += n
		// The last piece is what would be the segment that is written to: it goes when it has aged.
		switch {
		case last <= p.hw && !timeless && tooOld(newest), i < len(waiting) && last <= p.hw && tooMuch(size):
			total -= size
			start = last
		default:
			all = false
		}
	}
	// Readers of committed records need what an open transaction began with.
	start = min(start, p.lastStable())
	if start <= p.start {
		return -1
	}
	return start
}

// forget drops producers that were not heard of since the time given, in ms. One
// with an open transaction is kept: its marker is still to come.
func (p *partition) forget(since int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, st := range p.producers {
		if st.lastTime < since && st.txnStart < 0 {
			delete(p.producers, id)
		}
	}
}

func (s *Store) expired(st *producer, now int64) bool {
	return st.txnStart < 0 && st.lastTime < now-s.opt.ProducerExpiry.Milliseconds()
}

// sweep removes segment files that nothing knows: what was written before a crash
// and is not in the checkpoint, or was to be removed.
func (k *keeper) sweep() error {
	s := k.s
	if s.failure() != nil {
		return nil // what seems left over may be what somebody needs to repair it
	}
	root := filepath.Join(s.opt.Dir, dataDir)
	names, err := s.opt.FS.List(root)
	if err != nil {
		return err
	}
	byNumber := map[string]*topic{}
	for _, t := range s.liveTopics() {
		byNumber[strconv.FormatUint(uint64(t.number), 10)] = t
	}
	s.mu.RLock()
	limit := s.number
	s.mu.RUnlock()
	for _, n := range names {
		number, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			continue // not ours: left alone
		}
		dir := filepath.Join(root, n)
		if err := s.noLink(dir); err != nil {
			return err
		}
		t := byNumber[n]
		if t == nil {
			if uint32(number) < limit {
				if err := s.opt.FS.RemoveAll(dir); err != nil {
					return err
				}
			}
			continue
		}
		if err := k.sweepTopic(t, dir); err != nil {
			return err
		}
	}
	return nil
}

func (k *keeper) sweepTopic(t *topic, dir string) error {
	known := map[string]bool{}
	for _, p := range t.partitions() {
		p.mu.Lock()
		for _, sg := range p.segs {
			known[filepath.Base(sg.path(k.s.opt.Dir, p))] = true
		}
		p.mu.Unlock()
	}
	k.mu.Lock()
	for _, d := range k.trash {
		for _, sg := range d.segs {
			known[filepath.Base(sg.path(k.s.opt.Dir, d.p))] = true
		}
	}
	k.mu.Unlock()
	names, err := k.s.opt.FS.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if known[n] || !strings.HasSuffix(n, ".seg") {
			continue
		}
		if err := k.s.opt.FS.Remove(filepath.Join(dir, n)); err != nil {
			return fmt.Errorf("remove a left-over segment: %w", err)
		}
	}
	return nil
}
