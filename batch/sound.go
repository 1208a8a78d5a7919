package batch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/fair"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// soundBudget bounds what is unpacked of one batch, bytes. What a few bytes unpack to beyond it is
	// taken unseen, so that nobody keeps a processor for long with them.
	soundBudget = 64 << 20
	// soundWindow is the largest window of a zstd frame that is unpacked piece by piece; Java's
	// clients ask for no larger one up to level 19.
	soundWindow = 8 << 20
	// soundBuffer is what is unpacked at a time, bytes.
	soundBuffer = 32 << 10
)

// soundGate has batches unpacked by half of the processors, in which owners take turns: what a few bytes unpack to is
// work for a tenth of a second and more. Who is within works, so nothing but the machine stalls it.
var soundGate = sync.OnceValue(func() *fair.Gate { return fair.NewGate(max(1, runtime.GOMAXPROCS(0)/2), time.Second) })

// A turn ends after soundTurn bytes, if there is memory for one more reader that waits in the middle of a batch: those of
// gzip are small, and the others have windows or blocks of up to 8 MiB, but unpack several times as fast.
const (
	soundTurn       = 256 << 10
	smallSoundsOpen = 1024
	largeSoundsOpen = 16
)

var smallSounds, largeSounds atomic.Int64

var (
	soundReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, soundBuffer) }}
	zstdReaders  sync.Pool
)

// Sound tells whether consumers can read the records of the whole batch b, as Kafka's LogValidator does for a
// broker: that they unpack, are as many as the header says, with lengths that fit, offsets that grow
// within the batch, and nothing behind them. The checksum is not looked at, nor are keys and times. Nothing is kept
// and little allocated: records are looked at while they are unpacked. It returns [ErrInvalid].
func Sound(b []byte) error { return SoundOf("", b) }

// SoundOf is [Sound] for a batch of an owner: owners take turns at unpacking.
func SoundOf(owner string, b []byte) error { return soundIn(soundGate(), owner, b, nil) }

func soundIn(gate *fair.Gate, owner string, b []byte, by seer) error {
	h, size, err := Parse(b)
	if err != nil {
		return err
	}
	if len(b) < size {
		return fmt.Errorf("%w: %d of %d bytes", ErrTruncated, len(b), size)
	}
	if h.NumRecords == 0 {
		return nil // what compaction leaves of a batch
	}
	s := sounding{count: h.NumRecords, last: int64(h.LastOffsetDelta), before: -1, seer: by}
	if h.Codec() == None {
		return s.all(b[HeaderSize:size])
	}
	s.turn = soundTurns{gate: gate, owner: owner}
	s.turn.begin()
	defer s.turn.end()
	return s.unpack(h.Codec(), b[HeaderSize:size])
}

// soundTurns is a place within a gate that is given back and taken anew after soundTurn bytes.
type soundTurns struct {
	gate  *fair.Gate
	owner string
	pass  fair.Pass
	r     io.Reader
	had   int // bytes of this turn
}

func (t *soundTurns) begin() {
	// It fails with its context, which does not end: others only work, so the wait is short.
	t.pass, _ = t.gate.Enter(context.Background(), t.owner)
	t.had = 0
}

func (t *soundTurns) end() { t.pass.Leave(0) }

// Read implements [io.Reader].
func (t *soundTurns) Read(p []byte) (int, error) {
	if t.had >= soundTurn {
		t.end()
		t.begin()
	}
	n, err := t.r.Read(p)
	t.had += n
	return n, err
}

// sounding is a walk over the records of one batch.
type sounding struct {
	seen, count  int32
	last, before int64 // offset deltas: the batch's largest, and the one of the record before
	turn         soundTurns
	seer         seer // is shown each record; nil: nobody is
	enough       bool // it has seen enough
}

// seer looks at records while they are unpacked.
type seer interface {
	// see is told the number of a record, its offset and ms since the batch's, and whether it has no key. With
	// true the rest is not looked at.
	see(number int32, delta, after int64, keyless bool) (enough bool)
	// again tells that all begins once more.
	again()
}

func (s *sounding) malformed() error {
	return fmt.Errorf("%w: record %d of %d is malformed", ErrInvalid, s.seen, s.count)
}

func (s *sounding) behind() error {
	return fmt.Errorf("%w: bytes behind the last of %d records", ErrInvalid, s.count)
}

// unseen is said of what comes behind the budget.
func (s *sounding) unseen() error {
	if s.seer == nil {
		return nil
	}
	return fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, soundBudget)
}

// all walks over records that lie in memory.
func (s *sounding) all(rest []byte) error {
	for ; s.seen < s.count; s.seen++ {
		size, n := varint(rest)
		if n <= 0 || size < minRecordSize-1 || size > int64(len(rest)-n) || !s.record(rest[n:n+int(size)]) {
			return s.malformed()
		}
		if s.enough {
			return nil
		}
		rest = rest[n+int(size):]
	}
	if len(rest) > 0 {
		return s.behind()
	}
	return nil
}

// next takes a record's offset delta.
func (s *sounding) next(delta int64) bool {
	ok := delta > s.before && delta <= s.last
	s.before = delta
	return ok
}

// record looks at one record without its length.
func (s *sounding) record(r []byte) bool {
	r = r[1:] // attributes
	ts, n := varint(r)
	if n <= 0 {
		return false
	}
	r = r[n:]
	delta, n := varint(r)
	if n <= 0 || !s.next(delta) {
		return false
	}
	if s.seer != nil {
		key, _ := varint(r[n:])
		s.enough = s.seer.see(s.seen, delta, ts, key < 0)
	}
	r, ok := pass(r[n:], -1)
	if !ok {
		return false
	}
	if r, ok = pass(r, -1); !ok {
		return false
	}
	headers, n := varint(r)
	if n <= 0 || headers < 0 || headers > int64(len(r)/2) {
		return false
	}
	r = r[n:]
	for range headers {
		if r, ok = pass(r, 0); !ok {
			return false
		}
		if r, ok = pass(r, -1); !ok {
			return false
		}
	}
	return len(r) == 0
}

// pass goes past a field and its length, which is least at least.
func pass(b []byte, least int64) ([]byte, bool) {
	size, n := varint(b)
	if n <= 0 || size < least || size > int64(len(b)-n) {
		return nil, false
	}
	return b[n+int(max(size, 0)):], true
}

// varint is binary.Varint, made so that the compiler puts the case of one byte, which most are, where it is called.
func varint(b []byte) (int64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return int64(b[0]>>1) ^ -int64(b[0]&1), 1
	}
	return binary.Varint(b)
}

// unpack walks over records that are compressed.
func (s *sounding) unpack(codec Codec, packed []byte) error {
	var err error
	switch codec {
	case Gzip:
		zr, ok := gzipReaders.Get().(*gzip.Reader)
		if ok {
			err = zr.Reset(bytes.NewReader(packed))
		} else {
			zr, err = gzip.NewReader(bytes.NewReader(packed))
		}
		if err != nil {
			return fmt.Errorf("%w: gzip: %w", ErrInvalid, err)
		}
		defer gzipReaders.Put(zr)
		return s.stream(codec, zr)
	case LZ4:
		zr := lz4Readers.Get().(*lz4.Reader)
		zr.Reset(bytes.NewReader(packed))
		defer func() {
			zr.Reset(nil)
			lz4Readers.Put(zr)
		}()
		return s.stream(codec, zr)
	case Zstd:
		zr, ok := zstdReaders.Get().(*zstd.Decoder)
		if !ok {
			// With a concurrency of one it has no goroutines, and may be left to the collector.
			zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(soundWindow), zstd.WithDecodeBuffersBelow(0))
			if err != nil {
				return fmt.Errorf("start zstd: %w", err)
			}
		}
		if err := zr.Reset(bytes.NewReader(packed)); err != nil {
			return fmt.Errorf("%w: zstd: %w", ErrInvalid, err)
		}
		fresh := *s // but for the turn
		err = s.stream(codec, zr)
		// So that it does not hold the batch. No error comes of nothing.
		if zr.Reset(nil) == nil {
			zstdReaders.Put(zr)
		}
		if s.enough || !errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return err
		}
		s.seen, s.before = fresh.seen, fresh.before
		if s.seer != nil {
			s.seer.again()
		}
	case Snappy:
	default:
		return fmt.Errorf("%w: %v", ErrCodec, codec)
	}
	buf, err := decompress(codec, packed, soundBudget)
	switch {
	case errors.Is(err, ErrTooLarge):
		return s.unseen()
	case err != nil:
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer buf.free()
	return s.all(buf.b)
}

// stream walks over the records that r unpacks.
func (s *sounding) stream(codec Codec, r io.Reader) error {
	limited := io.LimitedReader{R: r, N: soundBudget}
	open, most := &largeSounds, int64(largeSoundsOpen)
	if codec == Gzip {
		open, most = &smallSounds, smallSoundsOpen
	}
	if open.Add(1) <= most {
		s.turn.r = r
		limited.R = &s.turn
	}
	defer open.Add(-1)
	br := soundReaders.Get().(*bufio.Reader)
	br.Reset(&limited)
	defer func() {
		br.Reset(nil)
		soundReaders.Put(br)
	}()
	var err error
	for ; err == nil && s.seen < s.count; s.seen++ {
		if err = s.streamed(br); err != nil {
			break
		}
		if s.enough {
			return nil
		}
	}
	if err == nil {
		switch _, err = br.ReadByte(); err {
		case nil:
			return s.behind()
		case io.EOF:
			return nil
		}
	}
	switch {
	case errors.Is(err, ErrInvalid):
		return err
	case limited.N <= 0:
		return s.unseen()
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: record %d of %d is cut", ErrInvalid, s.seen, s.count)
	}
	return fmt.Errorf("%w: %v: %w", ErrInvalid, codec, err)
}

// streamed looks at the next record of a stream. An error that is not ErrInvalid is the stream's.
func (s *sounding) streamed(br *bufio.Reader) error {
	size, err := binary.ReadVarint(br)
	switch {
	case err != nil:
		return err
	case size < minRecordSize-1 || size > 1<<31-1:
		return s.malformed()
	case size > soundBuffer:
		return s.large(br, size)
	}
	r, err := br.Peek(int(size))
	if err != nil {
		return err
	}
	if !s.record(r) {
		return s.malformed()
	}
	_, err = br.Discard(int(size))
	return err
}

// large is record for one that is never in memory as a whole.
func (s *sounding) large(br *bufio.Reader, left int64) error {
	number := func() (int64, error) {
		v, err := binary.ReadVarint(br)
		left -= int64(len(binary.AppendVarint(make([]byte, 0, binary.MaxVarintLen64), v)))
		return v, err
	}
	skip := func(n int64) error {
		if left -= n; left < 0 {
			return s.malformed()
		}
		_, err := br.Discard(int(n))
		return err
	}
	length := func(least int64) (int64, error) {
		size, err := number()
		if err == nil && (size < least || size > left) {
			err = s.malformed()
		}
		return size, err
	}
	field := func(least int64) error {
		size, err := length(least)
		if err != nil {
			return err
		}
		return skip(max(size, 0))
	}
	if err := skip(1); err != nil { // attributes
		return err
	}
	ts, err := number()
	if err != nil {
		return err
	}
	delta, err := number()
	if err != nil {
		return err
	}
	if !s.next(delta) {
		return s.malformed()
	}
	key, err := length(-1)
	if err != nil {
		return err
	}
	if s.seer != nil {
		if s.enough = s.seer.see(s.seen, delta, ts, key < 0); s.enough {
			return nil
		}
	}
	if err := skip(max(key, 0)); err != nil {
		return err
	}
	if err := field(-1); err != nil { // value
		return err
	}
	headers, err := number()
	if err != nil {
		return err
	}
	if headers < 0 || headers > left/2 {
		return s.malformed()
	}
	for range headers {
		if err := field(0); err != nil {
			return err
		}
		if err := field(-1); err != nil {
			return err
		}
	}
	if left != 0 {
		return s.malformed()
	}
	return nil
}
