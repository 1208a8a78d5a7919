package local

import (
	"golang.org/x/sys/unix"

	"github.com/braidstream/braid/span/local/vfs"
)

// pages is memory from the system instead of the heap. The collector lets the heap grow by a part of
// what is alive: 64 MiB of log in memory would let it grow by dozens of MiB that are of no use to anybody.
// It is for buffers whose users are counted, since whoever looks at it after free ends the process.
type pages struct {
	buf    []byte
	mapped bool
}

// newPages returns n zero bytes that suit direct reads and writes.
func newPages(n int) pages {
	// The race detector does not see memory that is not Go's.
	if !raceEnabled {
		if b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err == nil {
			return pages{b, true}
		}
		// Out of address space or of mappings: the heap may still have room.
	}
	return pages{buf: vfs.Aligned(n)}
}

// free gives the memory back; nobody may look at it any more.
func (p pages) free() {
	if p.mapped {
		_ = unix.Munmap(p.buf) // fails for addresses that are no mapping only
	}
}
