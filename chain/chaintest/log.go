package chaintest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// Warm implements [span.Warmer].
func (l *Log) Warm(context.Context) error {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.warmed++
	return nil
}

// Log is one partition through one client.
type Log struct {
	s *Store
	t span.Topic
	p int32

	users int // under s.mu
	wake  chan struct{}
	stop  chan struct{}

	mu    sync.Mutex
	queue []*span.Append
	acked int64 // first offset past what was acknowledged here
	over  bool  // nobody works any more
}

func (l *Log) Append(a *span.Append) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		l.s.wg.Add(1)
		go func() {
			defer l.s.wg.Done()
			a.Err = span.ErrUnavailable
			a.Done(a)
		}()
		return
	}
	l.queue = append(l.queue, a)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Log) work() {
	defer l.s.wg.Done()
	for {
		select {
		case <-l.wake:
		case <-l.s.closed:
			l.fail(span.ErrUnavailable)
			return
		case <-l.stop:
			l.fail(span.ErrUnavailable)
			return
		}
		for {
			l.mu.Lock()
			if len(l.queue) == 0 {
				l.mu.Unlock()
				break
			}
			a := l.queue[0]
			l.queue = l.queue[1:]
			l.mu.Unlock()
			l.one(a)
		}
	}
}

func (l *Log) fail(err error) {
	l.mu.Lock()
	queue := l.queue
	l.queue, l.over = nil, true
	l.mu.Unlock()
	for _, a := range queue {
		a.Err = err
		a.Done(a)
	}
}

func (l *Log) one(a *span.Append) {
	l.s.mu.Lock()
	fault := l.s.fault
	l.s.mu.Unlock()
	var f Fault
	if fault != nil {
		f = fault(l.t, l.p, a.Batch)
	}
	if f.Wait != nil {
		select {
		case <-f.Wait:
		case <-l.s.closed:
			a.Err = span.ErrUnavailable
			a.Done(a)
			return
		}
	}
	switch {
	case f.Err != nil:
		a.Err = f.Err
	case f.Lost:
		a.Err = fmt.Errorf("lost: %w", span.ErrUnknownOutcome)
	default:
		l.land(a)
		if f.Unanswered {
			a.BaseOffset, a.Err = -1, fmt.Errorf("unanswered: %w", span.ErrUnknownOutcome)
		}
	}
	if f.WaitAnswer != nil {
		select {
		case <-f.WaitAnswer:
		case <-l.s.closed:
			a.BaseOffset, a.Err = -1, fmt.Errorf("closed: %w", span.ErrUnknownOutcome)
		}
	}
	a.Done(a)
}

func (l *Log) land(a *span.Append) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, err := c.part(l.t, l.p); err == nil && p.end < l.acked && !p.sealed {
		a.Err = &span.TruncatedError{Partition: l.p, Acknowledged: l.acked, End: p.end, LeaderEpoch: p.epoch}
		return
	}
	a.BaseOffset, a.Duplicate, a.Err = c.append(l.t, l.p, a.Batch)
	a.LogAppendTime = c.logTime
	if a.Err == nil && !a.Duplicate {
		h, _, err := batch.Parse(a.Batch)
		if err == nil {
			l.acked = a.BaseOffset + int64(h.NumRecords)
		}
	}
}

func (l *Log) Read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	if err := l.s.c.hang(ctx, l.s.closed); err != nil {
		return span.ReadResult{}, err
	}
	deadline := time.Now().Add(r.MaxWait)
	for {
		res, grown, err := l.readOnce(r)
		left := time.Until(deadline)
		if err != nil || len(res.Batches) > 0 || left <= 0 {
			if len(res.Batches) > 0 {
				l.s.mu.Lock()
				l.s.reads++
				l.s.readB += int64(len(res.Batches))
				l.s.mu.Unlock()
			}
			if r.Apart {
				err = errors.Join(err, takeApart(&res))
			}
			return res, err
		}
		t := time.NewTimer(left)
		select {
		case <-grown:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return span.ReadResult{}, ctx.Err()
		case <-l.s.closed:
			t.Stop()
			return span.ReadResult{}, span.ErrUnavailable
		}
		t.Stop()
	}
}

// takeApart gives a result the other of its two forms.
func takeApart(res *span.ReadResult) error {
	it := batch.NewIter(res.Batches)
	for it.Next() {
		res.Apart = append(res.Apart, span.Apart{Header: it.Bytes[:batch.HeaderSize:batch.HeaderSize], Rest: it.Bytes[batch.HeaderSize:]})
	}
	res.Batches = nil
	return it.Err()
}

func (l *Log) readOnce(r span.ReadRequest) (span.ReadResult, <-chan struct{}, error) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.part(l.t, l.p)
	if err != nil {
		return span.ReadResult{}, nil, err
	}
	if r.Offset < p.start || r.Offset > p.end {
		return span.ReadResult{}, nil, fmt.Errorf("read at %d of [%d,%d): %w", r.Offset, p.start, p.end, span.ErrOffsetOutOfRange)
	}
	res := span.ReadResult{Start: p.start, HighWatermark: p.end, LastStable: p.end, Release: func() {}}
	for _, s := range p.stored {
		if s.next <= r.Offset {
			continue
		}
		if len(res.Batches) > 0 && len(res.Batches)+len(s.b) > r.MaxBytes {
			break
		}
		res.Batches = append(res.Batches, s.b...)
	}
	return res, p.grown, nil
}

func (l *Log) Offsets(context.Context) (span.Offsets, error) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.part(l.t, l.p)
	if err != nil {
		return span.Offsets{}, err
	}
	return span.Offsets{Start: p.start, HighWatermark: p.end, LastStable: p.end, End: p.end, LeaderEpoch: p.epoch}, nil
}

func (l *Log) OffsetFor(_ context.Context, ms int64) (span.Position, bool, error) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.part(l.t, l.p)
	if err != nil {
		return span.Position{}, false, err
	}
	best := span.Position{Offset: -1, Timestamp: -1}
	for _, s := range p.stored {
		var rr batch.RecordReader
		if err := rr.Reset(s.b, 1<<24); err != nil {
			return best, false, err
		}
		for rr.Next() {
			r := rr.Record
			if r.Offset < p.start {
				continue
			}
			if ms == span.MaxTimestamp {
				if r.Timestamp > best.Timestamp {
					best = span.Position{Offset: r.Offset, Timestamp: r.Timestamp}
				}
			} else if r.Timestamp >= ms {
				rr.Close()
				return span.Position{Offset: r.Offset, Timestamp: r.Timestamp}, true, nil
			}
		}
		rr.Close()
	}
	return best, best.Offset >= 0, nil
}

func (l *Log) Probe(context.Context) error {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.part(l.t, l.p)
	if err != nil {
		return err
	}
	if p.sealed {
		return span.ErrSealed
	}
	return nil
}

func (l *Log) Producers(context.Context) ([]span.Producer, error) {
	l.s.mu.Lock()
	hide := l.s.hide
	l.s.mu.Unlock()
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.part(l.t, l.p)
	if err != nil {
		return nil, err
	}
	var out []span.Producer
	for _, st := range p.producers {
		q := *st
		q.Batches = append([]span.ProducedBatch(nil), st.Batches...)
		if hide {
			q.Batches, q.LastOffset = nil, -1
		}
		out = append(out, q)
	}
	return out, nil
}

func (l *Log) DeleteBefore(_ context.Context, offset int64) (int64, error) {
	c := l.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.part(l.t, l.p)
	if err != nil {
		return 0, err
	}
	if offset > p.end {
		return 0, span.ErrOffsetOutOfRange
	}
	p.start = max(p.start, offset)
	for len(p.stored) > 0 && p.stored[0].next <= p.start {
		p.stored = p.stored[1:]
	}
	return p.start, nil
}

func (l *Log) Release() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(l.s.logs, logKey{l.t, l.p})
		close(l.stop)
	}
}
