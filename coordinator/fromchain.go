package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// ChainLogs keeps the shards' logs in chains.
func ChainLogs(l *chain.Logs) Logs { return chainLogs{l} }

type chainLogs struct{ logs *chain.Logs }

func (l chainLogs) Open(topic catalog.Topic, partition int32) (Log, error) {
	p, err := l.logs.Partition(topic.ID, partition)
	if err != nil {
		return nil, fmt.Errorf("%s-%d: %w", topic.Name, partition, err)
	}
	return chainLog{p}, nil
}

type chainLog struct{ p *chain.Partition }

func (l chainLog) Append(b []byte, deadline time.Time, done func(int64, error)) {
	h, _, err := batch.Parse(b)
	if err != nil {
		done(-1, err)
		return
	}
	l.p.Append(&chain.Append{Batch: b, Header: h, Deadline: deadline, Done: func(a *chain.Append) {
		switch {
		case a.Err == nil:
			done(a.BaseOffset, nil)
		case errors.Is(a.Err, chain.ErrDuplicate):
			// An earlier try had landed.
			done(-1, nil)
		case errors.Is(a.Err, chain.ErrOldProducerEpoch):
			done(-1, fmt.Errorf("%w: %w", ErrFenced, a.Err))
		case errors.Is(a.Err, chain.ErrOutOfOrder):
			done(-1, fmt.Errorf("%w: %w", ErrBroken, a.Err))
		default:
			done(-1, a.Err)
		}
	}})
}

func (l chainLog) Start(ctx context.Context) (int64, error) {
	start, _, _, err := l.p.Offsets(ctx, false)
	return start, err
}

func (l chainLog) Read(ctx context.Context, offset int64, maxBytes int) ([]byte, int64, func(), error) {
	r, err := l.p.Read(ctx, chain.ReadRequest{Offset: offset, MaxBytes: maxBytes, ClientEpoch: -1, LastFetchedEpoch: -1})
	if err != nil {
		return nil, 0, nil, err
	}
	return r.Batches, r.HighWatermark, r.Release, nil
}

func (l chainLog) Sealed() (upTo, missing int64) { return l.p.Sealed() }

func (l chainLog) Trim(ctx context.Context, before int64) error {
	_, err := l.p.DeleteRecords(ctx, before)
	return err
}
