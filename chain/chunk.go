package chain

import (
	"sync"
	"sync/atomic"
)

// Chunks hold batches on their way to a copy, and afterwards in the tail cache.
// The batches of a [Loan] stay where their caller received them; others are
// copied once, into their partition's chunk. There they are sent from, patched
// when they are acknowledged, and read from by consumers.
//
// A chunk is counted: by the partition that fills it or the caller who lent it,
// by each append that lies in it until the store has given it back, by the cache
// and by each reader. At zero it goes back to where it came from. A batch's bytes
// are written once, before the append is submitted, and patched once, before
// they are put into the cache; nobody reads them there earlier.

var chunkSizes = [...]int{8 << 10, 32 << 10, 128 << 10, 512 << 10, 1 << 20}

var chunkPools [len(chunkSizes)]sync.Pool

type chunk struct {
	buf  []byte
	used int // filled so far; the partition's
	refs atomic.Int32
	// class is the index of the pool, -1 for one of its own size.
	class int
	// release gives back a buffer that was lent, instead of the pool.
	release func()
	// size is what the chunk holds of memory, which for a lent buffer may be more
	// than buf. cached counts the pieces of tails that lie in it, of however many
	// partitions: the cache is charged with size once.
	size   int64
	cached atomic.Int32
}

// Loan is memory with batches of several appends, of maybe several partitions,
// that are appended from where they lie. Whoever lends it must not touch it
// again: batches are patched there when they are acknowledged, and readers may
// have them for as long as they are cached.
type Loan struct{ c chunk }

// Lend wraps a buffer that holds size bytes of memory. release is called once,
// on any goroutine, when nothing refers to it any more: not before the caller
// called Release and every append from it was answered.
func Lend(buf []byte, size int, release func()) *Loan {
	l := new(Loan)
	l.c.buf, l.c.used, l.c.class, l.c.release, l.c.size = buf, len(buf), -1, release, int64(size)
	l.c.refs.Store(1)
	return l
}

// Release gives up the caller's own reference, after the last append was submitted.
func (l *Loan) Release() { l.c.drop() }

// newChunk makes a chunk of at least size bytes, of the class given if it is large enough. It has one reference.
func newChunk(class, size int) *chunk {
	class = min(class, len(chunkSizes)-1)
	for class < len(chunkSizes) && chunkSizes[class] < size {
		class++
	}
	if class == len(chunkSizes) {
		c := &chunk{buf: make([]byte, size), class: -1, size: int64(size)}
		c.refs.Store(1)
		return c
	}
	c, _ := chunkPools[class].Get().(*chunk)
	if c == nil {
		c = &chunk{buf: make([]byte, chunkSizes[class]), class: class, size: int64(chunkSizes[class])}
	}
	c.used = 0
	c.refs.Store(1)
	return c
}

func (c *chunk) retain() { c.refs.Add(1) }

// wasteful tells whether n bytes are too small a part of a lent chunk to keep
// all of it in the cache for them.
func (c *chunk) wasteful(n int) bool { return c.release != nil && int64(n)*16 < c.size }

func (c *chunk) drop() {
	if c.refs.Add(-1) > 0 {
		return
	}
	switch {
	case c.release != nil:
		c.release()
		c.release, c.buf = nil, nil
	case c.class >= 0:
		chunkPools[c.class].Put(c)
	}
}

// filler hands out room in a partition's chunk. Chunks grow while a partition is
// busy, so that an idle one costs little.
type filler struct {
	cur   *chunk
	class int
}

// reserve copies b into a chunk, which gets a reference for the caller; at is where.
func (f *filler) reserve(b []byte) (c *chunk, at int) {
	if len(b) > chunkSizes[len(chunkSizes)-1]/2 {
		c = newChunk(0, len(b))
		c.used = copy(c.buf, b)
		return c, 0
	}
	if f.cur == nil || len(f.cur.buf)-f.cur.used < len(b) {
		if f.cur != nil {
			f.cur.drop()
			f.class = min(f.class+1, len(chunkSizes)-1)
		}
		f.cur = newChunk(f.class, len(b))
	}
	c, at = f.cur, f.cur.used
	c.used += copy(c.buf[at:], b)
	c.retain()
	return c, at
}

// reset lets go of the chunk.
func (f *filler) reset() {
	if f.cur != nil {
		f.cur.drop()
		f.cur = nil
	}
	f.class = 0
}
