// Package vfs is the seam between the embedded engine and the file system: the
// operating system's ([OS]), or a double in memory that can crash ([Mem]).
package vfs

import (
	"errors"
	"io"
	"unsafe"
)

// FS is a file system. Methods may be called concurrently. Names are paths as
// the operating system takes them. Errors wrap those of package io/fs
// (fs.ErrNotExist, …) and syscall (ENOSPC, EIO) where they apply.
type FS interface {
	// Create makes an empty file for reading and writing, or empties the one that
	// is there. Its name outlives a crash only after SyncDir of its directory.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a tree; none is no error.
	RemoveAll(name string) error
	// Rename moves a file, in place of one that is there.
	Rename(from, to string) error
	// MkdirAll makes a directory and those above it.
	MkdirAll(name string) error
	// List returns the names in a directory, in no order.
	List(dir string) ([]string, error)
	// Stat describes a file without following a symbolic link.
	Stat(name string) (Info, error)
	// SyncDir makes what happened to the names of a directory outlive a crash.
	SyncDir(dir string) error
	// Lock takes the lock file for this process until the closer is closed; the
	// file then holds text. It fails with a [*LockedError] if another one has it.
	Lock(name, text string) (io.Closer, error)
	// Space is the room on the file system that holds dir, in bytes.
	Space(dir string) (Space, error)
}

// File is an open file. WriteAt calls of one file must not overlap in time;
// all else may be concurrent.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Sync makes what was written, and the size, outlive a crash (fdatasync).
	Sync() error
	Truncate(size int64) error
	// Allocate reserves room up to size and makes the file that long; what was
	// not written reads as zeros. Where the file system cannot reserve, it only
	// sets the size.
	Allocate(size int64) error
	Size() (int64, error)
	// WriteDirect is WriteAt past the page cache: b, made by [Aligned], goes to the
	// disk without a copy and pushes nothing else out of the cache. at and len(b)
	// are multiples of [Block]. Only Sync makes it outlive a crash. Where the file
	// system knows no such thing it is WriteAt.
	WriteDirect(b []byte, at int64) (int, error)
	// ReadDirect is ReadAt past the page cache, with the terms of WriteDirect.
	ReadDirect(b []byte, at int64) (int, error)
	// Cached tells whether reading a range would find all of it in the page cache.
	// known is false where that cannot be told.
	Cached(offset, length int64) (all, known bool)
	// Map returns length bytes from offset on as memory of the page cache, until unmap.
	// All of them must lie within the file, and not be written to or cut off meanwhile.
	// offset is a multiple of [Block]. The memory is for the kernel: a system call that
	// is given it fails where the disk does, and the process would end by a signal.
	Map(offset int64, length int) (mem []byte, unmap func() error, err error)
	// Drop tells that a range will not be read soon, so that it does not push
	// hotter pages out of the page cache. A hint: there is no error.
	Drop(offset, length int64)
}

// Block is what positions, lengths and addresses of direct reads and writes are
// multiples of.
const Block = 4096

// Aligned returns n zero bytes whose address suits direct reads and writes; so do those
// of slices of it from a multiple of [Block] on.
func Aligned(n int) []byte {
	b := make([]byte, n+Block)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Block - 1))
	return b[skip : skip+n : skip+n]
}

// Info describes a file.
type Info struct {
	Size    int64
	Dir     bool
	Symlink bool
	Node    Node // of a file
}

// Node tells which file it is, whatever its name: no two that exist have the same. Zero is none.
type Node struct{ Dev, Ino uint64 }

// Space is the room on a file system in bytes; Free is what this process may use.
type Space struct {
	Total, Free uint64
}

// LockedError tells that another process holds a lock file.
type LockedError struct {
	Name string
	Text string // what the holder wrote into it
}

func (e *LockedError) Error() string {
	if e.Text == "" {
		return "lock " + e.Name + " is held by another process"
	}
	return "lock " + e.Name + " is held by " + e.Text
}

// ErrNotDir tells that a name is no directory.
var ErrNotDir = errors.New("not a directory")
