package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Direct reads and writes go by a descriptor of their own, opened for each: the flag
// belongs to the descriptor, and the one that stays open is for readers of the page
// cache. Opening costs a hundredth of the write of a mebibyte.

// WriteDirect implements [File].
func (f *osFile) WriteDirect(b []byte, at int64) (int, error) {
	n, err := f.direct(unix.O_WRONLY, b, at, unix.Pwrite)
	if impossible(err) {
		return f.WriteAt(b, at)
	}
	return n, err
}

// ReadDirect implements [File].
func (f *osFile) ReadDirect(b []byte, at int64) (int, error) {
	n, err := f.direct(unix.O_RDONLY, b, at, unix.Pread)
	if impossible(err) {
		return f.ReadAt(b, at)
	}
	return n, err
}

// errNotOpened: there is no second descriptor of the file to be had.
var errNotOpened = errors.New("not opened for direct access")

// impossible tells that the same may be done through the page cache and the descriptor that is open: the file
// system has no direct access, there is no descriptor left, the name is gone or is another file's by now.
func impossible(err error) bool {
	return errors.Is(err, errNotOpened) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOMEM)
}

// openDirect opens the file once more.
func (f *osFile) openDirect(flag int) (int, error) {
	fd, err := unix.Open(f.Name(), flag|unix.O_DIRECT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, errors.Join(errNotOpened, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || (Node{st.Dev, st.Ino}) != f.node {
		return -1, errors.Join(errNotOpened, err, unix.Close(fd))
	}
	return fd, nil
}

func (f *osFile) direct(flag int, b []byte, at int64, do func(int, []byte, int64) (int, error)) (int, error) {
	fd, err := f.openDirect(flag)
	done := 0
	for err == nil && done < len(b) {
		var n int
		n, err = do(fd, b[done:], at+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			err = nil
			continue
		case n > 0:
			done += n
		case err == nil && flag == unix.O_RDONLY:
			err = io.EOF
		case err == nil:
			err = io.ErrShortWrite
		}
		// A read ends odd at the end of the file only, from where no other can begin.
		if err == nil && done < len(b) && done%Block != 0 {
			err = io.EOF
		}
	}
	if fd >= 0 {
		err = errors.Join(err, unix.Close(fd))
	}
	if err == nil || errors.Is(err, io.EOF) {
		return done, err
	}
	return done, &fs.PathError{Op: "direct access", Path: f.Name(), Err: err}
}

// Cached implements [File] with cachestat, which Linux has since 6.5.
func (f *osFile) Cached(offset, length int64) (all, known bool) {
	first := offset / Block * Block
	length = (offset+length+Block-1)/Block*Block - first
	var st unix.Cachestat_t
	err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{Off: uint64(first), Len: uint64(length)}, &st, 0)
	// Pages are counted in the kernel's size.
	return err == nil && int64(st.Cache)*int64(os.Getpagesize()) >= length, err == nil
}

// Map implements [File].
func (f *osFile) Map(offset int64, length int) (mem []byte, unmap func() error, err error) {
	if mem, err = unix.Mmap(int(f.Fd()), offset, length, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, nil, &fs.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return mem, func() error { return unix.Munmap(mem) }, nil
}
