package coordinator

import (
	"context"
	"errors"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// InitProducerId, versions 0 to 5, for idempotent producers: an id that no
// other producer of the fleet has, with epoch 0. Those with a transactional id
// are served in txninit.go.

// idBlock hands out producer ids from blocks that were taken from the catalog.
type idBlock struct {
	size int64
	take func(ctx context.Context, n int64) ([]int64, error)

	mu     sync.Mutex
	left   []int64
	flight *idFlight // a block on its way, nil if none
}

type idFlight struct {
	done chan struct{}
	err  error
}

// get returns an id that was never returned before.
func (b *idBlock) get(ctx context.Context) (int64, error) {
	for {
		b.mu.Lock()
		if len(b.left) > 0 {
			id := b.left[0]
			b.left = b.left[1:]
			b.mu.Unlock()
			return id, nil
		}
		f := b.flight
		mine := f == nil
		if mine {
			f = &idFlight{done: make(chan struct{})}
			b.flight = f
		}
		b.mu.Unlock()
		if mine {
			// A caller that goes away must not fail the others that wait.
			ids, err := b.take(context.WithoutCancel(ctx), b.size)
			b.mu.Lock()
			b.flight = nil
			if f.err = err; err == nil {
				b.left = ids
			}
			b.mu.Unlock()
			close(f.done)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if f.err != nil {
			return 0, f.err
		}
	}
}

// InitProducerID gives a producer an id. One without a transactional id gets a
// new one whatever it had before; see initTransactional for the others.
func (c *Coordinator) InitProducerID(ctx context.Context, caller Caller, req *kmsg.InitProducerIDRequest) *kmsg.InitProducerIDResponse {
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.Version = req.Version
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	switch {
	case req.TransactionalID != nil && *req.TransactionalID == "":
		resp.ErrorCode = int16(wire.InvalidRequest)
		return resp
	case req.Version >= 3 && (req.ProducerID >= 0) != (req.ProducerEpoch >= 0):
		resp.ErrorCode = int16(wire.InvalidRequest)
		return resp
	case req.TransactionalID != nil:
		id, epoch, code := c.initTransactional(ctx, caller, req)
		if code == wire.ProducerFenced && req.Version < 4 {
			code = wire.InvalidProducerEpoch
		}
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = id, epoch, int16(code)
		return resp
	}
	id, err := c.ids.get(ctx)
	switch {
	case err == nil:
		resp.ProducerID, resp.ProducerEpoch = id, 0
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		resp.ErrorCode = int16(wire.RequestTimedOut)
	default:
		c.logger.Warn("no producer ids to be had", "err", err)
		resp.ErrorCode = int16(wire.CoordinatorNotAvailable)
	}
	return resp
}
