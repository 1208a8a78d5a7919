package local

import (
	"container/list"
	"sort"
	"sync"

	"github.com/braidstream/braid/batch"
)

// mappings holds windows of segment files that are mapped, for readers who pass records
// on to a socket. What is mapped is page cache that is there anyway; the bound keeps
// the process from looking as large as its files. Windows are shared between readers,
// so that each page is mapped once for all that follow each other: they lie at multiples of
// mapStride, and reach beyond the next one for the batch that lies across it.
type mappings struct {
	limit int64 // bytes; a quarter of that when they are not in use

	mu    sync.Mutex
	lru   *list.List // of *mapping, most recent first
	bytes int64
}

// mapping is a window: bytes [from, from+len(mem)) of a file, below what the file's
// writer still touches.
type mapping struct {
	of    *openFile
	from  int64
	serve int64 // readers who begin from here on use another one
	mem   []byte
	unmap func() error

	// Under mappings.mu.
	pins int
	elem *list.Element // nil: taken out, unmapped with its last pin

	mu sync.Mutex // guards seen
	// The headers that readers came by, of batches one behind the other.
	seen []seenBatch
}

// seenBatch is a batch in a window whose header was checked.
type seenBatch struct {
	pos        int64
	size       int
	base, next int64
	header     [batch.HeaderSize]byte
}

const (
	mapStride = 1 << 20
	mapWindow = mapStride + 256<<10
)

func newMappings(limit int64) *mappings { return &mappings{limit: limit, lru: list.New()} }

// get pins a window that holds [pos, pos+least), of what the file has below end; nil if
// there can be none.
func (m *mappings) get(of *openFile, pos, least, end int64) *mapping {
	m.mu.Lock()
	for _, w := range of.mapped {
		if w.from <= pos && pos < w.serve && pos+least <= w.from+int64(len(w.mem)) {
			w.pins++
			m.lru.MoveToFront(w.elem)
			m.mu.Unlock()
			return w
		}
	}
	full := m.bytes >= m.limit
	m.mu.Unlock()
	from := pos / mapStride * mapStride
	size := min(mapWindow, end-from)
	serve := from + mapStride
	if pos+least > from+size {
		// A large batch has a window of its own.
		from = pos / blockSize * blockSize
		size = min(2*mapStride, end-from)
		serve = from + size
	}
	if full || pos+least > from+size {
		return nil
	}
	mem, unmap, err := of.f.Map(from, int(size))
	if err != nil {
		// Not every file system can; those that can tell of a lack of address space or the like.
		// Reading works all the same.
		return nil
	}
	w := &mapping{of: of, from: from, serve: serve, mem: mem, unmap: unmap, pins: 1}
	m.mu.Lock()
	w.elem = m.lru.PushFront(w)
	of.mapped = append(of.mapped, w)
	m.bytes += size
	old := m.evict()
	m.mu.Unlock()
	unmapAll(old)
	return w
}

// put gives a window back.
func (m *mappings) put(w *mapping) {
	m.mu.Lock()
	w.pins--
	var old []*mapping
	if w.elem == nil && w.pins == 0 {
		old = append(old, w)
	}
	old = append(old, m.evict()...)
	m.mu.Unlock()
	unmapAll(old)
}

// evict takes out what is too much and in nobody's use. Needs mu.
func (m *mappings) evict() (old []*mapping) {
	for e := m.lru.Back(); e != nil && m.bytes > m.limit/4; {
		w := e.Value.(*mapping)
		e = e.Prev()
		if w.pins == 0 {
			m.take(w)
			old = append(old, w)
		}
	}
	return old
}

// take takes a window out. Needs mu.
func (m *mappings) take(w *mapping) {
	m.lru.Remove(w.elem)
	w.elem = nil
	m.bytes -= int64(len(w.mem))
	keep := w.of.mapped[:0]
	for _, o := range w.of.mapped {
		if o != w {
			keep = append(keep, o)
		}
	}
	clear(w.of.mapped[len(keep):])
	w.of.mapped = keep
}

// drop takes out the windows of a file that is closed. Those in use stay until they
// are given back: a mapping needs no descriptor.
func (m *mappings) drop(of *openFile) {
	m.mu.Lock()
	var old []*mapping
	for len(of.mapped) > 0 {
		w := of.mapped[0]
		m.take(w)
		if w.pins == 0 {
			old = append(old, w)
		}
	}
	m.mu.Unlock()
	unmapAll(old)
}

func unmapAll(all []*mapping) {
	for _, w := range all {
		// It fails for addresses that are no mapping only.
		_ = w.unmap()
	}
}

// find returns the batch at pos if a reader came by it before.
func (w *mapping) find(pos int64) (seenBatch, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := sort.Search(len(w.seen), func(i int) bool { return w.seen[i].pos >= pos })
	if i < len(w.seen) && w.seen[i].pos == pos {
		return w.seen[i], true
	}
	return seenBatch{}, false
}

// note remembers a batch that lies directly behind the last one.
func (w *mapping) note(b seenBatch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.seen); n == 0 || w.seen[n-1].pos+int64(w.seen[n-1].size) == b.pos {
		w.seen = append(w.seen, b)
	}
}
