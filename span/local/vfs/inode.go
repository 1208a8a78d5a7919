package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"unsafe"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// inode is the content of a file of [Mem].
type inode struct {
	number uint64

	mu   sync.Mutex
	data content // as readers see it
	safe content // as it is after a crash for sure
	// What was done since the last sync, in order.
	pending []write
}

// write is a write, or with data nil a change of the size.
type write struct {
	at   int64
	data []byte
	size int64
}

// resize changes the size and returns how many bytes became free; under mu.
func (n *inode) resize(size int64) int64 {
	freed := n.data.size - size
	n.data.resize(size)
	n.pending = append(n.pending, write{size: size})
	return freed
}

func (w write) apply(c *content) {
	if w.data == nil {
		c.resize(w.size)
		return
	}
	c.write(w.data, w.at)
}

// crashed is the content after a crash: each sector of each write since the last
// sync got there or did not, in whatever order.
func (n *inode) crashed(r *rand.Rand) content {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.safe.clone()
	how := r.IntN(4)
	for i, w := range n.pending {
		if w.data == nil {
			if how == 0 || r.IntN(2) == 0 {
				c.resize(w.size)
			}
			continue
		}
		for at := int64(0); at < int64(len(w.data)); {
			// To the next sector boundary of the file.
			end := min(int64(len(w.data)), at+sector-(w.at+at)%sector)
			keep := false
			switch how {
			case 0:
				keep = true // the system wrote it back in time
			case 1:
				keep = r.IntN(2) == 0
			case 2:
				keep = i < r.IntN(len(n.pending)+1) // mostly the older
			}
			if keep {
				c.write(w.data[at:end], w.at+at)
			}
			at = end
		}
	}
	return c
}

// Crash cuts the power: it returns the file system as it may be found after that, and
// makes every use of m fail from then on. What was not synced is there or not, a
// sector at a time, as r decides; so are changes of names, of which a prefix in
// their order is there. What lies in a directory that is lost is lost with it.
func (m *Mem) Crash(r *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	next := NewMem()
	next.capacity, next.inodes = m.capacity, m.inodes
	files, dirs := maps.Clone(m.safeFiles), maps.Clone(m.safeDirs)
	for _, c := range m.changes[:r.IntN(len(m.changes)+1)] {
		c.apply(files, dirs)
	}
	reached := func(name string) bool {
		for d := filepath.Dir(name); ; d = filepath.Dir(d) {
			if !dirs[d] {
				return false
			}
			if d == filepath.Dir(d) {
				return true
			}
		}
	}
	for name := range dirs {
		if reached(name) {
			next.dirs[name] = true
		}
	}
	done := map[*inode]*inode{}
	for name, n := range files {
		if !reached(name) {
			continue
		}
		if done[n] == nil {
			c := n.crashed(r)
			done[n] = &inode{number: n.number, data: c, safe: c.clone()}
			next.used += c.size
		}
		next.files[name] = done[n]
	}
	next.safeFiles, next.safeDirs = maps.Clone(next.files), maps.Clone(next.dirs)
	return next
}

// Kill ends all use of m, as the end of a process does, and returns the file system as
// the next process finds it: everything that was written, and what was not synced is not safe yet.
func (m *Mem) Kill() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
	return m.clone()
}

// Clone returns a copy that shares nothing with m, as of now.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clone()
}

func (m *Mem) clone() *Mem {
	next := NewMem()
	next.capacity, next.used, next.inodes = m.capacity, m.used, m.inodes
	next.dirs, next.safeDirs = maps.Clone(m.dirs), maps.Clone(m.safeDirs)
	done := map[*inode]*inode{nil: nil}
	node := func(n *inode) *inode {
		if _, ok := done[n]; !ok {
			n.mu.Lock()
			done[n] = &inode{number: n.number, data: n.data.clone(), safe: n.safe.clone(), pending: slices.Clone(n.pending)}
			n.mu.Unlock()
		}
		return done[n]
	}
	for name, n := range m.files {
		next.files[name] = node(n)
	}
	for name, n := range m.safeFiles {
		next.safeFiles[name] = node(n)
	}
	for _, c := range m.changes {
		c.node = node(c.node)
		next.changes = append(next.changes, c)
	}
	return next
}

type memFile struct {
	m    *Mem
	n    *inode
	name string
}

func (f *memFile) Close() error { return nil }

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.m.ask(OpRead, f.name); err != nil {
		return 0, err
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if at >= f.n.data.size {
		return 0, io.EOF
	}
	n := f.n.data.read(b, at)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) grow(by int64) error {
	if by > 0 && f.m.used+by > f.m.capacity {
		return &fs.PathError{Op: "write", Path: f.name, Err: syscall.ENOSPC}
	}
	f.m.used += by
	return nil
}

func (f *memFile) WriteAt(b []byte, at int64) (int, error) {
	fault := f.m.ask(OpWrite, f.name)
	if fault != nil {
		var short *ShortWrite
		if !errors.As(fault, &short) || len(b) == 0 {
			return 0, fault
		}
		b = b[:min(short.Bytes, len(b)-1)]
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.dead {
		return 0, errCrashed
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	if err := f.grow(max(at+int64(len(b))-f.n.data.size, 0)); err != nil {
		return 0, err
	}
	w := write{at: at, data: append([]byte{}, b...)}
	w.apply(&f.n.data)
	f.n.pending = append(f.n.pending, w)
	return len(b), fault
}

func (f *memFile) Sync() error {
	if err := f.m.ask(OpSync, f.name); err != nil {
		// The pages are clean now and the bytes are nowhere.
		f.n.mu.Lock()
		f.n.pending = nil
		f.n.mu.Unlock()
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.dead {
		return errCrashed
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	for _, w := range f.n.pending {
		w.apply(&f.n.safe)
	}
	f.n.pending = nil
	return nil
}

func (f *memFile) size(op Op, size int64, only bool) error {
	if err := f.m.ask(op, f.name); err != nil {
		return err
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.dead {
		return errCrashed
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	by := size - f.n.data.size
	if only && by <= 0 {
		return nil
	}
	if err := f.grow(by); err != nil {
		return err
	}
	f.n.resize(size)
	return nil
}

func (f *memFile) Truncate(size int64) error { return f.size(OpTruncate, size, false) }
func (f *memFile) Allocate(size int64) error { return f.size(OpAllocate, size, true) }

func (f *memFile) Size() (int64, error) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	return f.n.data.size, nil
}

func (f *memFile) Drop(int64, int64) {}

// errUnaligned is what the kernel says to direct reads and writes that no disk can do.
var errUnaligned = fmt.Errorf("direct read or write of odd bytes: %w", syscall.EINVAL)

func aligned(b []byte, at int64) bool {
	return at%Block == 0 && len(b)%Block == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%Block == 0
}

func (f *memFile) WriteDirect(b []byte, at int64) (int, error) {
	if !aligned(b, at) {
		return 0, errUnaligned
	}
	return f.WriteAt(b, at)
}

func (f *memFile) ReadDirect(b []byte, at int64) (int, error) {
	if !aligned(b, at) {
		return 0, errUnaligned
	}
	return f.ReadAt(b, at)
}

// Cached is never true, so that tests of the engine go the ways of cold files.
func (f *memFile) Cached(int64, int64) (all, known bool) { return false, true }

// Map implements [File] with a copy, which is spoilt by unmap: who still uses it finds out.
func (f *memFile) Map(offset int64, length int) (mem []byte, unmap func() error, err error) {
	mem = make([]byte, length)
	if offset%Block != 0 {
		return nil, nil, errUnaligned
	}
	if _, err := f.ReadAt(mem, offset); err != nil {
		return nil, nil, err
	}
	return mem, func() error {
		for i := range min(len(mem), Block) {
			mem[i] = 0xdb
		}
		for n := Block; n < len(mem); n *= 2 {
			copy(mem[n:], mem[:n])
		}
		return nil
	}, nil
}
