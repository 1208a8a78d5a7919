package wire

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Pooled buffers come in powers of two from 4 KiB to 16 MiB: a producer that
// fills the batches of a dozen partitions sends requests of that size, and
// clearing fresh memory for each costs as much as receiving it. Larger ones are
// left to the collector, since a pool would keep them for nothing most of the time.
const (
	minClass = 12
	maxClass = 24
)

// Buffer is a pooled, reference-counted run of bytes. Who holds a reference may
// read B; it must not be touched after the last Release. A frame's batches
// alias its buffer, so it is retained until the last of them was acknowledged.
type Buffer struct {
	B []byte

	whole []byte // B's storage
	class int8   // -1: not pooled
	refs  atomic.Int32
}

var bufferPools [maxClass - minClass + 1]sync.Pool

// NewBuffer returns a buffer of n bytes with one reference. The bytes are not
// zeroed.
func NewBuffer(n int) *Buffer {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	var b *Buffer
	if class > maxClass {
		b = &Buffer{whole: make([]byte, n), class: -1}
	} else if pooled, ok := bufferPools[class-minClass].Get().(*Buffer); ok {
		b = pooled
	} else {
		b = &Buffer{whole: make([]byte, 1<<class), class: int8(class - minClass)}
	}
	b.B = b.whole[:n]
	b.refs.Store(1)
	return b
}

// capOf is how many bytes a buffer for n can hold.
func capOf(n int) int {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class > maxClass {
		return n
	}
	return 1 << class
}

// Cap is how many bytes the buffer can hold.
func (b *Buffer) Cap() int { return len(b.whole) }

// Retain adds a reference.
func (b *Buffer) Retain() *Buffer {
	for {
		n := b.refs.Load()
		if n <= 0 {
			panic("wire: buffer retained after its release")
		}
		if b.refs.CompareAndSwap(n, n+1) {
			return b
		}
	}
}

// Release drops a reference; with the last one the bytes go back to the pool.
func (b *Buffer) Release() {
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		// Two owners of one pooled buffer would mix records of strangers.
		panic("wire: buffer released twice")
	}
	b.B = nil
	if b.class >= 0 {
		bufferPools[b.class].Put(b)
	}
}
