package kafka

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/wire"
)

// work is one connection's goroutine, until the store closes.
func (f *fetcher) work(i int) {
	w := &fetchWorker{f: f}
	defer w.hangUp()
	q := &f.kinds[i]
	for {
		select {
		case <-q.wake:
		case <-f.b.ctx.Done():
			return
		}
		for f.b.ctx.Err() == nil {
			set, last := f.take(i)
			if len(set) == 0 {
				break
			}
			wait := time.Duration(0)
			if i == 1 {
				wait = pollTime(set, last, time.Now())
			}
			w.serve(set, wait)
			if f.done(i, last, w.kept) {
				break
			}
			w.kept = nil
		}
		w.kept = nil
	}
}

// pollTime is how long a set may wait: as long as its most patient member, since
// the others are answered by their own time limits.
func pollTime(set []*fetch, last bool, now time.Time) time.Duration {
	most := time.Duration(0)
	least := longestPoll
	for _, r := range set {
		left := r.until.Sub(now)
		most = max(most, left)
		least = min(least, left)
	}
	wait := min(most, longestPoll)
	if last && len(set) > 0 {
		wait = min(wait, shortPoll)
	}
	// Who is due earlier than half of that would be late.
	if least < wait/2 {
		wait = least
	}
	return max(wait, 0)
}

type fetchWorker struct {
	f       *fetcher
	cn      *conn
	version int16
	used    time.Time
	request wire.FetchRequest
	resp    wire.FetchResponse
	out     []byte
	kept    []*fetch // of the last set, those that go on to wait
}

func (w *fetchWorker) hangUp() {
	if w.cn == nil {
		return
	}
	w.f.mu.Lock()
	delete(w.f.conns, w.cn)
	w.f.mu.Unlock()
	_ = w.cn.nc.Close()
	w.cn = nil
	w.f.s.stats.conns.Add(-1)
}

// idleConn is how long a connection that nobody reads from stays in use: brokers
// close idle ones, after ten minutes by default.
const idleConn = time.Minute

func (w *fetchWorker) connected() error {
	now := time.Now()
	if w.cn != nil && (w.cn.expired(now) || now.Sub(w.used) > idleConn) {
		w.hangUp()
	}
	w.used = now
	if w.cn != nil {
		return nil
	}
	cn, err := w.f.s.dialer.dial(w.f.b.ctx, w.f.b.addr)
	if err != nil {
		w.f.b.failed.Store(time.Now().UnixNano())
		return err
	}
	if w.version, err = cn.version(wire.FetchKey, fetchMinVersion, fetchMaxVersion); err != nil {
		_ = cn.nc.Close()
		return err
	}
	w.f.mu.Lock()
	ended := w.f.ended
	w.f.conns[cn] = struct{}{}
	w.f.mu.Unlock()
	w.cn = cn
	w.f.s.stats.conns.Add(1)
	if ended {
		w.hangUp()
		return errClosed
	}
	return nil
}

// serve sends one Fetch and hands each partition its share.
func (w *fetchWorker) serve(set []*fetch, wait time.Duration) {
	sent := time.Now()
	err := w.connected()
	if err == nil {
		err = w.exchange(set, wait, sent)
	}
	w.used = time.Now()
	if err != nil {
		w.hangUp()
		for _, r := range set {
			if !r.delivered {
				r.delivered = true
				r.result <- fetched{err: fmt.Errorf("broker %d: %w", w.f.b.node, err), sent: sent}
			}
		}
	}
	w.resp.Reset()
	w.request.Reset()
}

func (w *fetchWorker) exchange(set []*fetch, wait time.Duration, sent time.Time) error {
	slices.SortStableFunc(set, func(x, y *fetch) int {
		// The first keeps its place: a broker returns a whole batch whatever its
		// size to the first partition that has one.
		switch {
		case x.first != y.first && x.first:
			return -1
		case x.first != y.first:
			return 1
		}
		return cmp.Or(bytes.Compare(x.id[:], y.id[:]), 0)
	})
	w.request.Reset()
	w.request.ReplicaID = -1
	w.request.ReplicaEpoch = -1
	w.request.SessionEpoch = -1
	w.request.MaxWaitMillis = int32(wait.Milliseconds())
	w.request.MinBytes = 1
	if wait < time.Millisecond {
		w.request.MinBytes, w.request.MaxWaitMillis = 0, 0
	}
	w.request.MaxBytes = fetchBytes
	if set[0].committed {
		w.request.Isolation = 1
	}
	for i, r := range set {
		if i == 0 || set[i-1].id != r.id {
			w.request.AddTopic(nil, r.id)
		}
		w.request.AddPartition(wire.FetchPartition{
			Index: r.index, LeaderEpoch: r.epoch, Offset: r.offset, LastFetchedEpoch: r.last,
			LogStart: -1, MaxBytes: r.maxBytes,
		})
	}
	w.cn.corr++
	out, err := w.request.AppendFrame(w.out[:0], w.version, w.cn.corr, w.cn.id)
	if err != nil {
		return err
	}
	w.out = out
	// Fails only on a closed socket: write and read tell.
	_ = w.cn.nc.SetDeadline(sent.Add(wait + w.f.s.opts.RequestTimeout))
	if _, err := w.cn.out.Write(out); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := w.cn.flushed(); err != nil {
		return err
	}
	buf, err := readFrame(w.cn.nc, maxFetchFrame)
	if err != nil {
		return err
	}
	return w.deliver(set, buf, sent)
}

func (w *fetchWorker) deliver(set []*fetch, buf *wire.Buffer, sent time.Time) error {
	s := w.f.s
	fr := &frame{s: s, buf: buf, size: int64(buf.Cap())}
	fr.refs.Store(1)
	s.read.add(fr.size)
	defer fr.release()
	s.stats.fetches.Add(1)
	s.stats.fetchedBytes.Add(int64(len(buf.B)))
	corr, body, err := wire.ParseResponseHeader(buf.B, wire.FetchKey, w.version)
	if err != nil {
		return err
	}
	if corr != w.cn.corr {
		return errors.New("answer came out of turn")
	}
	if err := w.resp.Decode(w.version, body); err != nil {
		return err
	}
	if w.resp.Code != wire.None {
		return fmt.Errorf("fetch: %w", w.resp.Code)
	}
	for i, r := range set {
		found := findFetched(&w.resp, i, r)
		if found == nil {
			return fmt.Errorf("%w: Fetch answer leaves a partition out", wire.ErrMalformed)
		}
		if !r.until.IsZero() && found.Code == wire.None && len(found.Records) == 0 && found.Diverging == wire.NoEpochEnd {
			if keep, first := r.goesOn(found, i == 0); keep {
				r.first = first
				w.kept = append(w.kept, r)
				continue
			}
		}
		got := fetched{FetchResult: *found, frame: fr, owner: r.owner, sent: sent, first: i == 0}
		// The decoder uses its memory again.
		got.Aborted = slices.Clone(got.Aborted)
		fr.refs.Add(1)
		s.read.own(r.owner, int64(len(got.Records)))
		r.delivered = true
		r.result <- got
		if r.abandoned.Load() {
			select {
			case got := <-r.result:
				got.release()
			default: // the reader took it after all
			}
		}
	}
	return nil
}

// goesOn tells whether a waiting read without records stays in line, and whether
// it is to be first because others took all of the answer's bytes.
func (r *fetch) goesOn(found *wire.FetchResult, wasFirst bool) (keep, first bool) {
	if r.abandoned.Load() || time.Until(r.until) < time.Millisecond {
		return false, false
	}
	limit := found.HighWatermark
	if r.committed {
		limit = found.LastStable
	}
	if limit <= r.offset {
		return true, false
	}
	return !wasFirst, true
}

func findFetched(resp *wire.FetchResponse, i int, r *fetch) *wire.FetchResult {
	is := func(p *wire.FetchResult) bool { return p.Index == r.index && resp.Topics[p.Topic].ID == r.id }
	if i < len(resp.Partitions) && is(&resp.Partitions[i]) {
		return &resp.Partitions[i]
	}
	for j := range resp.Partitions {
		if is(&resp.Partitions[j]) {
			return &resp.Partitions[j]
		}
	}
	return nil
}
