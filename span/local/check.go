package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// Report is what [Check] found.
type Report struct {
	Name       string // of the cluster
	ID         string // of the directory
	Topics     int
	Partitions int
	Segments   int
	Batches    int64
	Bytes      int64 // of batches
	LogBytes   int64 // of the shared log that a start replays
	Problems   []Problem
}

// Problem is something that is not as it was written.
type Problem struct {
	File      string // below the data directory; "" if it concerns several
	Position  int64  // in the file, bytes; -1 unknown
	Topic     string // "" unknown
	Partition int32  // -1 unknown
	Offset    int64  // from which on, -1 unknown
	Detail    string
}

// look opens a directory for reading only. Nothing in it is changed but the
// lock file, which keeps an engine from starting meanwhile.
func look(fs vfs.FS, dir string) (*Store, error) {
	path := filepath.Join(dir, markerName)
	b, err := readFile(fs, path, maxMarker)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w: it holds no %s file", dir, ErrForeign, markerName)
	}
	if err != nil {
		return nil, err
	}
	m, err := parseMarker(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	o, err := Options{Dir: dir, Name: m.name, FS: fs, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		return nil, err
	}
	_, lock, err := enter(o)
	if err != nil {
		return nil, err
	}
	s := &Store{opt: o, id: m.id, lock: lock, inspect: true, number: 1,
		byName: map[string]*topic{}, byID: map[[16]byte]*topic{}, logs: map[logKey]*log{}, files: newFiles(fs, o.OpenFiles, 0), cold: newColdReads()}
	s.files.readOnly = true
	s.log = &wal{fs: fs, dir: filepath.Join(dir, walDir), id: m.id, fileSize: o.LogFileBytes, tail: newTail(o.MemoryBudget)}
	if err := s.recover(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), s.unlook())
	}
	return s, nil
}

func (s *Store) unlook() error {
	s.files.close()
	return errors.Join(s.log.close(), s.lock.Close())
}

// Check reads a data directory that no engine has open and compares every byte that
// counts with its checksums, and what the files say with each other.
// It changes nothing. An error means that the check could not be made; what it
// found is in the report.
func Check(dir string) (*Report, error) { return CheckFS(vfs.OS{}, dir) }

// CheckFS is Check on another file system.
func CheckFS(fs vfs.FS, dir string) (*Report, error) {
	s, err := look(fs, dir)
	if err != nil {
		return nil, err
	}
	r := &Report{Name: s.opt.Name, ID: s.ID(), LogBytes: s.log.liveBytes(s.log.replayed.Load())}
	for _, hole := range s.holes {
		r.Problems = append(r.Problems, Problem{Position: -1, Partition: -1, Offset: -1, Detail: hole.Error()})
	}
	topics := s.liveTopics()
	sort.Slice(topics, func(i, j int) bool { return topics[i].name < topics[j].name })
	for _, t := range topics {
		r.Topics++
		for _, p := range t.partitions() {
			r.Partitions++
			s.checkPartition(p, r)
		}
	}
	return r, s.unlook()
}

// checkPartition reads all that a partition has.
func (s *Store) checkPartition(p *partition, r *Report) {
	for _, f := range p.fenced {
		r.Problems = append(r.Problems, Problem{Position: -1, Topic: p.t.name, Partition: int32(p.n), Offset: f.from,
			Detail: fmt.Sprintf("offsets [%d, %d) are fenced off: %s", f.from, f.to, f.reason)})
	}
	next := int64(-1)
	for _, sg := range p.segs {
		r.Segments++
		path := sg.path(s.opt.Dir, p)
		rel, err := filepath.Rel(s.opt.Dir, path)
		if err != nil {
			rel = path
		}
		problem := func(pos, offset int64, format string, args ...any) {
			r.Problems = append(r.Problems, Problem{File: rel, Position: pos, Topic: p.t.name, Partition: int32(p.n), Offset: offset, Detail: fmt.Sprintf(format, args...)})
		}
		if next >= 0 && sg.base < next {
			problem(-1, sg.base, "segment begins at offset %d, the one before it ends at %d", sg.base, next)
		}
		next = sg.next
		err = s.walkSegment(p, sg, func(b stored) error {
			if b.err != nil {
				problem(b.pos, b.offset, "%v", b.err)
				return nil
			}
			r.Batches++
			r.Bytes += int64(len(b.raw))
			return nil
		})
		if err != nil {
			problem(-1, sg.base, "%v", err)
		}
		if err := s.checkIndex(p, sg); err != nil {
			problem(sg.size, sg.base, "%v", err)
		}
	}
	for i := range p.refs {
		ref := &p.refs[i]
		if ref.base < p.flushed {
			continue
		}
		buf, _, err := s.fetchLog(context.Background(), "", p, p.refs[i:i+1], int(ref.size))
		putBuffer(buf)
		if err != nil {
			r.Problems = append(r.Problems, Problem{File: walDir, Position: -1, Topic: p.t.name, Partition: int32(p.n), Offset: ref.base, Detail: err.Error()})
			continue
		}
		r.Batches++
		r.Bytes += int64(ref.size)
	}
}

// stored is a batch as it lies in a segment, or why there is none.
type stored struct {
	raw    []byte // valid during the call
	h      batch.Header
	pos    int64
	offset int64
	err    error
}

// walkSegment calls fn for every batch of a segment. Damage is told to fn; after a
// damaged header nothing more can be found in the segment.
func (s *Store) walkSegment(p *partition, sg *segment, fn func(stored) error) error {
	of, err := s.files.get(sg, sg.path(s.opt.Dir, p), false)
	if err != nil {
		return err
	}
	defer s.files.put(of)
	head := make([]byte, segHeaderSize)
	if _, err := of.f.ReadAt(head, 0); err != nil {
		return readError(0, err)
	}
	if err := parseSegHeader(head, s.id, p.t.number, p.n, sg.base); err != nil {
		if err := fn(stored{pos: 0, offset: sg.base, err: err}); err != nil {
			return err
		}
	}
	window := getBuffer(256 << 10)
	defer putBuffer(window)
	next := sg.base
	maxTS := batch.NoTimestamp
	pos := int64(segHeaderSize)
	err = scanHeaders(p, of.f, *window, pos, sg.size, func(h batch.Header, _ []byte, at int64) (bool, error) {
		pos = at
		b := stored{h: h, pos: at, offset: h.BaseOffset}
		buf := getBuffer(h.Size())
		defer putBuffer(buf)
		b.raw = *buf
		if _, err := of.f.ReadAt(b.raw, at); err != nil {
			return false, readError(at, err)
		}
		err := batch.Verify(b.raw)
		switch {
		case err != nil:
			b.err = fmt.Errorf("%w: %w", errDamaged, err)
		case !placed(p.t.number, p.n, b.raw):
			b.err = fmt.Errorf("%w: batch does not belong here", errDamaged)
		case h.BaseOffset < next || h.NextOffset() > sg.next || h.BaseOffset > max(next, p.start) && !sg.cleaned:
			b.err = fmt.Errorf("%w: batch holds offsets [%d, %d), expected from %d, below %d", errDamaged, h.BaseOffset, h.NextOffset(), next, sg.next)
		}
		next = h.NextOffset()
		maxTS = max(maxTS, recordTime(&h))
		return true, fn(b)
	})
	if err == nil && next < sg.next && !sg.cleaned {
		err = fmt.Errorf("%w: batches end at offset %d, expected %d", errDamaged, next, sg.next)
	}
	if errors.Is(err, errDamaged) {
		return fn(stored{pos: pos, offset: next, err: err})
	}
	if err != nil {
		return err
	}
	if maxTS != sg.maxTS && !sg.cleaned {
		return fn(stored{pos: pos, offset: sg.base, err: fmt.Errorf("%w: largest timestamp is %d, expected %d", errDamaged, maxTS, sg.maxTS)})
	}
	return nil
}

// checkIndex compares the index of a closed segment with its batches.
func (s *Store) checkIndex(p *partition, sg *segment) error {
	if !sg.closed {
		return nil
	}
	of, err := s.files.get(sg, sg.path(s.opt.Dir, p), false)
	if err != nil {
		return err
	}
	defer s.files.put(of)
	size, err := of.f.Size()
	if err != nil {
		return fmt.Errorf("%w: %w", span.ErrStorage, err)
	}
	if size < sg.size {
		return fmt.Errorf("%w: %d bytes are missing at its end", errDamaged, sg.size-size)
	}
	if size-sg.size > 64<<20 {
		return fmt.Errorf("%w: %d bytes behind the batches", errDamaged, size-sg.size)
	}
	b := make([]byte, size-sg.size)
	if _, err := of.f.ReadAt(b, sg.size); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", span.ErrStorage, err)
	}
	if _, err := parseIndex(b, sg.size); err != nil {
		return err
	}
	x := &segIndex{end: segHeaderSize}
	window := getBuffer(256 << 10)
	defer putBuffer(window)
	err = scanHeaders(p, of.f, *window, segHeaderSize, sg.size, func(h batch.Header, _ []byte, pos int64) (bool, error) {
		x.add(h.BaseOffset, pos, h.Size(), recordTime(&h))
		return true, nil
	})
	if err == nil && !bytes.Equal(x.encode(sg.next, sg.maxTS), b) {
		return fmt.Errorf("%w: index differs from the batches", errDamaged)
	}
	return nil // the batches were reported already
}

// Dumped is one batch of [Dump].
type Dumped struct {
	File     string // below the data directory
	Position int64  // in the file, -1 in the shared log
	Header   batch.Header
	Raw      []byte // the batch as clients see it, valid during the call; nil if damaged
	Problem  string // why it is not served
}

// Dump calls visit for every batch of a partition, in order of offsets, those of
// transactions that were aborted and of records below the log start included. The
// directory must not be in use; nothing in it is changed.
func Dump(dir, topicName string, partition int32, visit func(Dumped) error) error {
	return DumpFS(vfs.OS{}, dir, topicName, partition, visit)
}

// DumpFS is Dump on another file system.
func DumpFS(fs vfs.FS, dir, topicName string, partition int32, visit func(Dumped) error) (err error) {
	s, err := look(fs, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.unlook()) }()
	t := s.byName[topicName]
	if t == nil {
		return fmt.Errorf("%s has no topic %q: %w", dir, topicName, span.ErrGone)
	}
	if partition < 0 || int(partition) >= len(t.partitions()) {
		return fmt.Errorf("topic %q has no partition %d: %w", topicName, partition, span.ErrGone)
	}
	p := t.partitions()[partition]
	for _, sg := range p.segs {
		rel := filepath.Base(filepath.Dir(sg.path("", p)))
		rel = filepath.Join(dataDir, rel, filepath.Base(sg.path("", p)))
		var stop error
		err := s.walkSegment(p, sg, func(b stored) error {
			d := Dumped{File: rel, Position: b.pos, Header: b.h}
			if b.err != nil {
				d.Problem = b.err.Error()
			} else {
				batch.SetLeaderEpoch(b.raw, 0)
				d.Header.PartitionLeaderEpoch = 0
				d.Raw = b.raw
			}
			stop = visit(d)
			return stop
		})
		if stop == nil && err != nil {
			// What lies behind it may be whole.
			stop = visit(Dumped{File: rel, Position: -1, Header: batch.Header{BaseOffset: sg.base}, Problem: err.Error()})
		}
		if stop != nil {
			return stop
		}
	}
	for i := range p.refs {
		if p.refs[i].base < p.flushed {
			continue
		}
		d := Dumped{File: walDir, Position: -1}
		buf, b, err := s.fetchLog(context.Background(), "", p, p.refs[i:i+1], int(p.refs[i].size))
		if err != nil {
			d.Header.BaseOffset, d.Problem = p.refs[i].base, err.Error()
		} else if d.Header, _, err = batch.Parse(b); err == nil {
			d.Raw = b
		} else {
			d.Problem = err.Error()
		}
		err = visit(d)
		putBuffer(buf)
		if err != nil {
			return err
		}
	}
	if s.hollow {
		return visit(Dumped{File: walDir, Position: -1, Header: batch.Header{BaseOffset: p.next},
			Problem: "the log has lost bytes: nothing tells whether the partition ended here"})
	}
	return nil
}
