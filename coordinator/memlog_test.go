package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
)

// memLog is a partition as a broker keeps it: it knows producers' epochs and
// sequences, and tells duplicates.
type memLog struct {
	mu        sync.Mutex
	start     int64
	end       int64
	batches   []memBatch
	producers map[int64]memProducer
	fault     func(n int) fault // for the n-th append
	appends   int
	trims     int
	gate      chan struct{} // appends wait for it if not nil
	hidden    []memBatch    // by goAway
	missing   int64
	looks     int  // at what is sealed
	untrimmed bool // trims fail
}

type memBatch struct {
	base, next int64
	b          []byte
}

type memProducer struct {
	epoch int16
	last  int32
	base  int64
}

type fault int

const (
	faultNone   fault = iota
	faultBefore       // refused, nothing landed
	faultAfter        // landed, and the answer is lost
)

var errFault = errors.New("fault")

func (l *memLog) Append(b []byte, _ time.Time, done func(int64, error)) {
	b = slices.Clone(b)
	l.mu.Lock()
	gate := l.gate
	l.appends++
	n := l.appends
	l.mu.Unlock()
	go func() {
		if gate != nil {
			<-gate
		}
		done(l.append(b, n))
	}()
}

func (l *memLog) append(b []byte, n int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := faultNone
	if l.fault != nil {
		f = l.fault(n)
	}
	if f == faultBefore {
		return -1, errFault
	}
	h, err := batch.Validate(b, batch.Limits{})
	if err != nil {
		return -1, err
	}
	p, known := l.producers[h.ProducerID]
	switch {
	case known && h.ProducerEpoch < p.epoch:
		return -1, ErrFenced
	case known && h.ProducerEpoch == p.epoch && h.LastSequence() == p.last:
		return p.base, nil
	case known && h.ProducerEpoch > p.epoch && h.BaseSequence != 0,
		known && h.ProducerEpoch == p.epoch && h.BaseSequence != batch.IncrementSequence(p.last, 1):
		return -1, ErrBroken
	}
	l.producers[h.ProducerID] = memProducer{h.ProducerEpoch, h.LastSequence(), l.end}
	batch.SetBaseOffset(b, l.end)
	base := l.end
	l.end += int64(h.NumRecords)
	l.batches = append(l.batches, memBatch{base, l.end, b})
	if f == faultAfter {
		return -1, errFault
	}
	return base, nil
}

func (l *memLog) Start(context.Context) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.start, nil
}

func (l *memLog) Read(_ context.Context, offset int64, maxBytes int) ([]byte, int64, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset < l.start || offset > l.end && len(l.batches) > 0 {
		return nil, 0, nil, fmt.Errorf("offset %d of [%d, %d)", offset, l.start, l.end)
	}
	var run []byte
	for _, b := range l.batches {
		if b.next <= offset {
			continue
		}
		if len(run) > 0 && len(run)+len(b.b) > maxBytes {
			break
		}
		run = append(run, b.b...)
	}
	return run, l.end, func() {}, nil
}

func (l *memLog) Trim(_ context.Context, before int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trims++
	if l.untrimmed {
		return errFault
	}
	l.start = max(l.start, before)
	l.hidden = slices.DeleteFunc(l.hidden, func(b memBatch) bool { return b.next <= l.start })
	l.batches = slices.DeleteFunc(l.batches, func(b memBatch) bool { return b.next <= l.start })
	return nil
}

func (l *memLog) Sealed() (upTo, missing int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.looks++
	if l.missing <= l.start {
		return 0, 0
	}
	return l.missing, l.missing
}

// goAway is the loss of the cluster that has the log from an offset on, until comeBack: the log goes on behind a hole.
func (l *memLog) goAway(from int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := 0
	for at < len(l.batches) && l.batches[at].base < from {
		at++
	}
	l.hidden, l.batches = append(l.hidden, l.batches[at:]...), slices.Clone(l.batches[:at])
	l.end += 1 << 32
	l.missing, l.looks = l.end, 0
}

func (l *memLog) comeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = append(l.batches, l.hidden...)
	slices.SortFunc(l.batches, func(a, b memBatch) int { return cmp.Compare(a.base, b.base) })
	l.hidden, l.missing = nil, 0
}

// lookedAt tells whether it was asked a few times since it went away for what is sealed.
func (l *memLog) lookedAt() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.looks >= 8
}

func (l *memLog) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, b := range l.batches {
		n += len(b.b)
	}
	return n
}

// lose is the loss of a cluster: what is there cannot be read any more, and the
// log goes on behind a hole.
func (l *memLog) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches = nil
	l.end += 1 << 32
}

// killer ends a gateway at its n-th operation on the catalog or a log: before it is
// carried out, or after it, with the answer lost.
type killer struct {
	mu    sync.Mutex
	n, at int
	after bool
	dead  bool
	g     *fleetMember
}

// step carries an operation out; false if the gateway is dead by then.
func (k *killer) step(op func()) bool {
	if k == nil {
		op()
		return true
	}
	k.mu.Lock()
	k.n++
	now := k.n == k.at && !k.dead
	dead := k.dead
	k.dead = k.dead || now
	k.mu.Unlock()
	if dead {
		return false
	}
	if !now || k.after {
		op()
	}
	if now {
		k.g.freeze()
		go k.g.expire()
	}
	return !now
}

func (k *killer) killed() bool {
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dead
}

// killLog is a log through a killer.
type killLog struct {
	k *killer
	*memLog
}

func (l killLog) Append(b []byte, deadline time.Time, done func(int64, error)) {
	b = slices.Clone(b)
	go func() {
		start, err := int64(-1), errFault
		if !l.k.step(func() { start, err = l.append(b, 0) }) {
			start, err = -1, errFault
		}
		done(start, err)
	}()
}

func (l killLog) Start(ctx context.Context) (start int64, err error) {
	if !l.k.step(func() { start, err = l.memLog.Start(ctx) }) {
		return 0, errFault
	}
	return start, err
}

func (l killLog) Read(ctx context.Context, offset int64, maxBytes int) (b []byte, hw int64, release func(), err error) {
	if !l.k.step(func() { b, hw, release, err = l.memLog.Read(ctx, offset, maxBytes) }) {
		return nil, 0, nil, errFault
	}
	return b, hw, release, err
}

func (l killLog) Trim(ctx context.Context, before int64) (err error) {
	if !l.k.step(func() { err = l.memLog.Trim(ctx, before) }) {
		return errFault
	}
	return err
}
