package chain

import (
	"slices"
	"sync"
	"time"

	"github.com/braidstream/braid/catalog"
)

// shelf shares what was read from copies among readers of the same records that
// are a few reads apart: consumers of several groups that go through a topic, or
// begin with it, at the same time. The first of them reads, and those who come
// while it does wait for it; the others are given the same bytes. What only one
// reader goes through is not kept: its buffers are used again while they are in
// the processor's caches.
//
// Runs stay for shelfTime, so that what was compacted away or lost meanwhile is
// not served for longer. They are checked against the chain at each use.
//
// mu is taken below Partition.mu, and nothing is called under it.
type shelf struct {
	limit int64
	keep  time.Duration // shelfTime, in some tests longer

	mu     sync.Mutex
	parts  map[*Partition]*shelfPart
	runs   []*shelved // all, oldest first
	bytes  int64
	by     map[string]int64 // bytes by tenant
	timer  *time.Timer      // runs while parts is not empty
	closed bool
}

const (
	shelfTime = 2 * time.Second
	// shelfReads is how many reads of a partition are remembered, to tell readers
	// that follow each other from one who goes on alone.
	shelfReads = 8
	// shelfLeast is the size below which a run is not worth its place.
	shelfLeast = 4 << 10
)

// shelfPart is what is known of the latest reads of one partition's copies.
type shelfPart struct {
	runs    []*shelved
	reading []*shelfRead
	seen    [shelfReads]int64 // offsets at which reads began
	next    int               // of seen
	shared  time.Time         // when a read was last asked for twice
	used    time.Time
}

type shelved struct {
	piece
	p    *Partition
	txn  bool // holds batches of transactions
	max  int  // what its reader asked for: one who asks for more is not served short
	born time.Time
}

// shelfRead is a read of a copy that is under way.
type shelfRead struct {
	span    int32
	offset  int64
	waiting int
	repeat  bool // it was asked for before, not long ago
	done    chan struct{}
}

func (s *shelf) part(p *Partition) *shelfPart {
	q := s.parts[p]
	if q == nil {
		q = &shelfPart{}
		for i := range q.seen {
			q.seen[i] = -1
		}
		if s.parts == nil {
			s.parts = map[*Partition]*shelfPart{}
		}
		s.parts[p] = q
		if s.timer == nil {
			s.timer = time.AfterFunc(s.keep, s.sweep)
		}
	}
	return q
}

// begin tells that offset is about to be read. Where somebody does that already,
// other is what to wait for; else the caller calls end, once.
func (s *shelf) begin(p *Partition, span int32, offset int64, wait bool) (own, other *shelfRead) {
	if s.limit == 0 {
		return nil, nil
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil
	}
	q := s.part(p)
	q.used = now
	for _, r := range q.reading {
		if r.span == span && r.offset == offset && wait {
			r.waiting++
			q.shared = now
			return nil, r
		}
	}
	own = &shelfRead{span: span, offset: offset, done: make(chan struct{})}
	for _, at := range q.seen {
		own.repeat = own.repeat || at == offset
	}
	if own.repeat {
		q.shared = now
	}
	q.seen[q.next%shelfReads] = offset
	q.next++
	own.repeat = own.repeat || now.Sub(q.shared) < s.keep
	q.reading = append(q.reading, own)
	return own, nil
}

// end tells that a read ended, with nothing to share for an empty res. What is
// shared is released by the shelf and its readers: res.Release changes. max is
// how many bytes were asked for.
func (s *shelf) end(p *Partition, own *shelfRead, res *ReadResult, held, max int) {
	if own == nil {
		return
	}
	s.mu.Lock()
	q := s.part(p)
	for i, r := range q.reading {
		if r == own {
			q.reading = append(q.reading[:i], q.reading[i+1:]...)
			break
		}
	}
	var old []*shelved
	if n := len(res.Batches); (own.repeat || own.waiting > 0) && n >= shelfLeast && held <= 4*n && !s.closed {
		if run := newShelved(p, own.span, res, held); run != nil {
			run.max = max
			old = s.put(q, run)
		}
	}
	s.mu.Unlock()
	close(own.done)
	drop(old)
}

// newShelved makes a run of a result, which then belongs to both.
func newShelved(p *Partition, span int32, res *ReadResult, held int) *shelved {
	var t tail
	c := &chunk{buf: res.Batches, used: len(res.Batches), class: -1, release: res.Release, size: int64(max(held, len(res.Batches)))}
	c.refs.Store(1) // the caller's
	t.addRun(c, 0, len(res.Batches), span)
	if len(t.pieces) != 1 {
		// A gap within: compacted. Its readers are not many.
		for i := range t.pieces {
			t.pieces[i].c = nil
		}
		return nil
	}
	res.Release = c.drop
	return &shelved{piece: t.pieces[0], p: p, txn: t.txn > 0, born: time.Now()}
}

// put adds a run and takes out what there is no room for. Needs mu; the caller
// drops what it returns.
func (s *shelf) put(q *shelfPart, run *shelved) (old []*shelved) {
	q.runs = append(q.runs, run)
	s.runs = append(s.runs, run)
	s.bytes += run.c.size
	if s.by == nil {
		s.by = map[string]int64{}
	}
	s.by[run.p.tenant] += run.c.size
	for s.bytes > s.limit && len(s.runs) > 0 {
		old = append(old, s.takeOut(s.ofMost()))
	}
	return old
}

// ofMost finds the oldest run of the tenant that has most. Needs mu.
func (s *shelf) ofMost() int {
	most := ""
	for tenant, n := range s.by {
		if n > s.by[most] {
			most = tenant
		}
	}
	for i, run := range s.runs {
		if run.p.tenant == most {
			return i
		}
	}
	return 0
}

// first takes out the oldest run. Needs mu.
func (s *shelf) first() *shelved { return s.takeOut(0) }

// takeOut takes out the run at a place. Needs mu.
func (s *shelf) takeOut(at int) *shelved {
	run := s.runs[at]
	if at == 0 {
		s.runs[0] = nil
		s.runs = s.runs[1:]
	} else {
		s.runs = slices.Delete(s.runs, at, at+1)
	}
	s.bytes -= run.c.size
	if s.by[run.p.tenant] -= run.c.size; s.by[run.p.tenant] <= 0 {
		delete(s.by, run.p.tenant)
	}
	q := s.parts[run.p]
	for i, r := range q.runs {
		if r == run {
			q.runs = append(q.runs[:i], q.runs[i+1:]...)
			break
		}
	}
	return run
}

func drop(runs []*shelved) {
	for _, run := range runs {
		run.c.drop()
	}
}

// find returns batches from offset on, as tail.find does. lso is what a reader
// of committed records may see, -1 for one of all records.
func (s *shelf) find(p *Partition, sp *catalog.Span, offset, lso int64, max int) (c *chunk, run []byte, ok bool) {
	if s.limit == 0 {
		return nil, nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.parts[p]
	if q == nil {
		return nil, nil, false
	}
	for _, r := range q.runs {
		if r.span != sp.Seq || offset < r.base || offset >= r.next {
			continue
		}
		if !sp.IsOpen() && (r.next > sp.End || leavesOut(sp, r.base, r.next)) {
			continue // the chain does not hold all of it
		}
		if lso >= 0 && (r.txn || r.next > lso) {
			continue // what was aborted only the copy can tell
		}
		b, _, found := r.cut(offset, r.next, max)
		if !found || max > r.max && offset == r.base {
			continue
		}
		q.shared = time.Now()
		q.used = q.shared
		r.c.retain()
		return r.c, b, true
	}
	return nil, nil, false
}

// sweep takes out what is old.
func (s *shelf) sweep() {
	now := time.Now()
	s.mu.Lock()
	var old []*shelved
	for len(s.runs) > 0 && now.Sub(s.runs[0].born) >= s.keep {
		old = append(old, s.first())
	}
	for p, q := range s.parts {
		if len(q.runs) == 0 && len(q.reading) == 0 && now.Sub(q.used) >= s.keep {
			delete(s.parts, p)
		}
	}
	if len(s.parts) > 0 && !s.closed {
		s.timer.Reset(s.keep / 4)
	} else {
		s.timer = nil
	}
	s.mu.Unlock()
	drop(old)
}

func (s *shelf) close() {
	s.mu.Lock()
	s.closed = true
	var old []*shelved
	for len(s.runs) > 0 {
		old = append(old, s.first())
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	drop(old)
}
