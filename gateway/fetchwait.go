package gateway

import (
	"time"

	"github.com/braidstream/braid/wire"
)

// gather reads, and waits for more until there is enough or time is up.
func (f *fetcher) gather() {
	wait := min(max(time.Duration(f.req.MaxWaitMillis)*time.Millisecond, 0), f.call.g.cfg.FetchMaxWait)
	until := f.now.Add(wait)
	for {
		// Stale wake-ups only cost a turn.
		select {
		case <-f.signal:
		default:
		}
		// A client that does not wait at all still wants what has to be read first.
		f.read(f.ordered, later(until, time.Now().Add(readPatience)))
		if f.enough() || time.Until(until) <= 0 || f.call.ctx.Err() != nil || f.call.c.draining.Load() {
			return
		}
		f.watch()
		c := f.call.c
		c.fetching.Store(true)
		news := f.waitFor(until, f.anyNews)
		c.fetching.Store(false)
		if !news {
			return
		}
		if now := time.Now(); len(f.parts) > 1 && now.Sub(f.told) < busyStream {
			more := now.Add(gatherTime)
			if until.Before(more) {
				more = until
			}
			f.waitFor(more, f.allNews)
		}
		// What has more by now is read anew; the rest is kept.
		f.now = time.Now()
		for _, fp := range f.parts {
			if fp.woken.Load() && fp.job != nil {
				fp.drop()
			}
		}
	}
}

// What is appended to several partitions in one request arrives one after the
// other. On a stream where an answer goes out every few milliseconds the client
// is better served with one large answer than with several small ones, which
// cost it and us a system call and a wake-up each.
const (
	busyStream = 50 * time.Millisecond
	gatherTime = time.Millisecond
)

// readPatience is how long a Fetch that may not wait is given for its reads.
const readPatience = 500 * time.Millisecond

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// enough tells whether the answer goes out as it is.
func (f *fetcher) enough() bool {
	if len(f.parts) == 0 || f.total(f.parts) >= int(f.minBytes) {
		return true
	}
	for _, fp := range f.parts {
		if fp.code != wire.None || fp.job != nil && len(fp.job.runs) > 0 && fp.job.runs[0].DivergingEpoch >= 0 {
			return true
		}
	}
	return false
}

// watch asks to be told when a part has more than was read of it.
func (f *fetcher) watch() {
	for _, fp := range f.parts {
		if fp.watch != nil || fp.job == nil {
			continue
		}
		fp.woken.Store(false)
		fp.watch = fp.part.Notify(fp.job.next, fp.wake)
		if fp.job.size == 0 {
			fp.idle, fp.idleAt = true, f.now
		}
	}
}

// allNews tells whether every part was woken.
func (f *fetcher) allNews() bool {
	for _, fp := range f.parts {
		if !fp.woken.Load() {
			return false
		}
	}
	return true
}

// anyNews tells whether a part was woken, or a read that was left behind ended.
func (f *fetcher) anyNews() bool {
	for _, fp := range f.parts {
		if fp.woken.Load() {
			return true
		}
	}
	for _, j := range f.pending {
		if j.finished() {
			return true
		}
	}
	return false
}
