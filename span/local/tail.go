package local

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/span/local/vfs"
)

// chunk is a piece of the shared log in memory: the bytes as they are in the
// file. The sequencer fills it; what lies below a partition's high watermark is
// read from it without a lock, since it never changes again.
type chunk struct {
	buf  []byte // whole capacity
	mem  pages  // buf's
	n    int    // filled; sequencer only
	lsn  uint64 // of buf[0], which is the first byte of a block of the file
	pins atomic.Int32
	home *spare // nil for an odd size
}

const chunkSize = 1 << 20

// pin keeps the buffer from being used again; false if that has happened.
func (c *chunk) pin() bool {
	for {
		n := c.pins.Load()
		if n == 0 {
			return false
		}
		if c.pins.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (c *chunk) unpin() {
	switch {
	case c.pins.Add(-1) > 0:
	case c.home != nil:
		c.home.put(c.mem)
	default:
		c.mem.free()
	}
}

// spare holds buffers of chunks for their next use: fresh pages cost more than what is written to them.
type spare struct {
	mu     sync.Mutex
	bufs   []pages
	closed bool
}

const spareChunks = 8

func (s *spare) get() pages {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.bufs)
	if n == 0 {
		return newPages(chunkSize)
	}
	b := s.bufs[n-1]
	s.bufs[n-1] = pages{}
	s.bufs = s.bufs[:n-1]
	return b
}

func (s *spare) put(b pages) {
	s.mu.Lock()
	keep := len(s.bufs) < spareChunks && !s.closed
	if keep {
		s.bufs = append(s.bufs, b)
	}
	s.mu.Unlock()
	if !keep {
		b.free()
	}
}

// close frees what is held, and from then on what comes back.
func (s *spare) close() {
	s.mu.Lock()
	all := s.bufs
	s.bufs, s.closed = nil, true
	s.mu.Unlock()
	for _, b := range all {
		b.free()
	}
}

// tail is the newest part of the log in memory, within a budget.
type tail struct {
	budget int64
	spare  spare

	mu     sync.RWMutex
	chunks []*chunk // by lsn, without gaps
	bytes  int64
	first  atomic.Uint64 // lsn of the oldest chunk
}

func newTail(budget int64) *tail { return &tail{budget: budget} }

// add makes a chunk whose first filled bytes, pad of them, begin at lsn, with room for
// size bytes more. It is the caller's alone until show.
func (t *tail) add(lsn uint64, pad, size int) *chunk {
	c := &chunk{lsn: lsn, n: pad}
	if pad+size <= chunkSize {
		c.home = &t.spare
		c.mem = t.spare.get()
	} else {
		c.mem = newPages((pad + size + vfs.Block - 1) / vfs.Block * vfs.Block)
	}
	c.buf = c.mem.buf
	return c
}

// show lets readers find the chunk and drops the oldest over budget. It is pinned for the
// sequencer, who unpins it when it is written.
func (t *tail) show(c *chunk) {
	c.pins.Store(2)
	t.mu.Lock()
	t.chunks = append(t.chunks, c)
	t.bytes += int64(len(c.buf))
	drop := 0
	for t.bytes > t.budget && drop < len(t.chunks)-1 {
		t.bytes -= int64(len(t.chunks[drop].buf))
		drop++
	}
	old := append([]*chunk(nil), t.chunks[:drop]...)
	t.chunks = append(t.chunks[:0], t.chunks[drop:]...)
	t.first.Store(t.chunks[0].lsn)
	t.mu.Unlock()
	for _, c := range old {
		c.unpin()
	}
}

// get pins the chunk that holds lsn; nil if it is not in memory any more.
func (t *tail) get(lsn uint64) *chunk {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := sort.Search(len(t.chunks), func(i int) bool { return t.chunks[i].lsn > lsn }) - 1
	if i < 0 {
		return nil
	}
	if c := t.chunks[i]; lsn-c.lsn < uint64(len(c.buf)) && c.pin() {
		return c
	}
	return nil
}

// close gives the memory back as soon as no reader uses it. The sequencer has ended.
func (t *tail) close() {
	t.mu.Lock()
	old := t.chunks
	t.chunks, t.bytes = nil, 0
	t.mu.Unlock()
	t.spare.close()
	for _, c := range old {
		c.unpin()
	}
}
