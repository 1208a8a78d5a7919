package remote

import (
	"context"
	"fmt"
	"time"

	"github.com/braidstream/braid/span"
)

// remoteLog is the handle of one partition.
type remoteLog struct {
	s    *Store
	key  logKey
	refs int // under Store.mu
}

var _ span.Log = (*remoteLog)(nil)

func (l *remoteLog) head() encoder {
	e := encoder{b: make([]byte, 0, 64+len(l.key.topic.Name))}
	e.topic(l.key.topic)
	e.int(int64(l.key.partition))
	return e
}

// Append implements [span.Log].
func (l *remoteLog) Append(a *span.Append) {
	a.BaseOffset, a.LogAppendTime, a.LogStart, a.LastStable, a.Duplicate, a.Err = -1, -1, -1, -1, false, nil
	now := time.Now()
	deadline := a.Deadline
	if deadline.IsZero() {
		deadline = now.Add(defaultDeadline)
	}
	e := l.head()
	// What is left is sent, not the time: clocks differ.
	e.int(int64(max(deadline.Sub(now), time.Millisecond)))
	c := &call{op: opAppend, head: e.b, body: a.Batch, append: a, producer: hasProducer(a.Batch), deadline: deadline}
	c.done = func(m message, release func(), err error) {
		if err == nil {
			d := decoder{b: m.head}
			var remote error
			if m.op != opOK {
				remote = d.error()
			}
			a.BaseOffset, a.LogAppendTime, a.LogStart, a.Duplicate = d.int(), d.int(), d.int(), d.flag()
			if bad := d.end(); bad != nil || m.op != opOK && remote == nil {
				err = fmt.Errorf("%w: %w", span.ErrUnknownOutcome, errFrame)
			} else {
				err = remote
			}
			release()
		}
		a.Err = err
		a.Done(a)
	}
	l.s.writes.submit(c)
}

// Read implements [span.Log].
func (l *remoteLog) Read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	out := span.ReadResult{Release: noRelease}
	e := l.head()
	e.int(r.Offset)
	e.int(int64(r.MaxBytes))
	e.int(int64(r.MaxWait))
	e.flag(r.Committed)
	d, body, release, err := l.s.do(ctx, l.s.reads, opRead, e.b)
	if err != nil {
		return out, err
	}
	out.Start, out.HighWatermark, out.LastStable = d.int(), d.int(), d.int()
	for range d.count(2) {
		out.Aborted = append(out.Aborted, span.Aborted{ProducerID: d.int(), FirstOffset: d.int()})
	}
	if err := ended(&d); err != nil {
		release()
		return span.ReadResult{Release: noRelease}, err
	}
	out.Batches, out.Release = body, release
	return out, nil
}

// Offsets implements [span.Log].
func (l *remoteLog) Offsets(ctx context.Context) (span.Offsets, error) {
	d, err := l.s.simple(ctx, opOffsets, l.head())
	if err != nil {
		return span.Offsets{}, err
	}
	o := span.Offsets{Start: d.int(), HighWatermark: d.int(), LastStable: d.int(), End: d.int(), LeaderEpoch: int32(d.int())}
	return o, ended(&d)
}

// OffsetFor implements [span.Log].
func (l *remoteLog) OffsetFor(ctx context.Context, ms int64) (span.Position, bool, error) {
	e := l.head()
	e.int(ms)
	d, err := l.s.simple(ctx, opOffsetFor, e)
	if err != nil {
		return span.Position{}, false, err
	}
	at := span.Position{Offset: d.int(), Timestamp: d.int()}
	found := d.flag()
	return at, found, ended(&d)
}

// Probe implements [span.Log].
func (l *remoteLog) Probe(ctx context.Context) error {
	_, err := l.s.simple(ctx, opProbe, l.head())
	return err
}

// Producers implements [span.Log].
func (l *remoteLog) Producers(ctx context.Context) ([]span.Producer, error) {
	d, err := l.s.simple(ctx, opProducers, l.head())
	if err != nil {
		return nil, err
	}
	list := d.producers()
	return list, ended(&d)
}

// DeleteBefore implements [span.Log].
func (l *remoteLog) DeleteBefore(ctx context.Context, offset int64) (int64, error) {
	e := l.head()
	e.int(offset)
	d, err := l.s.simple(ctx, opDeleteBefore, e)
	if err != nil {
		return 0, err
	}
	start := d.int()
	return start, ended(&d)
}

// Release implements [span.Log].
func (l *remoteLog) Release() {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.refs--
	if l.refs == 0 {
		delete(l.s.logs, l.key)
	}
}
