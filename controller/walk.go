package controller

import (
	"context"
	"fmt"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
)

// readBytes is how much one read of a walk asks for.
const readBytes = 1 << 20

// walk reads the batches of a log from a physical offset up to end (-1: what the
// log holds now) and hands each to f, whose memory is only lent. It ends when
// there is nothing more.
func walk(ctx context.Context, log span.Log, from, end int64, f func(h batch.Header, b []byte) error) error {
	for end < 0 || from < end {
		res, err := log.Read(ctx, span.ReadRequest{Offset: from, MaxBytes: readBytes})
		if err != nil {
			return fmt.Errorf("read at %d: %w", from, err)
		}
		next, err := walkRun(res.Batches, from, end, f)
		res.Release()
		if err != nil {
			return err
		}
		if next <= from {
			return nil
		}
		from = next
	}
	return nil
}

func walkRun(run []byte, from, end int64, f func(h batch.Header, b []byte) error) (next int64, err error) {
	next = from
	it := batch.NewIter(run)
	for it.Next() {
		h := it.Header
		if h.NextOffset() <= from {
			continue // the first may begin, and end, before what was asked for
		}
		if end >= 0 && h.BaseOffset >= end {
			return end, nil
		}
		next = h.NextOffset()
		if err := f(h, it.Bytes); err != nil {
			return next, err
		}
	}
	return next, it.Err()
}
