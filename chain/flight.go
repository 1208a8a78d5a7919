package chain

import (
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// flight is one append inside of this package, from the caller's call to its
// answer. It belongs to its partition (under mu) except while a store has it.
type flight struct {
	sa span.Append // what the store gets; Tag is the flight
	a  *Append
	p  *Partition
	t  *target // where it was submitted last

	// ticket orders the appends of a partition: whatever is refused or held goes on in this order.
	ticket   uint64
	chunk    *chunk
	at, size int // the batch in chunk.buf
	deadline time.Time
	since    time.Time // when it was first held; zero if never
	came     time.Time // when the caller was asked for it

	producer int64
	records  int32
	first    int32 // sequences
	last     int32
	epoch    int16

	// unknown: an attempt may have landed, in t's copy at or past floor if so.
	unknown bool
	floor   int64
	// lease is the session under which it was last routed to a copy that cannot be sealed.
	lease int64
	// rejected: what the copy said, while the sealed state is asked whether it is a duplicate of old.
	rejected error
	// shared: a store still has the bytes from an attempt that was given up on, so they must not be patched.
	shared bool
	// abandoned: another flight took over; only the memory waits for the store.
	abandoned bool
	txn       string // transactional id on the copy's cluster, "" for none
	rewritten bool   // the batch carries a producer of a cluster's own
	held      bool   // counted against the bound of held bytes

	prev, next *flight // in target.flying
}

var flightPool = sync.Pool{New: func() any { return new(flight) }}

func (f *flight) batch() []byte { return f.chunk.buf[f.at : f.at+f.size : f.at+f.size] }

// crc is the checksum of the batch as it was appended.
func (f *flight) crc() uint32 {
	if !f.rewritten {
		return f.a.Header.CRC
	}
	h, _, _ := batch.Parse(f.batch()) // it was parsed before
	return h.CRC
}

func (f *flight) hasProducer() bool { return f.producer >= 0 }

// free gives the flight back; nothing may refer to it any more.
func (f *flight) free() {
	if f.chunk != nil {
		f.chunk.drop()
	}
	*f = flight{}
	flightPool.Put(f)
}

// flightList is a doubly linked list of flights that a store has.
type flightList struct {
	head, tail *flight
	n          int
}

func (l *flightList) push(f *flight) {
	f.prev, f.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = f
	} else {
		l.head = f
	}
	l.tail = f
	l.n++
}

func (l *flightList) remove(f *flight) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.head = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.tail = f.prev
	}
	f.prev, f.next = nil, nil
	l.n--
}

func byTicket(fs []*flight) {
	slices.SortFunc(fs, func(a, b *flight) int {
		switch {
		case a.ticket < b.ticket:
			return -1
		case a.ticket > b.ticket:
			return 1
		}
		return 0
	})
}
