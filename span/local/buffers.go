package local

import (
	"math/bits"
	"sync"

	"github.com/braidstream/braid/span/local/vfs"
)

// Read buffers, by powers of two from 4 KiB to 64 MiB; the larger ones suit direct reads.
const (
	minBufferBits = 12
	maxBufferBits = 26
)

var buffers [maxBufferBits - minBufferBits + 1]sync.Pool

// getBuffer returns a buffer of at least n bytes, with that length.
func getBuffer(n int) *[]byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minBufferBits) - minBufferBits
	if class >= len(buffers) {
		b := make([]byte, n)
		return &b
	}
	if v := buffers[class].Get(); v != nil {
		b := v.(*[]byte)
		*b = (*b)[:n]
		return b
	}
	size := 1 << (class + minBufferBits)
	b := make([]byte, n, size)
	if size >= 2*vfs.Block {
		b = vfs.Aligned(size)[:n]
	}
	return &b
}

// putBuffer gives a buffer back; nobody may look at it any more. nil is nothing.
func putBuffer(b *[]byte) {
	if b == nil {
		return
	}
	c := cap(*b)
	if c < 1<<minBufferBits || c > 1<<maxBufferBits || c&(c-1) != 0 {
		return
	}
	*b = (*b)[:c]
	buffers[bits.Len(uint(c))-1-minBufferBits].Put(b)
}
