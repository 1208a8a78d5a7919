package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec is how the records of a batch are compressed; the values are the wire's.
type Codec int8

// The codecs of Kafka.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// String is the name that Kafka's compression.type uses.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return "codec " + strconv.Itoa(int(c))
}

// xerialMagic begins what Java's snappy streams write: a header of 16 bytes
// (magic, version, compatible version), then blocks with a 4-byte length each.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const (
	xerialHeader = 16
	xerialBlock  = 32 << 10
	// snappyRatio bounds what a snappy block can expand to: its densest element
	// gives 64 bytes for 3. A block that claims more lies.
	snappyRatio = 22
	firstGuess  = 4 << 10
)

// scratch pools hold decompressed records; see RecordReader.Close.
const (
	minScratch = 12 // 4 KiB
	maxScratch = 22 // 4 MiB; larger ones are left to the collector
)

var scratchPools [maxScratch - minScratch + 1]sync.Pool

// scratch is a pooled buffer for decompressed records.
type scratch struct {
	b     []byte // length 0
	class int    // -1: not pooled
}

func newScratch(n int) *scratch {
	class := max(bits.Len(uint(max(n, 1)-1)), minScratch)
	if class > maxScratch {
		return &scratch{b: make([]byte, 0, n), class: -1}
	}
	if s, ok := scratchPools[class-minScratch].Get().(*scratch); ok {
		return s
	}
	return &scratch{b: make([]byte, 0, 1<<class), class: class}
}

func (s *scratch) free() {
	if s.class >= 0 {
		s.b = s.b[:0]
		scratchPools[s.class-minScratch].Put(s)
	}
}

// grow returns a scratch of twice the capacity, at most limit, with the content
// of s; s goes back to its pool.
func (s *scratch) grow(limit int) *scratch {
	next := newScratch(min(2*cap(s.b), limit))
	next.b = append(next.b, s.b...)
	s.free()
	return next
}

var (
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		// The capacity of the destination is the limit, so a frame that lies about
		// its content size cannot make the decoder allocate.
		return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderConcurrency(0))
	})
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	})
	gzipReaders sync.Pool
	lz4Readers  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
)

// decompress unpacks src. The result holds at most budget bytes and has to be
// freed. Memory grows with what comes out, never with what a header claims.
func decompress(codec Codec, src []byte, budget int) (*scratch, error) {
	if budget < 0 {
		return nil, fmt.Errorf("%w: negative budget", ErrTooLarge)
	}
	switch codec {
	case Gzip:
		return gunzip(src, budget)
	case Snappy:
		return unsnappy(src, budget)
	case LZ4:
		zr := lz4Readers.Get().(*lz4.Reader)
		zr.Reset(bytes.NewReader(src))
		out, err := readAll(zr, codec, len(src), budget)
		zr.Reset(nil)
		lz4Readers.Put(zr)
		return out, err
	case Zstd:
		return unzstd(src, budget)
	}
	return nil, fmt.Errorf("%w: %v", ErrCodec, codec)
}

func gunzip(src []byte, budget int) (*scratch, error) {
	zr, ok := gzipReaders.Get().(*gzip.Reader)
	var err error
	if ok {
		err = zr.Reset(bytes.NewReader(src))
	} else {
		zr, err = gzip.NewReader(bytes.NewReader(src))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: gzip: %w", ErrCorrupt, err)
	}
	out, err := readAll(zr, Gzip, len(src), budget)
	gzipReaders.Put(zr)
	return out, err
}

func readAll(r io.Reader, codec Codec, packed, budget int) (*scratch, error) {
	s := newScratch(min(max(4*packed, firstGuess), budget+1))
	for {
		if len(s.b) > budget {
			s.free()
			return nil, fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, budget)
		}
		if len(s.b) == cap(s.b) {
			s = s.grow(budget + 1)
		}
		n, err := r.Read(s.b[len(s.b):cap(s.b)])
		s.b = s.b[:len(s.b)+n]
		if errors.Is(err, io.EOF) {
			if len(s.b) > budget {
				continue
			}
			return s, nil
		}
		if err != nil {
			s.free()
			return nil, fmt.Errorf("%w: %v: %w", ErrCorrupt, codec, err)
		}
	}
}

func unzstd(src []byte, budget int) (*scratch, error) {
	dec, err := zstdDecoder()
	if err != nil {
		return nil, fmt.Errorf("start zstd: %w", err)
	}
	for guess := max(4*len(src), firstGuess); ; guess *= 2 {
		guess = min(guess, budget)
		s := newScratch(guess)
		dst := s.b[:0:min(cap(s.b), budget)]
		out, err := dec.DecodeAll(src, dst)
		if err == nil {
			// Within its capacity limit DecodeAll wrote into dst.
			s.b = s.b[:len(out)]
			return s, nil
		}
		full := cap(dst)
		s.free()
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return nil, fmt.Errorf("%w: zstd: %w", ErrCorrupt, err)
		}
		if full >= budget {
			return nil, fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, budget)
		}
		guess = max(guess, full)
	}
}

func unsnappy(src []byte, budget int) (*scratch, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		s := newScratch(min(4*len(src), budget))
		return snappyBlock(s, src, budget)
	}
	if len(src) < xerialHeader {
		return nil, fmt.Errorf("%w: snappy: stream header cut", ErrCorrupt)
	}
	s := newScratch(min(4*len(src), budget))
	for src = src[xerialHeader:]; len(src) > 0; {
		if len(src) < 4 {
			s.free()
			return nil, fmt.Errorf("%w: snappy: block length cut", ErrCorrupt)
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			s.free()
			return nil, fmt.Errorf("%w: snappy: block of %d bytes in %d", ErrCorrupt, n, len(src))
		}
		var err error
		if s, err = snappyBlock(s, src[:n], budget); err != nil {
			return nil, err
		}
		src = src[n:]
	}
	return s, nil
}

// snappyBlock appends one unpacked block to s. On an error s is freed.
func snappyBlock(s *scratch, block []byte, budget int) (*scratch, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil || n > snappyRatio*len(block) {
		s.free()
		return nil, fmt.Errorf("%w: snappy: block of %d bytes claims %d", ErrCorrupt, len(block), n)
	}
	if n > budget-len(s.b) {
		s.free()
		return nil, fmt.Errorf("%w: more than %d bytes unpacked", ErrTooLarge, budget)
	}
	for cap(s.b)-len(s.b) < n {
		s = s.grow(max(budget, len(s.b)+n))
	}
	at := len(s.b)
	out, err := snappy.Decode(s.b[at:at+n], block)
	if err != nil || len(out) != n {
		s.free()
		return nil, fmt.Errorf("%w: snappy: %w", ErrCorrupt, errors.Join(err))
	}
	s.b = s.b[:at+n]
	return s, nil
}

// compress appends src, packed, to dst.
func compress(codec Codec, dst, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		out := bytes.NewBuffer(dst)
		zw := gzip.NewWriter(out)
		return finish(out, zw, src)
	case LZ4:
		out := bytes.NewBuffer(dst)
		zw := lz4.NewWriter(out)
		// 64 KiB blocks, as Kafka's own clients write: every reader takes them.
		if err := zw.Apply(lz4.BlockSizeOption(lz4.Block64Kb)); err != nil {
			return nil, fmt.Errorf("set up lz4: %w", err)
		}
		return finish(out, zw, src)
	case Snappy:
		dst = append(dst, xerialMagic...)
		dst = binary.BigEndian.AppendUint32(dst, 1)
		dst = binary.BigEndian.AppendUint32(dst, 1)
		for len(src) > 0 {
			n := min(len(src), xerialBlock)
			block := snappy.Encode(nil, src[:n])
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(block)))
			dst = append(dst, block...)
			src = src[n:]
		}
		return dst, nil
	case Zstd:
		enc, err := zstdEncoder()
		if err != nil {
			return nil, fmt.Errorf("start zstd: %w", err)
		}
		return enc.EncodeAll(src, dst), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrCodec, codec)
}

func finish(out *bytes.Buffer, zw io.WriteCloser, src []byte) ([]byte, error) {
	if _, err := zw.Write(src); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return out.Bytes(), nil
}
