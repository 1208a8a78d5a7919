package local

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local/vfs"
)

// files keeps a bounded number of segment files open, with their indexes.
type files struct {
	fs       vfs.FS
	max      int
	readOnly bool
	maps     *mappings

	mu   sync.Mutex
	open map[*segment]*openFile
	lru  *list.List // of *openFile, most recent first
}

// openFile is an open segment. It stays open while pinned.
type openFile struct {
	seg  *segment
	elem *list.Element
	pins int
	dead bool // not in the table any more

	once sync.Once
	f    vfs.File
	err  error

	mu    sync.Mutex // guards index
	index *segIndex

	cold atomic.Int64 // bytes that readers took past the page cache

	checks checks

	mapped []*mapping // guarded by mappings.mu
}

// newFiles keeps up to limit files open, and about so many bytes of them mapped.
func newFiles(fs vfs.FS, limit int, mapped int64) *files {
	return &files{fs: fs, max: limit, maps: newMappings(mapped), open: make(map[*segment]*openFile), lru: list.New()}
}

// get opens the segment at path, or creates it. put gives it back.
func (c *files) get(seg *segment, path string, create bool) (*openFile, error) {
	c.mu.Lock()
	of := c.open[seg]
	if of == nil {
		of = &openFile{seg: seg}
		of.elem = c.lru.PushFront(of)
		c.open[seg] = of
	} else {
		c.lru.MoveToFront(of.elem)
	}
	of.pins++
	evicted := c.evict(c.max)
	c.mu.Unlock()
	c.closeAll(evicted)
	of.once.Do(func() {
		open := c.fs.OpenWrite
		switch {
		case create:
			open = c.fs.Create
		case c.readOnly:
			open = c.fs.Open
		}
		if of.f, of.err = open(path); shortage(of.err) {
			// What nobody uses may as well be closed.
			c.mu.Lock()
			idle := c.evict(0)
			c.mu.Unlock()
			c.closeAll(idle)
			of.f, of.err = open(path)
		}
	})
	if of.err != nil {
		err := fmt.Errorf("open segment: %w", errors.Join(span.ErrStorage, of.err))
		c.forget(seg)
		c.put(of)
		return nil, err
	}
	return of, nil
}

func (c *files) put(of *openFile) {
	c.mu.Lock()
	of.pins--
	last := of.dead && of.pins == 0
	c.mu.Unlock()
	if last && of.f != nil {
		c.closeAll([]*openFile{of})
	}
}

// forget closes the segment's file as soon as nobody uses it.
func (c *files) forget(seg *segment) {
	c.mu.Lock()
	of := c.open[seg]
	last := false
	if of != nil {
		c.drop(of)
		last = of.pins == 0
	}
	c.mu.Unlock()
	if last {
		c.closeAll([]*openFile{of})
	}
}

func (c *files) drop(of *openFile) {
	c.lru.Remove(of.elem)
	delete(c.open, of.seg)
	of.dead = true
}

// evict takes files out of the table until it holds no more than limit, or only those in use; under mu.
func (c *files) evict(limit int) (out []*openFile) {
	for e := c.lru.Back(); e != nil && c.lru.Len() > limit; {
		of := e.Value.(*openFile)
		e = e.Prev()
		if of.pins == 0 {
			c.drop(of)
			out = append(out, of)
		}
	}
	return out
}

func (c *files) close() {
	c.mu.Lock()
	var all []*openFile
	for _, of := range c.open {
		c.drop(of)
		if of.pins == 0 {
			all = append(all, of)
		}
	}
	c.mu.Unlock()
	c.closeAll(all)
}

func (c *files) closeAll(all []*openFile) {
	for _, of := range all {
		if of.f != nil {
			c.maps.drop(of)
			// What was written was synced before it counted: nothing hangs on this.
			_ = of.f.Close()
		}
	}
}

// view is what a reader takes of a segment under the partition's lock.
type view struct {
	seg     *segment
	size    int64
	closed  bool
	cleaned bool // by a compaction: offsets may be missing
}

// indexOf returns the index of the batches below v.size: the written one of a
// closed segment, or made by scanning headers. The result is only valid under of.mu,
// which the caller holds.
func (of *openFile) indexOf(p *partition, v view) (*segIndex, error) {
	if of.index != nil && of.index.end >= v.size {
		return of.index, nil
	}
	if of.index == nil {
		if err := of.newer(); err != nil {
			return nil, err
		}
	}
	if v.closed {
		size, err := of.f.Size()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", span.ErrStorage, err)
		}
		if n := size - v.size; n >= segTrailerSize && n <= 64<<20 {
			b := make([]byte, n)
			if _, err := of.f.ReadAt(b, v.size); err != nil {
				return nil, fmt.Errorf("%w: %w", span.ErrStorage, err)
			}
			if x, err := parseIndex(b, v.size); err == nil {
				of.index = x
				return x, nil
			} else if errors.Is(err, errNewer) {
				return nil, fmt.Errorf("%w: %w", span.ErrStorage, err)
			}
		}
		// A damaged index is no loss: the batches tell the same.
	}
	x := of.index
	if x == nil {
		x = &segIndex{end: segHeaderSize}
	}
	buf := getBuffer(256 << 10)
	defer putBuffer(buf)
	err := scanHeaders(p, of.f, *buf, x.end, v.size, func(h batch.Header, _ []byte, pos int64) (bool, error) {
		x.add(h.BaseOffset, pos, h.Size(), recordTime(&h))
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	of.index = x
	return x, nil
}

// newer tells that a newer release wrote the segment. A header that is damaged says nothing: each batch tells what it is and where it belongs.
func (of *openFile) newer() error {
	b := make([]byte, segHeaderSize)
	if _, err := of.f.ReadAt(b, 0); err != nil {
		return nil // what is wanted of the file is read next, and will tell
	}
	if v := segHeaderVersion(b); v > segVersion {
		return fmt.Errorf("%w: segment format %d: %w", span.ErrStorage, v, errNewer)
	}
	return nil
}
