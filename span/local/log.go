package local

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// log is the handle of one partition.
type log struct {
	s    *Store
	key  logKey
	refs int // under Store.lmu
	part atomic.Pointer[partition]
}

type logKey struct {
	t         span.Topic
	partition int32
}

var _ span.Log = (*log)(nil)

// partition finds what the handle stands for.
func (l *log) partition() (*partition, error) {
	if p := l.part.Load(); p != nil {
		if p.t.gone.Load() {
			return nil, errGone
		}
		return p, nil
	}
	t, err := l.s.topic(l.key.t)
	if err != nil {
		return nil, err
	}
	parts := t.partitions()
	if l.key.partition < 0 || int(l.key.partition) >= len(parts) {
		return nil, l.s.missing(fmt.Errorf("topic has no partition %d: %w", l.key.partition, span.ErrGone))
	}
	p := parts[l.key.partition]
	l.part.Store(p)
	return p, nil
}

// Append implements [span.Log].
func (l *log) Append(a *span.Append) {
	r := request{a: a, l: l}
	a.BaseOffset, a.LogAppendTime, a.LogStart, a.LastStable, a.Duplicate, a.Err = -1, -1, -1, -1, false, nil
	var size int
	var err error
	r.h, size, err = batch.Parse(a.Batch)
	switch {
	case err != nil:
		r.err = corrupt(err)
	case size != len(a.Batch):
		r.err = corrupt(fmt.Errorf("%d bytes behind one batch", len(a.Batch)-size))
	case r.h.IsControl():
		m, err := batch.ParseMarker(a.Batch)
		if err != nil {
			r.err = &span.RejectedError{Code: wire.InvalidRecord, Detail: err.Error()}
		}
		r.mark = &m
	}
	// What recovery and readers will hold against each batch is checked once more
	// here: a log that holds a wrong checksum looks damaged for ever.
	if r.err == nil {
		// A broker looks at a batch's size before its content, and so does stepAppend.
		if err := batch.Verify(a.Batch); err != nil {
			r.unfit = corrupt(err)
		} else if err := sound(&r); err != nil {
			r.unfit = err
		} else if p, err := l.partition(); err == nil {
			r.unfit = p.t.cfg.Load().admissible(a.Owner, a.Batch, &r.h, l.s.opt.Now().UnixMilli())
		}
	}
	l.s.submit(r)
}

// sound refuses records that no consumer could get past, as a broker does. Apache Kafka says
// UNKNOWN_SERVER_ERROR of some of them, which tells a client less.
func sound(r *request) error {
	if r.mark != nil {
		return nil
	}
	if err := batch.SoundOf(r.a.Owner, r.a.Batch); err != nil {
		return &span.RejectedError{Code: wire.InvalidRecord, Detail: err.Error()}
	}
	return nil
}

func corrupt(err error) error {
	return &span.RejectedError{Code: wire.CorruptMessage, Detail: err.Error()}
}

// Read implements [span.Log].
func (l *log) Read(ctx context.Context, r span.ReadRequest) (span.ReadResult, error) {
	return l.s.read(ctx, l, r)
}

// Offsets implements [span.Log].
func (l *log) Offsets(context.Context) (span.Offsets, error) {
	p, err := l.partition()
	if err != nil {
		return span.Offsets{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bounds(), nil
}

// OffsetFor implements [span.Log].
func (l *log) OffsetFor(ctx context.Context, ms int64) (span.Position, bool, error) {
	p, err := l.partition()
	if err != nil {
		return span.Position{}, false, err
	}
	return l.s.offsetFor(ctx, p, ms)
}

// Probe implements [span.Log]. It goes through the sequencer, so that it is
// ordered with seals.
func (l *log) Probe(context.Context) error {
	return l.s.doQuick(func() error {
		p, err := l.partition()
		if err != nil {
			return err
		}
		if p.t.sealed.Load() {
			return errSealed
		}
		return l.s.failure()
	})
}

// Producers implements [span.Log].
func (l *log) Producers(context.Context) ([]span.Producer, error) {
	p, err := l.partition()
	if err != nil {
		return nil, err
	}
	var out []span.Producer
	now := l.s.aging.ms()
	list := func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		out = make([]span.Producer, 0, len(p.producers))
		for _, state := range p.producers {
			if !l.s.expired(state, now) {
				out = append(out, state.export())
			}
		}
		return nil
	}
	// On the sequencer, and answered after everything before it is durable; reads
	// go on after a failure, when nothing moves any more.
	if l.s.failure() != nil {
		err = list()
	} else {
		err = l.s.do(list)
	}
	if err != nil {
		return nil, err
	}
	sortProducers(out)
	return out, nil
}

// DeleteBefore implements [span.Log].
func (l *log) DeleteBefore(_ context.Context, offset int64) (int64, error) {
	p, err := l.partition()
	if err != nil {
		return 0, err
	}
	if l.s.hole() != nil {
		return p.hide(offset)
	}
	start := int64(0)
	err = l.s.do(func() error {
		p.mu.Lock()
		hw := p.hw
		start = p.start
		p.mu.Unlock()
		if offset > hw || offset < 0 {
			return pastEnd(offset, hw)
		}
		if offset <= start {
			return nil
		}
		start = offset
		return l.s.trim(p, offset)
	})
	return start, err
}

func pastEnd(offset, end int64) error {
	return fmt.Errorf("delete before %d of a log that ends at %d: %w", offset, end, span.ErrOffsetOutOfRange)
}

// Release implements [span.Log].
func (l *log) Release() {
	l.s.lmu.Lock()
	defer l.s.lmu.Unlock()
	l.refs--
	if l.refs == 0 {
		delete(l.s.logs, l.key)
	}
}
