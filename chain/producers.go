package chain

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// ProducerExpiry is how long an idle producer is remembered, Kafka's default of
// producer.id.expiration.ms.
const ProducerExpiry = 24 * time.Hour

// rememberedBatches is how many batches of a producer are remembered, as a
// broker does: a client has at most five in flight.
const rememberedBatches = 5

// ErrPastEnd: the state read from a sealed copy covers records past its end, so
// it was read too early or of the wrong log.
var ErrPastEnd = errors.New("producers' state goes past the end of the span")

// ProducerState is what a sealed chain knows of one producer id. Offsets are logical.
type ProducerState struct {
	ID           int64
	Epoch        int16
	LastSequence int32 // -1: none of this epoch
	LastOffset   int64 // of that record; -1 unknown
	Timestamp    int64 // of its last batch, ms
	Seen         int64 // when a seal last found it on the open copy, ms
	// Jump: records of it may have been lost, so its next batch may begin
	// further on than its last sequence says.
	Jump    bool
	Batches []span.ProducedBatch // last ones that are known, at most five, oldest first
}

// FindProducer finds a producer in a state sorted by id, nil if it is not there.
func FindProducer(state []ProducerState, id int64) *ProducerState {
	i := sort.Search(len(state), func(i int) bool { return state[i].ID >= id })
	if i < len(state) && state[i].ID == id {
		return &state[i]
	}
	return nil
}

// Merge says how [MergeProducers] combines two states.
type Merge struct {
	// Copy maps the physical offsets of the fresh state.
	Copy *catalog.Copy
	// End is the logical end of the span that was sealed; fresh state past it is [ErrPastEnd].
	End int64
	// Now is the time of the seal; producers idle for longer than Expiry (0:
	// [ProducerExpiry]) before it are forgotten.
	Now    time.Time
	Expiry time.Duration
	// Lossy: records may have been acknowledged that neither state knows.
	Lossy bool
}

// MergeProducers makes the state at a seal out of that at the seal before and
// what the sealed copy's log remembers. The result is sorted by id and shares
// nothing with its inputs.
func MergeProducers(before []ProducerState, fresh []span.Producer, m Merge) ([]ProducerState, error) {
	if m.Expiry == 0 {
		m.Expiry = ProducerExpiry
	}
	now := m.Now.UnixMilli()
	byID := make(map[int64]ProducerState, len(before)+len(fresh))
	for _, p := range before {
		if now-p.Seen > m.Expiry.Milliseconds() {
			continue
		}
		p.Batches = slices.Clone(p.Batches)
		byID[p.ID] = p
	}
	for i := range fresh {
		f, err := logicalProducer(&fresh[i], &m)
		if err != nil {
			return nil, err
		}
		f.Seen = now
		if old, ok := byID[f.ID]; ok {
			f = laterState(old, f)
		}
		byID[f.ID] = f
	}
	out := make([]ProducerState, 0, len(byID))
	for _, p := range byID {
		p.Jump = p.Jump || m.Lossy
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b ProducerState) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// laterState joins what was known of a producer with what its last span knows.
func laterState(old, fresh ProducerState) ProducerState {
	switch {
	case fresh.Epoch < old.Epoch:
		// The copy can only have taken it from before a newer epoch was placed.
		old.Seen = fresh.Seen
		return old
	case fresh.Epoch > old.Epoch:
		return fresh
	}
	if fresh.LastSequence == batch.NoSequence {
		old.Seen = fresh.Seen
		return old
	}
	all := append(old.Batches, fresh.Batches...)
	fresh.Batches = all[max(0, len(all)-rememberedBatches):]
	return fresh
}

func logicalProducer(f *span.Producer, m *Merge) (ProducerState, error) {
	p := ProducerState{ID: f.ID, Epoch: f.Epoch, LastSequence: f.LastSequence, LastOffset: -1, Timestamp: f.LastTimestamp}
	check := func(physical int64) (int64, error) {
		l := ToLogical(m.Copy, physical)
		if l >= m.End {
			return 0, fmt.Errorf("%w: producer %d at %d, the end is %d", ErrPastEnd, f.ID, l, m.End)
		}
		return l, nil
	}
	var err error
	if f.LastOffset >= 0 {
		if p.LastOffset, err = check(f.LastOffset); err != nil {
			return p, err
		}
	}
	bs := f.Batches[max(0, len(f.Batches)-rememberedBatches):]
	for _, b := range bs {
		if b.FirstOffset, err = check(b.FirstOffset); err != nil {
			return p, err
		}
		if b.LastOffset, err = check(b.LastOffset); err != nil {
			return p, err
		}
		p.Batches = append(p.Batches, b)
	}
	return p, nil
}

// The stored form of a state, all integers varints (signed ones zigzag):
//
//	version  byte, 1
//	count    number of producers
//	each: id less the one before - 1 (the first: zigzag), epoch zigzag, flags byte (1: jump; bits 4-6: number
//	      of batches), last sequence zigzag, last offset zigzag, timestamp zigzag, seen zigzag, batches
//	batch:   first sequence, records - 1, first offset zigzag, offsets - 1, timestamp zigzag
//	crc32c   4 bytes, big-endian, of all before
const (
	stateVersion = 1
	flagJump     = 1
	minProducer  = 7 // bytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeProducers gives the stored form of a state, which must be sorted by id;
// nil for an empty one.
func EncodeProducers(state []ProducerState) []byte {
	if len(state) == 0 {
		return nil
	}
	b := make([]byte, 0, 16+len(state)*48)
	b = append(b, stateVersion)
	b = binary.AppendUvarint(b, uint64(len(state)))
	for i := range state {
		p := &state[i]
		if i == 0 {
			b = binary.AppendVarint(b, p.ID)
		} else {
			b = binary.AppendUvarint(b, uint64(p.ID-state[i-1].ID-1))
		}
		bs := p.Batches[max(0, len(p.Batches)-rememberedBatches):]
		flags := byte(len(bs)) << 4
		if p.Jump {
			flags |= flagJump
		}
		b = binary.AppendVarint(b, int64(p.Epoch))
		b = append(b, flags)
		b = binary.AppendVarint(b, int64(p.LastSequence))
		b = binary.AppendVarint(b, p.LastOffset)
		b = binary.AppendVarint(b, p.Timestamp)
		b = binary.AppendVarint(b, p.Seen)
		for j := range bs {
			q := &bs[j]
			b = binary.AppendUvarint(b, uint64(q.FirstSequence))
			b = binary.AppendUvarint(b, uint64((q.LastSequence-q.FirstSequence)&sequenceMask))
			b = binary.AppendVarint(b, q.FirstOffset)
			b = binary.AppendUvarint(b, uint64(q.LastOffset-q.FirstOffset))
			b = binary.AppendVarint(b, q.Timestamp)
		}
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// DecodeProducers reads the stored form. It fails with [ErrCorruptState], and
// allocates no more than a small multiple of what it is given.
func DecodeProducers(b []byte) ([]ProducerState, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != stateVersion {
		return nil, fmt.Errorf("%w: version %d, this release knows %d", ErrCorruptState, b[0], stateVersion)
	}
	if len(b) < 5 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorruptState, len(b))
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum", ErrCorruptState)
	}
	d := stateReader{b: body[1:]}
	n := d.uvarint()
	if n == 0 || n > uint64(len(d.b)/minProducer) {
		return nil, fmt.Errorf("%w: %d producers in %d bytes", ErrCorruptState, n, len(b))
	}
	out := make([]ProducerState, n)
	for i := range out {
		d.producer(out[:i+1])
		if d.failed {
			return nil, fmt.Errorf("%w: producer %d of %d", ErrCorruptState, i, n)
		}
	}
	if len(d.b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes left over", ErrCorruptState, len(d.b))
	}
	return out, nil
}

type stateReader struct {
	b      []byte
	failed bool
}

// producer reads the last of out; the one before it is there.
func (d *stateReader) producer(out []ProducerState) {
	p := &out[len(out)-1]
	if len(out) == 1 {
		p.ID = d.ranged(0, math.MaxInt64)
	} else {
		last := out[len(out)-2].ID
		step := d.uvarint()
		if last == math.MaxInt64 || step > uint64(math.MaxInt64-last-1) {
			d.failed = true
			return
		}
		p.ID = last + 1 + int64(step)
	}
	p.Epoch = int16(d.ranged(math.MinInt16, math.MaxInt16))
	flags := d.byte()
	p.Jump = flags&flagJump != 0
	n := int(flags >> 4 & 7)
	if n > rememberedBatches || flags&^(flagJump|7<<4) != 0 {
		d.failed = true
	}
	p.LastSequence = int32(d.ranged(-1, math.MaxInt32))
	p.LastOffset = d.ranged(-1, maxOffset)
	p.Timestamp = d.varint()
	p.Seen = d.varint()
	if d.failed || n == 0 {
		return
	}
	p.Batches = make([]span.ProducedBatch, n)
	for i := range p.Batches {
		q := &p.Batches[i]
		q.FirstSequence = int32(d.bounded(math.MaxInt32))
		q.LastSequence = int32((int64(q.FirstSequence) + int64(d.bounded(math.MaxInt32))) & sequenceMask)
		q.FirstOffset = d.ranged(-1, maxOffset)
		q.LastOffset = q.FirstOffset + int64(d.bounded(math.MaxInt32))
		q.Timestamp = d.varint()
	}
}

func (d *stateReader) byte() byte {
	if len(d.b) == 0 {
		d.failed = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *stateReader) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *stateReader) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *stateReader) ranged(lo, hi int64) int64 {
	v := d.varint()
	if v < lo || v > hi {
		d.failed = true
		return lo
	}
	return v
}

func (d *stateReader) bounded(hi uint64) uint64 {
	v := d.uvarint()
	if v > hi {
		d.failed = true
		return 0
	}
	return v
}
