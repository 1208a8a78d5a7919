package chain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A cluster that runs transactions of its own may have aborted its part of one
// that was committed. What it holds of that part is found here by producer and
// epoch, which no other transaction of the cluster has, and appended anew.

// Part is what a copy holds of one transaction of its cluster. Offsets are physical.
type Part struct {
	Copy     PartCopy
	Producer int64 // the cluster's
	Epoch    int16

	First, End int64 // of its batches, -1: there are none
	Batches    int
	Records    int64
	// Whole: sequences run from 0 on without a gap and all records are there; where
	// there are no batches, the log reaches back to before the transaction.
	Whole bool
	// Ended: the marker is there; Committed tells which.
	Ended, Committed bool
}

// PartCopy is where it lies.
type PartCopy struct {
	Cluster  string
	Physical span.Topic
	Index    int32
	Floor    int64 // physical offset that is below all of its batches
	Since    int64 // ms, when the transaction began: a hint of where to look first
}

const (
	// partReadBytes of a copy are read at a time.
	partReadBytes = 1 << 20
	// partSlack is how far the clocks of clients may be behind for the hint to help.
	partSlack = 5 * time.Minute
)

// FindPart reads the log of a copy for the batches of a producer's epoch and for
// the marker behind them. The marker may carry the next epoch, as that of a
// transaction whose timeout has passed. [span.ErrGone]: the copy is no more.
func (l *Logs) FindPart(ctx context.Context, c PartCopy, producer int64, epoch int16) (Part, error) {
	st, err := l.stores.Store(c.Cluster)
	if err != nil {
		return Part{}, because(ErrUnavailable, err)
	}
	log := st.Log(c.Physical, c.Index)
	defer log.Release()
	o, err := log.Offsets(ctx)
	if err != nil {
		return Part{}, err
	}
	floor := max(c.Floor, o.Start)
	part := Part{Copy: c, Producer: producer, Epoch: epoch}
	from := floor
	if at, found, err := log.OffsetFor(ctx, c.Since-partSlack.Milliseconds()); err == nil && found {
		from = max(from, at.Offset)
	}
	for {
		if err := part.scan(ctx, log, from, o.HighWatermark); err != nil {
			return Part{}, err
		}
		if part.Whole && part.Batches > 0 || from == floor {
			break
		}
		from = floor // the clients' clocks are not what they seem
	}
	if part.Batches == 0 {
		part.Whole = o.Start <= c.Floor
	}
	return part, nil
}

// scan fills the part in from what lies in [from, end).
func (p *Part) scan(ctx context.Context, log span.Log, from, end int64) error {
	p.First, p.End, p.Batches, p.Records, p.Whole, p.Ended, p.Committed = -1, -1, 0, 0, true, false, false
	next := int32(0)
	return walkLog(ctx, log, from, end, func(h batch.Header, b []byte) (bool, error) {
		switch {
		case h.ProducerID != p.Producer:
		case h.IsControl():
			// A commit may have been written with the next epoch (KIP-890), which is this transaction's.
			if h.ProducerEpoch < p.Epoch || h.ProducerEpoch == p.Epoch && p.Batches == 0 {
				break // of an earlier transaction
			}
			m, err := batch.ParseMarker(b)
			if err != nil {
				return false, err
			}
			p.Ended, p.Committed = true, m.Commit
			return false, nil
		case h.ProducerEpoch == p.Epoch && h.IsTransactional():
			if p.First < 0 {
				p.First = h.BaseOffset
			}
			// A cleaner takes the records out of what was aborted, and may leave the batch.
			p.Whole = p.Whole && h.BaseSequence == next && h.NumRecords == h.LastOffsetDelta+1
			next = batch.IncrementSequence(h.LastSequence(), 1)
			p.End = h.NextOffset()
			p.Batches++
			p.Records += int64(h.NumRecords)
		}
		return true, nil
	})
}

// walkLog reads batches from an offset on up to another, until each says no.
func walkLog(ctx context.Context, log span.Log, from, end int64, each func(h batch.Header, b []byte) (bool, error)) error {
	for from < end {
		r, err := log.Read(ctx, span.ReadRequest{Offset: from, MaxBytes: partReadBytes})
		if err != nil {
			return err
		}
		before := from
		for h, b := range batch.Walk(r.Batches) {
			if h.BaseOffset >= end {
				from = end
				break
			}
			if h.NextOffset() <= from {
				continue
			}
			from = h.NextOffset()
			more, err := each(h, b)
			if err != nil || !more {
				r.Release()
				return err
			}
		}
		r.Release()
		if from == before {
			// Compaction may have left nothing up to the end.
			if r.HighWatermark >= end {
				return nil
			}
			return fmt.Errorf("%w: nothing to read at %d of %d", ErrUnavailable, from, end)
		}
	}
	return nil
}

// errPartGone: between two looks the batches have gone.
var errPartGone = errors.New("batches of a transaction are not there any more")

// LeftOut are records of a part that their partition refuses for good, as its topic's configs are by now, and those that are
// not left out since they were stamped anew.
type LeftOut struct {
	Records int64
	Code    wire.Code // the last refusal's; 0: there was none
	Stamped int64     // records whose timestamps the topic does not take by now, and which have the time of the append
}

// Add counts others in.
func (l *LeftOut) Add(o LeftOut) {
	l.Records += o.Records
	l.Stamped += o.Stamped
	if o.Code != wire.None {
		l.Code = o.Code
	}
}

// AppendPart appends the batches of a part to a partition's chain, in their order, as
// those of another producer's transaction, with sequences from first on. It
// returns the sequence that comes next. A part of an append that failed stays in that
// transaction, which is to be aborted.
//
// The records were accepted once, by a topic that may have been configured anew since: a smaller
// max.message.bytes, keys that a compacted topic demands. A batch that is refused for its content is halved and appended in two, so
// that what is left out in the end are just the records that are refused one by one, twice, while no extend is under way. A batch that
// is refused for its timestamps gets new ones.
func (l *Logs) AppendPart(ctx context.Context, part Part, topic catalog.ID, partition int32, producer int64, epoch int16, first int32, txn *Transaction) (next int32, left LeftOut, err error) {
	p, err := l.Partition(topic, partition)
	if err != nil {
		return first, left, err
	}
	st, err := l.stores.Store(part.Copy.Cluster)
	if err != nil {
		return first, left, because(ErrUnavailable, err)
	}
	log := st.Log(part.Copy.Physical, part.Copy.Index)
	defer log.Release()
	seen := 0
	to := partAppend{l: l, topic: topic, p: p, producer: producer, epoch: epoch, next: first, txn: txn}
	err = walkLog(ctx, log, part.First, part.End, func(h batch.Header, b []byte) (bool, error) {
		if h.ProducerID != part.Producer || h.ProducerEpoch != part.Epoch || h.IsControl() {
			return true, nil
		}
		seen++
		if h.NumRecords == 0 {
			return true, nil
		}
		own := slices.Clone(b)
		// As a client sends it: brokers refuse others.
		batch.SetBaseOffset(own, 0)
		batch.SetLeaderEpoch(own, -1)
		if h.LogAppendTime() {
			if err := batch.ClearLogAppendTime(own); err != nil {
				return false, err
			}
		}
		return true, to.append(ctx, own, false)
	})
	if err == nil && seen != part.Batches {
		err = fmt.Errorf("%w: %d of %d", errPartGone, part.Batches-seen, part.Batches)
	}
	return to.next, to.left, err
}

// partAppend is where a part goes.
type partAppend struct {
	l        *Logs
	topic    catalog.ID
	p        *Partition
	producer int64
	epoch    int16
	next     int32 // sequence
	txn      *Transaction
	left     LeftOut
}

// append appends one batch, which it takes for its own. stamped: its timestamps are new.
func (t *partAppend) append(ctx context.Context, own []byte, stamped bool) error {
	if err := batch.SetProducer(own, t.producer, t.epoch, t.next); err != nil {
		return err
	}
	h, _, err := batch.Parse(own)
	if err != nil {
		return err
	}
	code, err := t.try(ctx, own, h)
	if code == wire.None {
		return err
	}
	if h.NumRecords == 1 || code == wire.InvalidTimestamp {
		// A seal refuses with the same codes.
		if code, err = t.again(ctx, own, h); code == wire.None {
			return err
		}
	}
	if code == wire.InvalidTimestamp && !stamped {
		return t.stamp(ctx, own, h)
	}
	if h.NumRecords == 1 {
		t.left.Add(LeftOut{Records: 1, Code: code})
		return nil
	}
	halves, err := halve(own, h)
	for _, half := range halves {
		if err == nil {
			err = t.append(ctx, half, stamped)
		}
	}
	return err
}

// try appends once. The code is that of a refusal for what the batch holds.
func (t *partAppend) try(ctx context.Context, own []byte, h batch.Header) (wire.Code, error) {
	err := t.p.appendWait(ctx, &Append{Batch: slices.Clone(own), Header: h, Txn: t.txn})
	if err == nil {
		t.next = batch.IncrementSequence(h.LastSequence(), 1)
		return wire.None, nil
	}
	code, _ := refusedContent(err)
	return code, err
}

// partAgainMost is the longest pause between two looks whether an extend is over.
const partAgainMost = time.Second

// again appends once more, when no extend is under way at the topic, neither before nor after.
func (t *partAppend) again(ctx context.Context, own []byte, h batch.Header) (wire.Code, error) {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, partAgainMost) {
		e, err := t.l.source.ReadExtend(ctx, t.topic)
		if err != nil {
			return wire.None, err
		}
		if e == nil {
			code, err := t.try(ctx, own, h)
			if code == wire.None {
				return code, err
			}
			if e, err = t.l.source.ReadExtend(ctx, t.topic); err != nil {
				return wire.None, err
			}
			if e == nil {
				return code, nil
			}
		}
		if !sleep(ctx, wait) {
			return wire.None, because(ErrTimedOut, ctx.Err())
		}
	}
}

// stamp appends a batch whose timestamps its topic does not take any more as of now: its cluster was away for longer than
// message.timestamp.before.max.ms, so they say nothing of the client.
func (t *partAppend) stamp(ctx context.Context, own []byte, h batch.Header) error {
	to := batch.NewBuilder().Codec(h.Codec()).Transactional()
	now := time.Now().UnixMilli()
	for r, err := range batch.Records(own, partUnpack) {
		if err != nil {
			return fmt.Errorf("stamp a batch: %w", err)
		}
		r.Timestamp = now
		to.Add(*r)
	}
	built, err := to.Build()
	if err != nil {
		return fmt.Errorf("stamp a batch: %w", err)
	}
	before := t.left.Records
	if err := t.append(ctx, built, true); err != nil {
		return err
	}
	t.left.Stamped += int64(h.NumRecords) - (t.left.Records - before)
	return nil
}

// refusedContent tells whether an append was refused for what it holds: another try is refused too.
func refusedContent(err error) (wire.Code, bool) {
	var r *span.RejectedError
	if !errors.As(err, &r) {
		return wire.None, false
	}
	switch r.Code {
	case wire.MessageTooLarge, wire.RecordListTooLarge, wire.InvalidRecord, wire.InvalidTimestamp:
		return r.Code, true
	}
	return wire.None, false
}

// partUnpack bounds the records of one batch when they are unpacked to be halved.
const partUnpack = 256 << 20

// halve makes two batches of one with more than one record.
func halve(b []byte, h batch.Header) (halves [][]byte, err error) {
	half := h.NumRecords / 2
	at := int32(0)
	next := func() *batch.Builder { return batch.NewBuilder().Codec(h.Codec()).Transactional() }
	to := next()
	for r, err := range batch.Records(b, partUnpack) {
		if err != nil {
			return nil, fmt.Errorf("halve a batch: %w", err)
		}
		if at == half {
			if halves, err = appendBuilt(halves, to); err != nil {
				return nil, err
			}
			to = next()
		}
		to.Add(*r)
		at++
	}
	return appendBuilt(halves, to)
}

func appendBuilt(to [][]byte, b *batch.Builder) ([][]byte, error) {
	built, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("halve a batch: %w", err)
	}
	return append(to, built), nil
}

// appendWait appends and waits for the outcome.
func (p *Partition) appendWait(ctx context.Context, a *Append) error {
	done := make(chan struct{})
	a.Done = func(*Append) { close(done) }
	if d, ok := ctx.Deadline(); ok {
		a.Deadline = d
		if most := time.Now().Add(30 * time.Second); d.After(most) {
			a.Deadline = most
		}
	}
	p.Append(a)
	select {
	case <-done:
		return a.Err
	case <-ctx.Done():
		return because(ErrTimedOut, ctx.Err())
	}
}
