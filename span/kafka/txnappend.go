package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Appends of transactions go apart from the others: a broker takes one
// transactional id for a whole Produce request, and refuses all of it at once.
// Each partition of a transaction sends one batch at a time, so the next one
// never has to be told from a gap; sequences make a repeat safe.

// txnLines are the queues of transactional appends.
type txnLines struct {
	mu    sync.Mutex
	lines map[txnLine][]*span.Append
}

type txnLine struct {
	partition partitionKey
	id        string
}

// appendTxn queues an append of a transaction. The caller holds closeMu and has
// seen the store open.
func (p *partition) appendTxn(a *span.Append) {
	if !p.s.stats.admit(a, p.s.opts.QueueBytes) {
		p.refuse(a, fmt.Errorf("%w: %d bytes of appends are waiting already", span.ErrUnavailable, p.s.opts.QueueBytes))
		return
	}
	p.outstanding.Add(1)
	key := txnLine{partitionKey{p.topic.ID, p.index}, a.Transaction}
	l := &p.s.txnLines
	l.mu.Lock()
	if l.lines == nil {
		l.lines = map[txnLine][]*span.Append{}
	}
	queue, running := l.lines[key]
	l.lines[key] = append(queue, a)
	l.mu.Unlock()
	if !running {
		p.s.spawn(func() { p.sendLine(key) })
	}
}

// sendLine sends what is queued, one after the other, until nothing is left.
func (p *partition) sendLine(key txnLine) {
	l := &p.s.txnLines
	for {
		l.mu.Lock()
		queue := l.lines[key]
		if len(queue) == 0 {
			delete(l.lines, key)
			l.mu.Unlock()
			return
		}
		a := queue[0]
		l.lines[key] = queue[1:]
		l.mu.Unlock()
		a.Err = p.sendTxn(a)
		if a.Err != nil {
			a.BaseOffset, a.LogAppendTime, a.Duplicate = -1, -1, false
		}
		p.outstanding.Add(-1)
		p.s.stats.leave(a)
		a.Done(a)
	}
}

// sendTxn sends one batch until its outcome is known, or its time is up.
func (p *partition) sendTxn(a *span.Append) error {
	ctx, cancel := context.WithDeadline(p.s.closing, a.Deadline)
	defer cancel()
	maybe, refusals := false, 0
	var last error
	after := time.Time{}
	began := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		if p.s.givesUp(began) {
			return outcomeOf(maybe, unavailable(errors.Join(last, errAway)))
		}
		sent := time.Now()
		code, err := p.sendTxnOnce(ctx, a, after, &maybe)
		if err == nil && code == wire.UnknownServerError && batch.SoundOf(a.Owner, a.Batch) != nil {
			code = wire.InvalidRecord // see partition.answered
		}
		what := kindOf(code)
		switch {
		case err != nil:
			last, after = err, sent
			if errors.Is(err, span.ErrGone) || errors.Is(err, span.ErrDenied) {
				return outcomeOf(maybe, err)
			}
		case what == kindNone:
			return nil
		case what == kindDuplicate:
			a.Duplicate = true
			return nil
		case code == wire.ConcurrentTransactions, what == kindRetry, what == kindMoved, what == kindGone:
			last, after = unavailable(code), sent
		case what == kindMaybe:
			maybe = true
			last, after = unavailable(code), sent
		case what == kindTooLarge:
			// Sealed, or really too large. A probe that failed tells neither; one that finds the log open may come after a
			// seal that was undone.
			switch err := p.Probe(ctx); {
			case err == nil:
				if refusals++; refusals >= maxTooLarge {
					return &span.RejectedError{Code: code}
				}
				last, after = unavailable(code), sent
			case errors.Is(err, span.ErrSealed):
				return err
			case errors.Is(err, span.ErrGone), errors.Is(err, span.ErrDenied):
				return outcomeOf(maybe, err)
			default:
				last, after = unavailable(err), sent
			}
		case what == kindDenied:
			return fmt.Errorf("%w: %w", span.ErrDenied, code)
		default:
			return &span.RejectedError{Code: code}
		}
		if err := p.s.pause(ctx, wait); err != nil {
			return outcomeOf(maybe, unavailable(errors.Join(last, err)))
		}
	}
}

func outcomeOf(maybe bool, err error) error {
	if maybe {
		return fmt.Errorf("%w: %w", span.ErrUnknownOutcome, err)
	}
	return err
}

// sendTxnOnce sends a batch to the partition's leader, as metadata that was asked
// for after a time names it. maybe is set when the batch may have landed.
func (p *partition) sendTxnOnce(ctx context.Context, a *span.Append, after time.Time, maybe *bool) (wire.Code, error) {
	_, b, err := p.leader(ctx, after)
	if err != nil {
		return 0, err
	}
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID = &a.Transaction
	req.Acks = -1
	req.TimeoutMillis = int32(max(min(time.Until(a.Deadline), p.s.opts.RequestTimeout)*9/10, time.Second).Milliseconds())
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = p.topic.Name, p.topic.ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = p.index, a.Batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	// From version 12 on the broker would add the partition by itself (KIP-890).
	resp, err := b.txnAppend(ctx, a.Transaction, req, 3, 11)
	if err != nil {
		*maybe = true
		return 0, unavailable(err)
	}
	for _, rt := range resp.(*kmsg.ProduceResponse).Topics {
		for i := range rt.Partitions {
			r := &rt.Partitions[i]
			if rt.Topic != p.topic.Name || r.Partition != p.index {
				continue
			}
			code := wire.Code(r.ErrorCode)
			if code == wire.None {
				a.BaseOffset, a.LogAppendTime, a.LogStart = r.BaseOffset, r.LogAppendTime, r.LogStartOffset
				p.s.stats.sent(1, len(a.Batch))
			}
			return code, nil
		}
	}
	*maybe = true
	return 0, unavailable(fmt.Errorf("%w: Produce answer leaves a partition out", wire.ErrMalformed))
}

// isTxn tells whether a batch goes by a transaction, or why it cannot.
func isTxn(h *batch.Header, a *span.Append) (bool, error) {
	switch {
	case h.IsTransactional() != (a.Transaction != ""):
		return false, &span.RejectedError{Code: wire.InvalidTxnState, Detail: "transactional batch outside a transaction"}
	case a.Transaction != "" && !h.HasProducer():
		return false, &span.RejectedError{Code: wire.InvalidRecord, Detail: "transactional batch without a producer"}
	}
	return a.Transaction != "", nil
}
