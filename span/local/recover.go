package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

const maxCheckpoint = 2 << 30

// Open opens a data directory, or makes one. It reads the last checkpoint and
// the shared log after it; what else is there is looked at when it is read.
func Open(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	id, lock, err := enter(o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt: o, id: id, lock: lock,
		byName: map[string]*topic{}, byID: map[[16]byte]*topic{}, logs: map[logKey]*log{},
		number: 1,
		wake:   make(chan struct{}, 1),
		hurry:  make(chan struct{}, 1),
		groups: make(chan *group, groupsAhead),
		synced: make(chan struct{}), done: make(chan struct{}),
		files: newFiles(o.FS, o.OpenFiles, o.MemoryBudget), cold: newColdReads(),
	}
	if st, err := o.FS.Stat(filepath.Join(o.Dir, lockName)); err == nil {
		s.locked = named{filepath.Join(o.Dir, lockName), st.Node}
	}
	s.log = &wal{fs: o.FS, dir: filepath.Join(o.Dir, walDir), id: id, fileSize: o.LogFileBytes, tail: newTail(o.MemoryBudget)}
	s.proof = proof{files: o.FS, name: filepath.Join(o.Dir, proofName), dir: id}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", o.Dir, err), s.proof.close(), s.log.close(), lock.Close())
	}
	s.aging.start(s, s.newestTime())
	s.clock()
	s.group = groupPool.Get().(*group)
	go s.sequence()
	go s.syncing()
	s.keeper.start(s)
	s.cleaner.start(s)
	return s, nil
}

// recover brings the state to what the disk says.
func (s *Store) recover() error {
	st := &state{dir: s.id, replay: firstLSN, number: 1}
	b, err := readFile(s.opt.FS, filepath.Join(s.opt.Dir, checkpointName), maxCheckpoint)
	saved := err == nil
	switch {
	case err == nil:
		if st, err = parseCheckpoint(b); err != nil {
			return fmt.Errorf("%s: %w", checkpointName, err)
		}
		if st.dir != s.id {
			return fmt.Errorf("%s is of another directory: %w", checkpointName, ErrForeign)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	s.number, s.aging.saved = st.number, st.clock
	proved, err := s.proved()
	if err != nil {
		return fmt.Errorf("%s: %w", proofName, err)
	}
	r := &replay{s: s, byNumber: map[uint32]*topic{}, durable: max(st.durable, st.replay, proved), clean: st.durable,
		number: st.number, orphans: map[uint32]int{}}
	for _, t := range st.topics {
		s.byName[t.name], s.byID[t.id] = t, t
		r.byNumber[t.number] = t
	}
	for _, dir := range []string{walDir, dataDir} {
		if err := s.noLink(filepath.Join(s.opt.Dir, dir)); err != nil {
			return err
		}
	}
	if !s.inspect {
		for _, dir := range []string{walDir, dataDir} {
			if err := s.opt.FS.MkdirAll(filepath.Join(s.opt.Dir, dir)); err != nil {
				return err
			}
		}
		if err := s.opt.FS.SyncDir(s.opt.Dir); err != nil {
			return err
		}
	}
	if err := r.openFiles(); err != nil {
		return err
	}
	if !saved {
		if fresh, err := r.neverSaved(); err != nil || !fresh {
			return errors.Join(err, errNoCheckpoint)
		}
	}
	end, err := r.run(st.replay)
	if err != nil {
		return err
	}
	for _, b := range r.broken {
		if b.lsn >= end && b.lsn < end+uint64(s.opt.LogFileBytes) {
			s.damagedLog(fmt.Errorf("%w: both headers of %s are damaged", errHole, b.f.name))
		}
	}
	if err := s.readEnded(); err != nil {
		return err
	}
	if s.failure() == nil && !s.inspect {
		if err := r.settle(end); err != nil {
			return err
		}
		s.proof.lsn.Store(end)
		if err := s.proof.start(end); err != nil && !passes(err) {
			return fmt.Errorf("%s: %w", proofName, err)
		}
	}
	s.log.next.Store(end)
	s.log.durable.Store(end)
	s.log.committed.Store(end)
	s.log.replayed.Store(st.replay)
	s.log.tail.first.Store(end)
	s.stats.began = end
	s.keeper.replay, s.keeper.flushed = st.replay, st.replay
	return r.finish(end)
}

// openFiles opens all files of the log and sorts them by their first frame. A file
// without a valid header was made and never used.
func (r *replay) openFiles() error {
	w := r.s.log
	names, err := w.fs.List(w.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		var slot int
		if c, err := fmt.Sscanf(n, "%06d.log", &slot); c != 1 || err != nil || !strings.HasSuffix(n, ".log") {
			continue
		}
		name := filepath.Join(w.dir, n)
		st, err := w.fs.Stat(name)
		if err != nil {
			return err
		}
		if st.Dir || st.Symlink {
			return fmt.Errorf("%s is not a file: %w", name, ErrForeign)
		}
		openFile := w.fs.OpenWrite
		if r.s.inspect {
			openFile = w.fs.Open
		}
		f, err := openFile(name)
		if err != nil {
			return err
		}
		w.slots = max(w.slots, slot)
		wf := &walFile{f: f, name: name, node: st.Node}
		r.files = append(r.files, wf)
		r.sizes = append(r.sizes, st.Size)
		if err := r.header(wf, st.Size); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	order := make([]int, len(r.files))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(i, j int) bool { return r.files[order[i]].lsn < r.files[order[j]].lsn })
	files, sizes := make([]*walFile, len(order)), make([]int64, len(order))
	for i, j := range order {
		files[i], sizes[i] = r.files[j], r.sizes[j]
	}
	r.files, r.sizes = files, sizes
	return nil
}

// header reads the header of a log file, or its copy. Without one the file was
// never used, unless both were there and are damaged.
func (r *replay) header(wf *walFile, size int64) error {
	b := make([]byte, walHeaderSize+frameHeaderSize)
	if size < int64(len(b)) {
		return nil
	}
	if _, err := wf.f.ReadAt(b, 0); err != nil {
		return fmt.Errorf("%w: %w", span.ErrStorage, err)
	}
	var err, newer error
	for _, at := range []int{0, walHeaderCopy} {
		if wf.lsn, wf.salt, err = parseWalHeader(b[at:at+walHeaderUsed], r.s.id); err == nil {
			return nil
		}
		if errors.Is(err, ErrForeign) {
			return err
		}
		if errors.Is(err, errNewer) {
			newer = err // or a damaged version, where the copy is whole
		}
	}
	if newer != nil {
		return newer
	}
	for _, c := range b[:walHeaderSize] {
		if c != 0 {
			// Its frames cannot be told apart without the salt. Where the first stands
			// tells whether they would be needed.
			wf.lsn = 0
			r.broken = append(r.broken, brokenFile{wf, binary.BigEndian.Uint64(b[walHeaderSize+atFrameLSN:])})
			return nil
		}
	}
	return nil
}

// brokenFile is a file whose header is damaged, with the LSN that its first frame claims.
type brokenFile struct {
	f   *walFile
	lsn uint64
}

// finish sorts the files: those with frames that are still needed, those to use
// again, and those behind a torn tail, which must never be read again.
func (r *replay) finish(end uint64) error {
	w := r.s.log
	removed := false
	for i, f := range r.files {
		switch {
		case !r.live[f] && (r.s.failure() != nil || r.s.inspect):
			// Whatever it is, it may be what is missing.
			if err := f.f.Close(); err != nil {
				return err
			}
		case r.live[f]:
			if f.end.Load() == 0 {
				f.end.Store(end)
			}
			w.live = append(w.live, f)
		case f.lsn < r.first && r.sizes[i] == w.fileSize:
			w.free = append(w.free, f)
		default:
			removed = true
			if err := errors.Join(f.f.Close(), w.fs.Remove(f.name)); err != nil {
				return err
			}
		}
	}
	if removed {
		if err := w.fs.SyncDir(w.dir); err != nil {
			return err
		}
	}
	for _, number := range slices.Sorted(maps.Keys(r.orphans)) {
		r.s.lost(fmt.Errorf("%w: the creation of topic number %d is lost, and %d records of the log are nobody's", errHole, number, r.orphans[number]))
	}
	for _, t := range r.byNumber {
		for _, p := range t.partitions() {
			want := p.flushed
			if n := len(p.refs); n > 0 {
				want = p.refs[n-1].next()
			}
			if want < p.next {
				r.gap(p, want, p.next)
			}
			p.hw = p.next
			p.done = nil
			if p.flushed < p.next {
				p.unflushed = true
				r.s.unflushed.Add(1)
			}
		}
	}
	return nil
}

// apply brings one frame into the state. Frames from before the checkpoint may
// come again: each of them is put up with.
func (r *replay) apply(f *frame, payload []byte) error {
	s := r.s
	s.ms = max(s.ms, f.Time)
	t := r.byNumber[f.Topic]
	switch f.Kind {
	case kindMark:
		return nil
	case kindCreate:
		rec, err := parseTopicRecord(payload)
		if err != nil {
			return err
		}
		s.number = max(s.number, f.Topic+1)
		if t != nil {
			return nil
		}
		cfg, err := parseConfig(rec.config)
		if err != nil {
			return err
		}
		t = newTopic(f.Topic, rec.name, rec.id, rec.partitions, rec.config, cfg)
		// It may be there again under another number, created later than a deletion
		// that the checkpoint knew.
		if s.byName[t.name] == nil {
			s.byName[t.name], s.byID[t.id] = t, t
			r.byNumber[f.Topic] = t
		}
		return nil
	}
	if t == nil {
		r.orphan(f)
		return nil
	}
	switch f.Kind {
	case kindGrow:
		t.grow(int32(min(f.Partition, maxPartitions)))
	case kindConfig:
		rec, err := parseTopicRecord(payload)
		if err != nil {
			return err
		}
		cfg, err := parseConfig(rec.config)
		if err != nil {
			return err
		}
		t.raw.Store(&rec.config)
		t.cfg.Store(cfg)
	case kindDelete:
		s.remove(t)
		delete(r.byNumber, f.Topic)
		s.keeper.topics = append(s.keeper.topics, t.number)
	case kindSeal:
		t.sealed.Store(true)
	case kindUnseal: // of an older release
		t.sealed.Store(false)
	case kindTrim, kindBatch:
		parts := t.partitions()
		if int(f.Partition) >= len(parts) {
			if !r.holed || f.Partition >= maxPartitions {
				return fmt.Errorf("%w: frame of partition %d, topic has %d", errDamaged, f.Partition, len(parts))
			}
			// The frame that added it is among what is lost.
			t.grow(int32(f.Partition) + 1)
			parts = t.partitions()
			r.s.lost(fmt.Errorf("%w: when topic %q got its partition %d is lost, it may have had more", errHole, t.name, f.Partition))
		}
		p := parts[f.Partition]
		if f.Kind == kindTrim {
			if gone := p.trim(f.Offset); len(gone) > 0 {
				s.keeper.trash = append(s.keeper.trash, dropped{p, gone})
			}
			return nil
		}
		return r.applyBatch(p, f, payload)
	}
	return nil
}

// orphan notes a frame of a topic that is unknown. It was deleted before the checkpoint, or behind a hole it is one
// whose creation is lost.
func (r *replay) orphan(f *frame) {
	switch {
	case !r.holed || f.Topic < r.number:
	case f.Kind == kindDelete:
		delete(r.orphans, f.Topic)
	default:
		r.orphans[f.Topic]++
	}
}

// missing is err, which tells that a topic or a partition is not there; where the log has lost something nobody
// knows whether it was created there, with all that it holds, and it must not be given up for one that was deleted.
func (s *Store) missing(err error) error {
	if f := s.failure(); errors.Is(f, errHole) {
		return f
	}
	return err
}

// applyBatch brings back one append.
func (r *replay) applyBatch(p *partition, f *frame, b []byte) error {
	h, size, err := batch.Parse(b)
	if err != nil || size != len(b) || h.BaseOffset != f.Offset || h.CRC != f.BatchCRC || !placed(f.Topic, f.Partition, b) {
		return fmt.Errorf("%w: batch at offset %d does not fit its frame", errDamaged, f.Offset)
	}
	if h.BaseOffset < p.flushed {
		return nil
	}
	at := ref{base: h.BaseOffset, lsn: f.LSN + frameHeaderSize, maxTS: recordTime(&h), delta: uint32(h.LastOffsetDelta), size: uint32(size)}
	want := p.flushed
	if n := len(p.refs); n > 0 {
		want = p.refs[n-1].next()
	}
	if h.BaseOffset > want {
		r.gap(p, want, h.BaseOffset)
	}
	if p.since == 0 {
		p.since = f.Time
	}
	if h.BaseOffset < p.next {
		p.refs = append(p.refs, at)
		return nil
	}
	var m *batch.Marker
	if h.IsControl() {
		marker, err := batch.ParseMarker(b)
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		m = &marker
	}
	p.refs = append(p.refs, at)
	p.next = h.NextOffset()
	p.remember(&h, m, f.Time)
	return nil
}

// gap fences offsets whose frames the log has lost.
func (r *replay) gap(p *partition, from, to int64) {
	p.fenced = append(p.fenced, fence{from: from, to: to, reason: "the shared log is damaged there"})
	if r.s.inspect {
		r.s.holes = append(r.s.holes, fmt.Errorf("topic %q, partition %d: offsets [%d, %d) are lost: %w", p.t.name, p.n, from, to, errHole))
		return
	}
	r.s.opt.Logger.Error("offsets are fenced off, the shared log is damaged", "cluster", r.s.opt.Name,
		"topic", p.t.name, "partition", p.n, "from", from, "to", to)
}

// lost reports what a hole in the log has taken besides offsets.
func (s *Store) lost(err error) {
	if s.inspect {
		s.holes = append(s.holes, err)
		return
	}
	s.opt.Logger.Error("something is not served, the shared log is damaged", "cluster", s.opt.Name, "error", err)
}

// damagedLog makes the store read-only since synced bytes of the log are gone.
func (s *Store) damagedLog(err error) {
	if s.inspect {
		s.holes = append(s.holes, fmt.Errorf("%w; the last records of any partition may be missing", err))
		s.hollow = true
		return
	}
	s.ends(err)
}

var errHole = fmt.Errorf("shared log is damaged: %w", span.ErrStorage)
