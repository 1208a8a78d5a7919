package kafka

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

const (
	fetchMinVersion = 13 // topics by id
	fetchMaxVersion = 17
	// fetchBytes is how much one Fetch asks for; the first batch may be larger.
	fetchBytes = 8 << 20
	// maxFetchFrame bounds an answer: a broker may have batches of that size.
	maxFetchFrame = 256 << 20
	// longestPoll bounds one long poll, so that sets of partitions mix anew; shortPoll
	// that on the last free connection, which newcomers wait for.
	longestPoll = 2 * time.Second
	shortPoll   = 10 * time.Millisecond
)

// fetcher reads from one broker. Reads that return at once and reads that wait
// have connections of their own; each connection has one Fetch under way, for
// all partitions that stood in line when it began. There are no fetch sessions.
//
// A waiting read joins by a free connection. The last free one polls briefly, so
// that newcomers need not wait for long. Another connection that comes back
// meanwhile leaves its partitions to it: together they join one longer poll, and
// connections are free again. Partitions that had nothing stay in line here; their
// readers are not woken for that.
type fetcher struct {
	s *Store
	b *broker

	mu    sync.Mutex
	kinds [2]fetchQueue // at once, waiting
	conns map[*conn]struct{}
	ended bool
}

type fetchQueue struct {
	waiting []*fetch
	workers int
	busy    int
	short   int // of the busy ones, those that poll briefly
	wake    chan struct{}
}

// fetch is one partition in line for a Fetch.
type fetch struct {
	id        [16]byte
	index     int32
	epoch     int32
	last      int32 // last fetched epoch, -1 unknown
	offset    int64
	maxBytes  int32
	committed bool
	until     time.Time // zero: at once
	first     bool      // is to be first in its request, and was not served otherwise
	burst     *span.Burst
	owner     string
	abandoned atomic.Bool
	result    chan fetched
	delivered bool // the worker's own note
}

// fetched is one partition's share of an answer.
type fetched struct {
	wire.FetchResult
	frame *frame // nil on errors
	owner string
	sent  time.Time
	first bool
	err   error // nothing was answered
}

// frame is an answer's buffer, shared by the partitions in it.
type frame struct {
	s    *Store
	buf  *wire.Buffer
	refs atomic.Int32
	size int64
}

func (f *frame) release() {
	if f.refs.Add(-1) == 0 {
		f.s.read.add(-f.size)
		f.buf.Release()
	}
}

// release gives a share of an answer back, once.
func (f *fetched) release() { f.frame.giveBack(f.owner, len(f.Records)) }

// giveBack is release, of as many bytes.
func (f *frame) giveBack(owner string, n int) {
	f.s.read.own(owner, -int64(n))
	f.release()
}

func newFetcher(b *broker) *fetcher {
	f := &fetcher{s: b.s, b: b, conns: map[*conn]struct{}{}}
	for i := range f.kinds {
		f.kinds[i].wake = make(chan struct{}, b.s.opts.FetchConns)
	}
	return f
}

// do stands in line and waits for the answer.
func (f *fetcher) do(ctx context.Context, r *fetch) (fetched, error) {
	r.result = make(chan fetched, 1)
	if err := f.s.read.begin(ctx, r.owner); err != nil {
		return fetched{}, err
	}
	defer f.s.read.end(r.owner)
	if !f.add(r) {
		return fetched{}, errClosed
	}
	select {
	case got := <-r.result:
		return got, got.err
	case <-ctx.Done():
	case <-f.b.ctx.Done():
	}
	r.abandoned.Store(true)
	// It may have been answered in between.
	select {
	case got := <-r.result:
		return got, got.err
	default:
	}
	if ctx.Err() != nil {
		return fetched{}, ctx.Err()
	}
	return fetched{}, errRetired
}

func (f *fetcher) add(r *fetch) bool {
	f.s.closeMu.RLock()
	defer f.s.closeMu.RUnlock()
	if f.s.closed {
		return false
	}
	i := 0
	if !r.until.IsZero() {
		i = 1
	}
	f.mu.Lock()
	q := &f.kinds[i]
	if r.first {
		q.waiting = slices.Insert(q.waiting, 0, r)
	} else {
		q.waiting = append(q.waiting, r)
	}
	start := q.busy == q.workers && q.workers < f.s.opts.FetchConns
	if start {
		q.workers++
	}
	f.mu.Unlock()
	if start {
		f.s.spawn(func() { f.work(i) })
	}
	if !r.burst.PutOff(q, nil) {
		q.Wake()
	}
	return true
}

// Put implements [span.Queue]; what is read stands in line already.
func (q *fetchQueue) Put(any) {}

// Wake implements [span.Queue].
func (q *fetchQueue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// abort cuts all connections: their long polls would last otherwise.
func (f *fetcher) abort() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for c := range f.conns {
		_ = c.nc.Close()
	}
}

// take makes the next Fetch's set: one isolation level, each partition once.
func (f *fetcher) take(i int) (set []*fetch, last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := &f.kinds[i]
	seen := map[partitionKey]bool{}
	room := int64(fetchBytes)
	rest := q.waiting[:0]
	for _, r := range q.waiting {
		key := partitionKey{r.id, r.index}
		switch {
		case r.abandoned.Load():
		case len(set) > 0 && (set[0].committed != r.committed || r.first || seen[key] || room <= 0 || len(set) >= maxPerRequest):
			rest = append(rest, r)
		default:
			seen[key] = true
			set = append(set, r)
			// A waiting partition mostly has nothing: its share is not counted.
			if i == 0 {
				room -= int64(r.maxBytes)
			}
		}
	}
	clear(q.waiting[len(rest):])
	q.waiting = rest
	if len(set) > 0 {
		q.busy++
		if last = i == 1 && q.busy == f.s.opts.FetchConns; last {
			q.short++
		}
		if len(rest) > 0 {
			select {
			case q.wake <- struct{}{}:
			default:
			}
		}
	}
	return set, last
}

// done ends a Fetch. What it kept stands first in line again. yield tells that
// a brief poll is under way, which will take the line with it.
func (f *fetcher) done(i int, last bool, kept []*fetch) (yield bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := &f.kinds[i]
	q.busy--
	if last {
		q.short--
	}
	if len(kept) > 0 {
		q.waiting = append(kept, q.waiting...)
	}
	return q.short > 0
}
