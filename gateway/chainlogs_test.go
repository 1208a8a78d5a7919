package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/coordinator"
)

// chainLogs gives the coordinator its shards' logs out of chains.
type chainLogs struct{ logs *chain.Logs }

func (l chainLogs) Open(topic catalog.Topic, partition int32) (coordinator.Log, error) {
	p, err := l.logs.Partition(topic.ID, partition)
	if err != nil {
		return nil, err
	}
	return chainLog{p}, nil
}

type chainLog struct{ p *chain.Partition }

func (l chainLog) Append(b []byte, deadline time.Time, done func(int64, error)) {
	h, err := batch.Validate(b, batch.Limits{})
	if err != nil {
		done(-1, err)
		return
	}
	l.p.Append(&chain.Append{Batch: b, Header: h, Deadline: deadline, Done: func(a *chain.Append) {
		if errors.Is(a.Err, chain.ErrOldProducerEpoch) {
			done(-1, errors.Join(coordinator.ErrFenced, a.Err))
			return
		}
		done(a.BaseOffset, a.Err)
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

func (l chainLog) Trim(ctx context.Context, before int64) error {
	_, err := l.p.DeleteRecords(ctx, before)
	return err
}
