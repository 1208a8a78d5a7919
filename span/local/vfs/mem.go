package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Op is a kind of operation of [Mem], for faults.
type Op string

// The operations that a fault may concern.
const (
	OpCreate   Op = "create"
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpSync     Op = "sync"
	OpTruncate Op = "truncate"
	OpAllocate Op = "allocate"
	OpRemove   Op = "remove"
	OpRename   Op = "rename"
	OpMkdir    Op = "mkdir"
	OpSyncDir  Op = "syncdir"
)

// Mem is a file system in memory that can crash: see [Mem.Crash]. What it promises
// about the time after a crash is as little as a real one does: bytes that
// Sync returned for, and names that SyncDir returned for.
//
// The zero value is not ready; use [NewMem].
type Mem struct {
	mu    sync.Mutex
	files map[string]*inode // as processes see it now
	dirs  map[string]bool
	// What a crash leaves for sure, and the changes of names since, in order.
	safeFiles map[string]*inode
	safeDirs  map[string]bool
	changes   []change
	locks     map[string]*memLock
	lockCount uint64
	used      int64
	capacity  int64
	fault     func(op Op, name string) error
	dead      bool
	inodes    uint64 // made so far
}

// change is a change of names.
type change struct {
	op       Op
	name, to string
	node     *inode
}

// NewMem returns an empty file system without a limit.
func NewMem() *Mem {
	return &Mem{
		files: map[string]*inode{}, dirs: map[string]bool{"/": true, ".": true},
		safeFiles: map[string]*inode{}, safeDirs: map[string]bool{"/": true, ".": true},
		locks: map[string]*memLock{}, capacity: 1 << 62,
	}
}

var _ FS = (*Mem)(nil)

// errCrashed is what everybody gets who still holds a crashed file system.
var errCrashed = fmt.Errorf("file system has crashed: %w", syscall.EIO)

// ShortWrite is a fault of a write that comes when its first bytes are written: Bytes of them, and at
// least one less than all.
type ShortWrite struct {
	Bytes int
	Err   error
}

func (e *ShortWrite) Error() string { return fmt.Sprintf("after %d bytes: %v", e.Bytes, e.Err) }
func (e *ShortWrite) Unwrap() error { return e.Err }

// SetFault sets what is asked before each operation; an error of it is the
// operation's. It may block, to delay the operation. A write that fails so has
// written nothing, unless the error is a [*ShortWrite]; a sync that fails so loses what it should have made safe, as
// Linux does: the next sync succeeds without it.
func (m *Mem) SetFault(f func(op Op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// SetCapacity sets how many bytes fit; what is over it fails with ENOSPC.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Used is the size of all files in bytes.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// ask runs the fault without holding the lock.
func (m *Mem) ask(op Op, name string) error {
	m.mu.Lock()
	f, dead := m.fault, m.dead
	m.mu.Unlock()
	if dead {
		return errCrashed
	}
	if f == nil {
		return nil
	}
	if err := f(op, name); err != nil {
		return &fs.PathError{Op: string(op), Path: name, Err: err}
	}
	return nil
}

func notExist(op Op, name string) error {
	return &fs.PathError{Op: string(op), Path: name, Err: fs.ErrNotExist}
}

func (m *Mem) parent(op Op, name string) error {
	if !m.dirs[filepath.Dir(name)] {
		return notExist(op, filepath.Dir(name))
	}
	return nil
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	name = filepath.Clean(name)
	if err := m.ask(OpCreate, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.parent(OpCreate, name); err != nil {
		return nil, err
	}
	if n := m.files[name]; n != nil {
		n.mu.Lock()
		m.used -= n.resize(0)
		n.mu.Unlock()
		return &memFile{m: m, n: n, name: name}, nil
	}
	m.inodes++
	n := &inode{number: m.inodes}
	m.files[name] = n
	m.changes = append(m.changes, change{op: OpCreate, name: name, node: n})
	return &memFile{m: m, n: n, name: name}, nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) { return m.open(name) }

// OpenWrite implements [FS].
func (m *Mem) OpenWrite(name string) (File, error) { return m.open(name) }

func (m *Mem) open(name string) (File, error) {
	name = filepath.Clean(name)
	if err := m.ask(OpOpen, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[name]
	if n == nil {
		return nil, notExist(OpOpen, name)
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	name = filepath.Clean(name)
	if err := m.ask(OpRemove, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.remove(name)
}

func (m *Mem) remove(name string) error {
	if n := m.files[name]; n != nil {
		n.mu.Lock()
		m.used -= n.data.size
		n.mu.Unlock()
		delete(m.files, name)
		m.changes = append(m.changes, change{op: OpRemove, name: name})
		return nil
	}
	if m.locks[name] != nil {
		delete(m.locks, name) // who holds it does not notice
		return nil
	}
	if !m.dirs[name] {
		return notExist(OpRemove, name)
	}
	for _, other := range m.names(name) {
		return &fs.PathError{Op: "remove", Path: filepath.Join(name, other), Err: syscall.ENOTEMPTY}
	}
	delete(m.dirs, name)
	m.changes = append(m.changes, change{op: OpRemove, name: name})
	return nil
}

// RemoveAll implements [FS].
func (m *Mem) RemoveAll(name string) error {
	name = filepath.Clean(name)
	if err := m.ask(OpRemove, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.removeAll(name)
}

func (m *Mem) removeAll(name string) error {
	if m.dirs[name] {
		for _, n := range m.names(name) {
			if err := m.removeAll(filepath.Join(name, n)); err != nil {
				return err
			}
		}
	}
	if err := m.remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rename implements [FS], for files.
func (m *Mem) Rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	if err := m.ask(OpRename, from); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[from]
	if n == nil {
		return notExist(OpRename, from)
	}
	if err := m.parent(OpRename, to); err != nil {
		return err
	}
	if old := m.files[to]; old != nil {
		old.mu.Lock()
		m.used -= old.data.size
		old.mu.Unlock()
	}
	delete(m.files, from)
	m.files[to] = n
	m.changes = append(m.changes, change{op: OpRename, name: from, to: to, node: n})
	return nil
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(name string) error {
	name = filepath.Clean(name)
	if err := m.ask(OpMkdir, name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var missing []string
	for d := name; !m.dirs[d]; d = filepath.Dir(d) {
		if m.files[d] != nil {
			return &fs.PathError{Op: "mkdir", Path: d, Err: ErrNotDir}
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		m.dirs[missing[i]] = true
		m.changes = append(m.changes, change{op: OpMkdir, name: missing[i]})
	}
	return nil
}

func (m *Mem) names(dir string) []string {
	var out []string
	for name := range m.files {
		if filepath.Dir(name) == dir {
			out = append(out, filepath.Base(name))
		}
	}
	for name := range m.dirs {
		if filepath.Dir(name) == dir && name != dir {
			out = append(out, filepath.Base(name))
		}
	}
	return out
}

// List implements [FS].
func (m *Mem) List(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	if err := m.ask(OpRead, dir); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[dir] {
		return nil, notExist(OpOpen, dir)
	}
	return m.names(dir), nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (Info, error) {
	name = filepath.Clean(name)
	if err := m.ask(OpRead, name); err != nil {
		return Info{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[name] {
		return Info{Dir: true}, nil
	}
	if l := m.locks[name]; l != nil {
		return Info{Node: l.node}, nil
	}
	n := m.files[name]
	if n == nil {
		return Info{}, notExist(OpOpen, name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return Info{Size: n.data.size, Node: Node{Dev: 1, Ino: n.number}}, nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	if err := m.ask(OpSyncDir, dir); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.dirs[dir] {
		return notExist(OpOpen, dir)
	}
	keep := m.changes[:0]
	for _, c := range m.changes {
		if filepath.Dir(c.name) == dir || c.to != "" && filepath.Dir(c.to) == dir {
			c.apply(m.safeFiles, m.safeDirs)
		} else {
			keep = append(keep, c)
		}
	}
	m.changes = keep
	return nil
}

func (c change) apply(files map[string]*inode, dirs map[string]bool) {
	switch c.op {
	case OpCreate:
		files[c.name] = c.node
	case OpMkdir:
		dirs[c.name] = true
	case OpRename:
		delete(files, c.name)
		files[c.to] = c.node
	case OpRemove:
		delete(files, c.name)
		delete(dirs, c.name)
	}
}

// Lock implements [FS].
func (m *Mem) Lock(name, text string) (io.Closer, error) {
	name = filepath.Clean(name)
	if err := m.ask(OpCreate, name); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if held := m.locks[name]; held != nil {
		return nil, &LockedError{Name: name, Text: held.text}
	}
	m.lockCount++
	l := &memLock{text: text, node: Node{Dev: 2, Ino: m.lockCount}}
	m.locks[name] = l
	return closeFunc(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.locks[name] == l {
			delete(m.locks, name)
		}
		return nil
	}), nil
}

// memLock is a lock file while it is held. It has a name to stat and to remove, and is not listed.
type memLock struct {
	text string
	node Node
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }

// Space implements [FS].
func (m *Mem) Space(string) (Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Space{Total: uint64(m.capacity), Free: uint64(max(m.capacity-m.used, 0))}, nil
}

// Tree lists all files with their sizes, sorted, for tests' messages.
func (m *Mem) Tree() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lines []string
	for name, n := range m.files {
		n.mu.Lock()
		lines = append(lines, fmt.Sprintf("%s %d", name, n.data.size))
		n.mu.Unlock()
	}
	return strings.Join(lines, "\n")
}

// Flip changes bits of one byte, in what is read now and after a crash.
func (m *Mem) Flip(name string, at int64, mask byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.files[filepath.Clean(name)]
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.data.flip(at, mask)
	n.safe.flip(at, mask)
}

// Sizes returns all files with their sizes in bytes.
func (m *Mem) Sizes() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]int64, len(m.files))
	for name, n := range m.files {
		n.mu.Lock()
		out[name] = n.data.size
		n.mu.Unlock()
	}
	return out
}
