package chain

import (
	"context"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// Logs are the partitions that a gateway serves.
type Logs struct{}

// Partition is one logical partition. All methods may be called concurrently.
type Partition struct{}

func NewLogs(o Options) *Logs { return &Logs{} }

func (l *Logs) Close() {}

func (l *Logs) Partition(topic catalog.ID, partition int32) (*Partition, error) {
	return nil, ErrUnknownTopic
}

func (p *Partition) Append(a *Append) { a.Err = ErrUnavailable; a.Done(a) }

func (p *Partition) Read(ctx context.Context, r ReadRequest) (ReadResult, error) {
	return ReadResult{}, ErrUnavailable
}

func (p *Partition) Notify(offset int64, wake func()) (cancel func()) { return func() {} }

func (p *Partition) Offsets(ctx context.Context, committed bool) (start, end int64, epoch int32, err error) {
	return 0, 0, 0, ErrUnavailable
}

func (p *Partition) OffsetFor(ctx context.Context, ms int64) (offset, timestamp int64, epoch int32, found bool, err error) {
	return 0, 0, 0, false, ErrUnavailable
}

func (p *Partition) EpochEnd(ctx context.Context, epoch int32) (atEpoch int32, end int64, err error) {
	return 0, 0, ErrUnavailable
}

func (p *Partition) DeleteRecords(ctx context.Context, before int64) (start int64, err error) {
	return 0, ErrUnavailable
}

func (p *Partition) Producers(ctx context.Context) ([]span.Producer, error) {
	return nil, ErrUnavailable
}
