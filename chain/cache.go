package chain

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/batch"
)

// cache keeps the tails of all partitions within one bound. Who gives way when it is full: first what
// nobody reads any more, then the tenant that has most of it. Which of its partitions is a
// matter of a few samples: the least recently used of them, as good as an exact order and
// without a list that every read would have to lock.
type cache struct {
	limit   int64
	metrics *Metrics
	bytes   atomic.Int64
	poke    chan struct{}

	mu     sync.Mutex
	shares map[string]*cacheShare // by tenant
}

// cacheShare is what one tenant has of the cache. Guarded by cache.mu.
type cacheShare struct {
	bytes   int64
	members map[*Partition]struct{} // with something cached
}

func (c *cache) grow(p *Partition, n int64) {
	if n == 0 {
		return
	}
	c.metrics.CacheBytes.Add(float64(n))
	c.mu.Lock()
	s := c.shares[p.tenant]
	if s == nil {
		s = &cacheShare{members: map[*Partition]struct{}{}}
		c.shares[p.tenant] = s
	}
	s.members[p] = struct{}{}
	s.bytes += n
	c.mu.Unlock()
	if c.bytes.Add(n) > c.limit {
		poke(c.poke)
	}
}

func (c *cache) shrink(p *Partition, n int64) {
	if n == 0 {
		return
	}
	c.bytes.Add(-n)
	c.metrics.CacheBytes.Sub(float64(n))
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.shares[p.tenant]; s != nil {
		s.bytes -= n
		c.tidy(p.tenant, s)
	}
}

func (c *cache) leave(p *Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.shares[p.tenant]; s != nil {
		delete(s.members, p)
		c.tidy(p.tenant, s)
	}
}

// tidy forgets a share of nothing. Needs mu.
func (c *cache) tidy(tenant string, s *cacheShare) {
	if len(s.members) == 0 && s.bytes <= 0 {
		delete(c.shares, tenant)
	}
}

// of is what each tenant has.
func (c *cache) of() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int64, len(c.shares))
	for tenant, s := range c.shares {
		out[tenant] = s.bytes
	}
	return out
}

const evictSamples = 8

// victim is the partition that gives way.
func (c *cache) victim(now time.Time) *Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	var most *cacheShare
	n := 0
	for _, s := range c.shares { // in random order
		if n++; n <= evictSamples {
			if p := s.oldest(1); p != nil && now.UnixNano()-p.lastUse.Load() > int64(readerGone) {
				return p
			}
		}
		if len(s.members) > 0 && (most == nil || s.bytes > most.bytes) {
			most = s
		}
	}
	if most == nil {
		return nil
	}
	return most.oldest(evictSamples)
}

// oldest is the least recently used of a few.
func (s *cacheShare) oldest(of int) (v *Partition) {
	n := 0
	for p := range s.members { // in random order
		if v == nil || p.lastUse.Load() < v.lastUse.Load() {
			v = p
		}
		if n++; n == of {
			break
		}
	}
	return v
}

// evict keeps the cache below its bound.
func (l *Logs) evict(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.cache.poke:
		}
		for l.cache.bytes.Load() > l.cache.limit {
			p := l.cache.victim(time.Now())
			if p == nil {
				break
			}
			p.mu.Lock()
			if len(p.tail.pieces) > 0 {
				l.cache.shrink(p, p.tail.dropFirst())
			}
			if len(p.tail.pieces) == 0 {
				p.fill.reset()
				l.cache.leave(p)
			}
			p.unlock()
		}
	}
}

// early is an own batch that was acknowledged before what lies ahead of it is in
// the tail.
type early struct {
	c          *chunk
	from, to   int
	base, next int64
	span       int32
}

// maxEarly bounds those per partition.
const maxEarly = 256

// cacheOwn puts an acknowledged batch into the tail, so that readers that keep
// up cost the copy nothing.
func (p *Partition) cacheOwn(f *flight, t *target, base, next int64, now time.Time) {
	if p.hwSeq != t.seq {
		return
	}
	if p.lso == base && !f.a.Header.IsTransactional() {
		// All below was stable, and nothing else lies between.
		p.lso = next
	}
	if p.l.cache.limit == 0 || f.shared || f.sa.LogAppendTime >= 0 {
		// With LogAppendTime the copy's bytes are not these.
		if len(p.waiters) > 0 {
			poke(p.follow)
		}
		return
	}
	if !p.following && now.UnixNano()-p.lastUse.Load() > int64(readerGone) {
		// Nobody reads: memory that is used again at once costs less than a tail
		// which is written and thrown away.
		if len(p.tail.pieces) > 0 {
			p.l.cache.shrink(p, p.tail.clear())
			p.fill.reset()
			p.l.cache.leave(p)
		}
		return
	}
	b := f.batch()
	batch.SetBaseOffset(b, base)
	batch.SetLeaderEpoch(b, t.epoch)
	e := early{f.chunk, f.at, f.at + f.size, base, next, t.seq}
	if f.chunk.wasteful(f.size) {
		e.c, e.from = p.fill.reserve(b)
		e.to = e.from + f.size
		defer e.c.drop()
	}
	switch end := p.tail.end(); {
	case end == base || end < 0 || end < base && p.nextAfter(end) == base:
		p.ownAck = now
		p.l.cache.grow(p, p.tail.add(e.c, e.from, e.to, base, next, t.seq))
		p.drainEarly()
	case end > base:
		// Somebody read it from the copy already.
	case len(p.waiters) > 0 || p.following:
		// Another gateway's records lie between: the follower fetches them.
		if len(p.early) == maxEarly {
			p.early[0].c.drop()
			p.early = append(p.early[:0], p.early[1:]...)
		}
		e.c.retain()
		p.early = append(p.early, e)
		poke(p.follow)
	default:
		p.dropEarly()
		p.l.cache.shrink(p, p.tail.clear())
		p.ownAck = now
		p.l.cache.grow(p, p.tail.add(e.c, e.from, e.to, base, next, t.seq))
	}
}

// readerGone is how long after the latest read appends are still put into the tail.
const readerGone = time.Minute

// nextAfter is where the chain goes on at an offset.
func (p *Partition) nextAfter(offset int64) int64 {
	pl, err := Locate(p.view.Load().chain, offset)
	if err != nil {
		return -1
	}
	return pl.Offset
}

// drainEarly moves early batches that fit by now into the tail.
func (p *Partition) drainEarly() {
	n := 0
	for n < len(p.early) {
		e := &p.early[n]
		end := p.tail.end()
		if e.base > end {
			break
		}
		if e.base == end {
			p.l.cache.grow(p, p.tail.add(e.c, e.from, e.to, e.base, e.next, e.span))
		}
		e.c.drop()
		n++
	}
	if n > 0 {
		m := copy(p.early, p.early[n:])
		clear(p.early[m:])
		p.early = p.early[:m]
	}
}

func (p *Partition) dropEarly() {
	for i := range p.early {
		p.early[i].c.drop()
	}
	p.early = nil
}

// cacheRead puts a patched run that was read from pos on into the tail. The buffer
// is the chunk's afterwards, or copied and given back. It needs mu.
func (p *Partition) cacheRead(run []byte, held int, release func(), pos int64, seq int32) {
	if p.l.cache.limit == 0 || len(run) == 0 {
		p.wakes = append(p.wakes, release)
		return
	}
	// What was put in meanwhile is not put in twice.
	end := p.tail.end()
	it := batch.NewIter(run)
	skip := 0
	for end >= 0 && it.Next() && it.Header.NextOffset() <= end {
		skip += len(it.Bytes)
	}
	run = run[skip:]
	if len(run) == 0 || end >= 0 && pos > end && p.nextAfter(end) < pos {
		p.wakes = append(p.wakes, release)
		return
	}
	var c *chunk
	at := 0
	if len(run) >= lendFrom && len(run) >= held/2 {
		c = &Lend(run, held, release).c
	} else {
		c, at = p.fill.reserve(run)
		p.wakes = append(p.wakes, release)
	}
	p.l.cache.grow(p, p.tail.addRun(c, at, at+len(run), seq))
	c.drop()
	p.drainEarly()
}

// lendFrom is the size from which a store's buffer is kept instead of copied, if
// half of it is this partition's: what it holds of others would stay with it.
const lendFrom = 64 << 10
