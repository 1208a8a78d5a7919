package gateway

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/tenant/usage"
	"github.com/braidstream/braid/wire"
)

const (
	// readWorkers read at the same time for one Fetch of several partitions.
	readWorkers = 8
	// waveParts bounds how many are read until the sum of bytes is looked at again.
	waveParts = 64
	// maxRuns is how many reads are strung together for one partition: the tail
	// cache hands out its memory in pieces.
	maxRuns = 32
	// pendingReads bounds the reads that a connection left behind unfinished.
	pendingReads = 64
	// idleFor is how long a notification is trusted before a part is read all the same.
	idleFor = 15 * time.Second
)

// fetchJob is one read of one partition. It may outlive the request that
// started it: when a cluster hangs, the other partitions are answered, and the
// job's result is taken by the next Fetch that asks for the same.
type fetchJob struct {
	p    *chain.Partition
	req  chain.ReadRequest
	done func()

	// state goes from running to finished or abandoned. Whoever finds that the
	// other was first gives the result back.
	state atomic.Int32

	// room is what the job may bring is counted in, from before it is read until it is given
	// back; held is how much that is.
	room    *byteBudget
	account *usage.Account
	held    atomic.Int64

	runs []chain.ReadResult // the first tells the bounds of the log
	size int
	next int64 // first offset past what was read
	err  error
}

const (
	jobRunning = int32(iota)
	jobFinished
	jobAbandoned
)

// quick reads what takes no I/O. false means that run has to do it.
func (j *fetchJob) quick() bool {
	j.next = j.req.Offset
	req := j.req
	for {
		res, ok := j.p.TryRead(req)
		if !ok {
			// With something to show, the rest is the next request's.
			if j.size == 0 {
				return false
			}
			break
		}
		if !j.take(&req, res) {
			break
		}
	}
	j.hold(j.size)
	j.state.Store(jobFinished)
	return true
}

// run reads until the job's share of bytes is used or nothing more is there.
func (j *fetchJob) run(ctx context.Context) {
	j.next = j.req.Offset
	req := j.req
	for {
		res, err := j.p.Read(ctx, req)
		if err != nil {
			// What was read before is good; the error comes again if it stays.
			if len(j.runs) == 0 {
				j.err = err
			}
			break
		}
		// A read from a copy is a request to its broker, which the rest of a share
		// that it mostly filled is not worth.
		if !j.take(&req, res) || j.size >= j.req.MaxBytes/2 {
			break
		}
		req.Burst = nil
	}
	j.hold(j.size)
	if j.state.CompareAndSwap(jobRunning, jobFinished) {
		j.done()
		return
	}
	j.release()
}

// take adds a result to the job's and moves the request past it. It returns
// whether more should be read.
func (j *fetchJob) take(req *chain.ReadRequest, res chain.ReadResult) bool {
	size := res.Size()
	if size == 0 {
		if len(j.runs) == 0 {
			j.runs = append(j.runs, res)
		} else {
			res.Release()
		}
		return false
	}
	j.runs = append(j.runs, res)
	j.size += size
	next := res.Next()
	if next <= req.Offset {
		return false
	}
	j.next = next
	req.MaxBytes -= size
	// The answer has one list of aborted transactions for each partition, made
	// for the range of one read.
	if req.Committed && len(res.Aborted) > 0 {
		return false
	}
	req.Offset, req.LastFetchedEpoch = next, -1
	if next >= res.LastStable && req.Committed || next >= res.HighWatermark {
		return false
	}
	return req.MaxBytes >= minRun && len(j.runs) < maxRuns
}

// minRun: a read returns one whole batch whatever its size, so that the last
// bytes of a share are better left unused.
const minRun = 16 << 10

// finished tells whether the result is there.
func (j *fetchJob) finished() bool { return j.state.Load() == jobFinished }

// abandon gives the result back, now or when it is there.
func (j *fetchJob) abandon() {
	if !j.state.CompareAndSwap(jobRunning, jobAbandoned) {
		j.release()
	}
}

// hold has n bytes counted for the job. Its connection and its worker may call it at once: what
// is counted is always what the last of them said.
func (j *fetchJob) hold(n int) {
	switch more := int64(n) - j.held.Swap(int64(n)); {
	case more > 0:
		j.room.take(more, j.account)
	case more < 0:
		j.room.put(-more, j.account)
	}
}

func (j *fetchJob) release() {
	for i := range j.runs {
		j.runs[i].Release()
	}
	clear(j.runs)
	j.runs = j.runs[:0]
	j.size = 0
	j.hold(0)
}

// wave is a number of jobs that a few goroutines share.
type wave struct {
	jobs   []*fetchJob
	taken  atomic.Int32 // how many were begun
	left   atomic.Int32 // workers
	cancel context.CancelFunc
}

func (w *wave) work(ctx context.Context) {
	for {
		i := int(w.taken.Add(1)) - 1
		if i >= len(w.jobs) {
			break
		}
		w.jobs[i].run(ctx)
	}
	if w.left.Add(-1) == 0 {
		w.cancel()
	}
}

// halt keeps jobs from being begun and returns those that were not.
func (w *wave) halt() []*fetchJob {
	i := int(w.taken.Swap(int32(len(w.jobs))))
	return w.jobs[min(i, len(w.jobs)):]
}

// read reads the parts that need it, in order, within the request's bytes. It
// returns when all are read, or when it has waited as long as it may.
func (f *fetcher) read(parts []*fetchPart, until time.Time) {
	left := f.left(parts)
	at := 0
	for at < len(parts) {
		f.batch = f.batch[:0]
		share := left
		for ; at < len(parts) && len(f.batch) < waveParts && share > 0; at++ {
			fp := parts[at]
			if !f.needsRead(fp) {
				continue
			}
			if j := f.pending[fp.key]; j != nil && j.p == fp.part && j.req.Offset == fp.offset && j.req.FromCopy == f.fromCopy() {
				f.claim(fp, j)
				continue
			}
			n := max(1, min(int(fp.maxBytes), share))
			share -= n
			f.batch = append(f.batch, fp)
			fp.job = &fetchJob{p: fp.part, done: f.wake, room: &f.call.g.answers, account: f.call.c.account, req: chain.ReadRequest{
				Offset: fp.offset, MaxBytes: n, Committed: f.committed,
				ClientEpoch: fp.leaderEpoch, LastFetchedEpoch: fp.lastFetchedEpoch, FromCopy: f.fromCopy(), Burst: &f.burst,
				// TLS would read the records in this process.
				Apart: f.call.c.sock != nil,
			}}
			fp.job.hold(n)
		}
		if len(f.batch) == 0 {
			return
		}
		if !f.runWave(until) {
			return
		}
		if left = f.left(parts); left <= 0 {
			return
		}
	}
}

// debuggingConsumer is the replica id of Kafka's tools that look at what a replica holds. Apache
// Kafka serves it as a consumer.
const debuggingConsumer = -2

// fromCopy tells whether the client wants to see what the copy holds, and not the tail cache.
func (f *fetcher) fromCopy() bool { return f.req.ReplicaID == debuggingConsumer }

func (f *fetcher) needsRead(fp *fetchPart) bool {
	if fp.code != wire.None || fp.job != nil {
		return false
	}
	if fp.idle && !fp.woken.Load() && f.now.Sub(fp.idleAt) < idleFor {
		return false
	}
	fp.unwatch()
	return true
}

// claim takes over a read that an earlier request left behind.
func (f *fetcher) claim(fp *fetchPart, j *fetchJob) {
	if !j.finished() {
		return // it wakes us when it ends
	}
	delete(f.pending, fp.key)
	fp.job = j
	f.settle(fp)
}

// runWave reads the parts of f.batch. false means that time is up.
func (f *fetcher) runWave(until time.Time) bool {
	c := f.call.c
	slow := f.batch[:0]
	for _, fp := range f.batch {
		if fp.job.quick() {
			f.settle(fp)
		} else {
			slow = append(slow, fp)
		}
	}
	clear(f.batch[len(slow):])
	if f.batch = slow; len(slow) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.g.cfg.ReadTimeout)
	w := &wave{cancel: cancel, jobs: make([]*fetchJob, len(f.batch))}
	for i, fp := range f.batch {
		w.jobs[i] = fp.job
	}
	workers := min(readWorkers, len(w.jobs))
	w.left.Store(int32(workers))
	f.burst.Begin()
	for range workers {
		go w.work(ctx)
	}
	// The workers run up to where each waits for its answer, so that they are
	// asked for in one request. Where they do not get that far now, they go on alone.
	runtime.Gosched()
	f.burst.End()
	onTime := f.waitFor(until, func() bool {
		for _, j := range w.jobs {
			if !j.finished() {
				return false
			}
		}
		return true
	})
	if !onTime {
		for _, j := range w.halt() {
			// Nobody will begin it any more.
			j.err = context.DeadlineExceeded
			j.hold(0)
			j.state.Store(jobFinished)
		}
	}
	for _, fp := range f.batch {
		if fp.job.finished() {
			f.settle(fp)
			continue
		}
		j := fp.job
		fp.job = nil
		// Its cluster may hang, which must not take room from those that are well.
		j.hold(0)
		if len(f.pending) >= pendingReads {
			j.abandon()
			continue
		}
		if f.pending == nil {
			f.pending = map[fetchKey]*fetchJob{}
		}
		if old := f.pending[fp.key]; old != nil {
			old.abandon()
		}
		f.pending[fp.key] = j
	}
	return onTime
}

// settle looks at what a finished job brought.
func (f *fetcher) settle(fp *fetchPart) {
	j := fp.job
	if j.err == nil {
		return
	}
	fp.job = nil
	if errors.Is(j.err, context.DeadlineExceeded) || errors.Is(j.err, context.Canceled) {
		return // as if nothing were there; the client asks again
	}
	fp.code = f.call.g.codeOf(keyFetch, f.call.c.peer, j.err)
	if fp.code == wire.UnknownTopicOrPartition && f.byID && errors.Is(j.err, chain.ErrUnknownTopic) {
		fp.code = wire.UnknownTopicID
	}
	f.call.failed(fp.code)
}

// waitFor waits until ready, the time, or the end of the connection.
func (f *fetcher) waitFor(until time.Time, ready func() bool) bool {
	if ready() {
		return true
	}
	f.call.c.finish()
	if f.call.c.quota.Metered() {
		began := time.Now()
		defer func() { f.waited += time.Since(began) }()
	}
	for !ready() {
		d := time.Until(until)
		if d <= 0 {
			return false
		}
		f.timer.Reset(d)
		select {
		case <-f.signal:
			f.timer.Stop()
		case <-f.timer.C:
			return ready()
		case <-f.call.g.drained:
			f.timer.Stop()
			return false
		case <-f.call.ctx.Done():
			f.timer.Stop()
			return false
		}
	}
	return true
}

// left is how many bytes may still be read for the request: memory for them has to be there
// before they are read, as a client may ask for much and take nothing.
func (f *fetcher) left(parts []*fetchPart) int {
	n := int(f.maxBytes) - f.total(parts)
	return min(n, f.call.g.answers.share(f.call.c.account))
}

// total is the sum of the record bytes that were read.
func (f *fetcher) total(parts []*fetchPart) int {
	n := 0
	for _, fp := range parts {
		if fp.job != nil {
			n += fp.job.size
		}
	}
	return n
}
