package local

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"sort"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// The checkpoint names everything outside the shared log: topics, segments,
// producers' state. The log is replayed over it from an LSN that it holds.
const (
	checkpointName    = "checkpoint"
	checkpointMagic   = "braidckp"
	checkpointVersion = 2
	plainCheckpoint   = 1 // written where a reader of version 1 would miss nothing
	checkpointHeader  = 16
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// checkpoint writes a checkpoint from which the log is replayed from LSN replay,
// below which nothing is needed any more.
func (k *keeper) checkpoint(replay uint64) error {
	s := k.s
	trash := k.takeDropped()
	d := s.aging.doubt()
	b := s.encodeCheckpoint(replay, 0, d)
	// The state may be ahead of what is durable. It must not be found after a crash
	// that lost the log which made it so.
	err := s.barrier()
	if err == nil {
		err = s.writeCheckpoint(b)
	}
	if err != nil {
		k.mu.Lock()
		k.trash = append(trash, k.trash...)
		k.mu.Unlock()
		return err
	}
	k.replay, s.aging.recorded = replay, d.recorded()
	s.log.replayed.Store(max(replay, k.flushed))
	if err := s.log.release(replay); err != nil {
		return err
	}
	return k.removeDropped(trash)
}

// lastCheckpoint is that of Close: everything is durable, nobody writes.
func (s *Store) lastCheckpoint() error {
	if s.failure() != nil {
		return nil
	}
	k := &s.keeper
	trash := k.takeDropped()
	err := s.writeCheckpoint(s.encodeCheckpoint(k.replay, s.log.next.Load(), s.aging.doubt()))
	if err != nil {
		return fmt.Errorf("last checkpoint: %w", err)
	}
	return errors.Join(k.removeDropped(trash), k.removeTopics())
}

func (s *Store) writeCheckpoint(b []byte) error {
	fs, dir := s.opt.FS, s.opt.Dir
	tmp, name := filepath.Join(dir, checkpointName+".tmp"), filepath.Join(dir, checkpointName)
	f, err := fs.Create(tmp)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		if err = fs.Rename(tmp, name); err == nil {
			err = fs.SyncDir(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.stats.checkpoints.Add(1)
	s.stats.checkpointBytes.Add(int64(len(b)))
	return nil
}

// encodeCheckpoint takes a consistent picture of each partition, one by one: the
// replay puts up with partitions that are ahead of it.
func (s *Store) encodeCheckpoint(replay, durable uint64, clock doubt) []byte {
	s.mu.RLock()
	topics := make([]*topic, 0, len(s.byID))
	for _, t := range s.byID {
		topics = append(topics, t)
	}
	number := s.number
	s.mu.RUnlock()
	sort.Slice(topics, func(i, j int) bool { return topics[i].number < topics[j].number })
	b := make([]byte, checkpointHeader, 4096+len(topics)*64)
	copy(b, checkpointMagic)
	version := uint16(plainCheckpoint)
	if clock.spent > 0 {
		version = checkpointVersion
	}
	binary.BigEndian.PutUint16(b[8:], version)
	b = append(b, s.id[:]...)
	b = binary.AppendUvarint(b, replay)
	b = binary.AppendUvarint(b, durable)
	b = binary.AppendUvarint(b, uint64(number))
	b = binary.AppendUvarint(b, uint64(len(topics)))
	for _, t := range topics {
		b = binary.AppendUvarint(b, uint64(t.number))
		b = append(b, t.id[:]...)
		b = appendString(b, t.name)
		b = appendFlag(b, t.sealed.Load())
		b = appendConfig(b, *t.raw.Load())
		parts := t.partitions()
		b = binary.AppendUvarint(b, uint64(len(parts)))
		for _, p := range parts {
			b = p.encode(b)
		}
	}
	if version > plainCheckpoint {
		b = binary.AppendUvarint(b, uint64(clock.spent.Milliseconds()))
		b = binary.AppendVarint(b, clock.at)
		b = binary.AppendVarint(b, clock.ahead)
	}
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

func appendFlag(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func (p *partition) encode(b []byte) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == 0 && p.start == 0 && len(p.producers) == 0 {
		return append(b, 0)
	}
	b = append(b, 1)
	b = binary.AppendVarint(b, p.start)
	b = binary.AppendVarint(b, p.flushed)
	b = binary.AppendVarint(b, p.next)
	b = binary.AppendVarint(b, p.lastTime)
	b = binary.AppendUvarint(b, uint64(len(p.segs)))
	for _, sg := range p.segs {
		b = binary.AppendVarint(b, sg.base)
		b = binary.AppendUvarint(b, uint64(sg.gen))
		b = binary.AppendVarint(b, sg.size)
		b = binary.AppendVarint(b, sg.next)
		b = binary.AppendVarint(b, sg.maxTS)
		b = binary.AppendVarint(b, sg.first)
		b = appendFlag(b, sg.closed)
		b = appendFlag(b, sg.cleaned)
	}
	b = binary.AppendUvarint(b, uint64(len(p.producers)))
	for _, st := range p.producers {
		b = st.encode(b)
	}
	b = binary.AppendUvarint(b, uint64(len(p.aborted)))
	for _, a := range p.aborted {
		b = binary.AppendVarint(b, a.producer)
		b = binary.AppendVarint(b, a.first)
		b = binary.AppendVarint(b, a.last)
	}
	b = binary.AppendUvarint(b, uint64(len(p.fenced)))
	for _, f := range p.fenced {
		b = binary.AppendVarint(b, f.from)
		b = binary.AppendVarint(b, f.to)
		b = appendString(b, f.reason)
	}
	return b
}

func (st *producer) encode(b []byte) []byte {
	b = binary.AppendVarint(b, st.id)
	b = binary.AppendVarint(b, int64(st.epoch))
	b = binary.AppendVarint(b, int64(st.coordEpoch))
	b = binary.AppendVarint(b, st.txnStart)
	b = binary.AppendVarint(b, st.lastTime)
	b = binary.AppendVarint(b, st.lastOffset)
	b = binary.AppendVarint(b, st.lastTS)
	b = binary.AppendUvarint(b, uint64(st.n))
	for i := range st.batches[:st.n] {
		pb := &st.batches[i]
		b = binary.AppendVarint(b, int64(pb.FirstSequence))
		b = binary.AppendVarint(b, int64(pb.LastSequence))
		b = binary.AppendVarint(b, pb.FirstOffset)
		b = binary.AppendVarint(b, pb.LastOffset)
		b = binary.AppendVarint(b, pb.Timestamp)
	}
	return b
}

// state is a decoded checkpoint.
type state struct {
	dir             [16]byte
	replay, durable uint64
	number          uint32
	topics          []*topic
	clock           doubt
}

// parseCheckpoint decodes a checkpoint. The smallest encoding of each item
// bounds what is allocated.
func parseCheckpoint(b []byte) (*state, error) {
	if len(b) < checkpointHeader+4 || string(b[:8]) != checkpointMagic {
		return nil, fmt.Errorf("%w: no checkpoint", errDamaged)
	}
	version := binary.BigEndian.Uint16(b[8:])
	if version > checkpointVersion {
		return nil, fmt.Errorf("checkpoint format %d: %w", version, errNewer)
	}
	body, crc := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if checksum(body) != crc {
		return nil, fmt.Errorf("%w: checkpoint has a wrong checksum", errDamaged)
	}
	d := decoder{b: body[checkpointHeader:]}
	st := new(state)
	d.bytes(st.dir[:])
	st.replay, st.durable = d.uvarint(), d.uvarint()
	st.number = uint32(d.count(1<<32 - 1))
	n := d.items(20)
	for range n {
		number := uint32(d.count(1<<32 - 1))
		var id [16]byte
		d.bytes(id[:])
		name := d.string(maxNameLength)
		sealed := d.flag()
		raw := d.config()
		parts := d.count(min(maxPartitions, uint64(len(d.b))))
		if d.bad != nil {
			break
		}
		cfg, err := parseConfig(raw)
		if err != nil {
			return nil, fmt.Errorf("checkpoint: topic %q: %w", name, err)
		}
		t := newTopic(number, name, id, int32(parts), raw, cfg)
		t.sealed.Store(sealed)
		for _, p := range t.partitions() {
			p.decode(&d)
		}
		st.topics = append(st.topics, t)
	}
	if version > plainCheckpoint {
		st.clock = doubt{spent: time.Duration(d.count(uint64(clockDoubt.Milliseconds()))) * time.Millisecond, at: d.varint(), ahead: d.varint()}
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w: checkpoint: %w", errDamaged, err)
	}
	return st, nil
}

func (p *partition) decode(d *decoder) {
	if !d.flag() {
		return
	}
	p.start, p.flushed, p.next, p.lastTime = d.varint(), d.varint(), d.varint(), d.varint()
	for range d.items(8) {
		sg := &segment{base: d.varint(), gen: uint32(d.count(1<<32 - 1)), size: d.varint(), next: d.varint(),
			maxTS: d.varint(), first: d.varint(), closed: d.flag(), cleaned: d.flag()}
		p.segs = append(p.segs, sg)
	}
	for range d.items(8) {
		st := &producer{id: d.varint(), epoch: int16(d.varint()), coordEpoch: int32(d.varint()), txnStart: d.varint(),
			lastTime: d.varint(), lastOffset: d.varint(), lastTS: d.varint(), n: uint8(d.count(keptBatches))}
		for i := range st.batches[:st.n] {
			st.batches[i] = span.ProducedBatch{FirstSequence: int32(d.varint()), LastSequence: int32(d.varint()),
				FirstOffset: d.varint(), LastOffset: d.varint(), Timestamp: d.varint()}
		}
		if d.bad != nil {
			return
		}
		if p.producers == nil {
			p.producers = make(map[int64]*producer)
		}
		p.producers[st.id] = st
		if st.txnStart >= 0 {
			p.open = append(p.open, openTxn{start: st.txnStart, producer: st.id})
		}
	}
	sort.Slice(p.open, func(i, j int) bool { return p.open[i].start < p.open[j].start })
	for range d.items(3) {
		p.aborted = append(p.aborted, abortedTxn{producer: d.varint(), first: d.varint(), last: d.varint()})
	}
	for range d.items(3) {
		p.fenced = append(p.fenced, fence{from: d.varint(), to: d.varint(), reason: d.string(4096)})
	}
	p.hw = p.next
}

// readFile reads a whole file of at most limit bytes.
func readFile(fs vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > limit {
		err = fmt.Errorf("%s has %d bytes, at most %d", name, size, limit)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, size)
	_, err = io.ReadFull(io.NewSectionReader(f, 0, size), b)
	return b, errors.Join(err, f.Close())
}
