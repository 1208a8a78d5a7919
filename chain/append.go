package chain

import (
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Append submits one batch. See [Append] for when and how it is answered.
//
// Batches of one partition land in the order of the calls, as far as they land,
// also when the chain is extended meanwhile: what the old span refused goes to
// the next one before what came later.
func (p *Partition) Append(a *Append) {
	a.BaseOffset, a.LogAppendTime, a.LogStart, a.Epoch, a.Duplicate, a.Err = -1, -1, -1, -1, false, nil
	if a.MaxBatch > 0 && len(a.Batch) > a.MaxBatch {
		a.Err = fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(a.Batch), a.MaxBatch)
		a.Done(a)
		return
	}
	f := flightPool.Get().(*flight)
	f.a, f.p, f.size = a, p, len(a.Batch)
	f.producer, f.epoch, f.records = a.Header.ProducerID, a.Header.ProducerEpoch, a.Header.NumRecords
	f.first, f.last = a.Header.BaseSequence, a.Header.LastSequence()
	if f.came = a.Came; f.came.IsZero() {
		f.came = time.Now()
	}
	if f.deadline = a.Deadline; f.deadline.IsZero() {
		f.deadline = f.came.Add(30 * time.Second)
	}

	p.mu.Lock()
	if a.Loan != nil {
		f.chunk, f.at = &a.Loan.c, a.At
		f.chunk.retain()
	} else {
		f.chunk, f.at = p.fill.reserve(a.Batch)
	}
	p.tickets++
	f.ticket = p.tickets
	p.route(f)
	p.unlock()
}

// route sends a flight to the open span, or keeps it until that can be done.
func (p *Partition) route(f *flight) {
	if p.dead != nil {
		p.fail(f, p.lateError(f, p.dead))
		return
	}
	if p.cur == nil {
		p.open()
	}
	t := p.cur
	if t != nil && !t.canSeal {
		// In this order: a new session begins when its fences can be seen here.
		f.lease = p.l.lease()
		if e := p.l.source.Extend(p.topic); t.end < 0 && fences(e, t.copy.TopicID) {
			p.fenceTarget(t, e)
		}
	}
	switch {
	case t == nil || t.stop != flowing || len(p.held) > 0:
		p.hold(f)
	case f.a.marker:
		p.mark(f)
	case f.a.Txn != nil:
		p.inTransaction(f)
	case !f.hasProducer():
		p.submit(f)
	default:
		if _, ok := t.known[f.producer]; ok {
			p.submit(f)
		} else {
			p.place(f)
		}
	}
}

// open makes a target of the chain's open span, if it has one.
func (p *Partition) open() {
	v := p.view.Load()
	s := OpenSpan(v.chain)
	if s == nil {
		p.startLearning()
		return
	}
	c := &s.Copies[0]
	// In this order: an extend that is not seen any more may have been committed, and
	// this partition about to hear of it. The copy that it knows takes nothing then.
	e := p.l.source.Extend(p.topic)
	if p.behind() {
		p.startLearning()
		return
	}
	st, err := p.l.stores.Store(c.Cluster)
	if err != nil {
		p.l.log.Warn("no store for a cluster", "cluster", c.Cluster, "err", err)
		p.startLearning()
		return
	}
	t := &target{
		seq: s.Seq, epoch: s.Epoch, copy: c, store: st,
		log:     st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition),
		canSeal: p.l.source.CanSeal(c.Cluster), end: -1, stateRef: SealedState(v.chain),
	}
	t.stateReady = t.stateRef == ""
	t.acks.next = -1
	p.cur = t
	if fences(e, t.copy.TopicID) {
		p.fenceTarget(t, e)
	}
}

// submit hands a flight to the copy.
func (p *Partition) submit(f *flight) {
	t := p.cur
	if f.t != t || !f.unknown {
		f.floor = p.knownEnd(t)
	}
	f.t = t
	t.flying.push(f)
	f.sa = span.Append{Batch: f.batch(), Deadline: f.deadline, Done: landed, Burst: f.a.Burst, Owner: p.owner(), BaseOffset: -1, LogAppendTime: -1, LogStart: -1, LastStable: -1, Transaction: f.txn, Tag: f}
	p.out = append(p.out, f)
}

// landed is span.Append.Done.
func landed(sa *span.Append) {
	f := sa.Tag.(*flight)
	f.p.complete(f)
}

// complete takes the store's answer.
func (p *Partition) complete(f *flight) {
	t := f.t
	now := time.Now()
	// Asked after the answer was read, before it is passed on: behind a fence this
	// is all that stands between a late answer and the client.
	alive := t.canSeal || p.l.holds(f.lease)
	p.mu.Lock()
	defer p.unlock()
	if f.abandoned {
		f.free()
		return
	}
	t.flying.remove(f)
	switch err := f.sa.Err; {
	case err == nil && alive:
		p.landed(f, t, now)
	case err == nil:
		t.doubt(f, now)
		t.acks.lostSight(f)
		p.sentBack(f, t, because(ErrTimedOut, errSession))
	default:
		p.failed(f, t, now, err)
	}
	if t.stop != flowing && t.flying.n == 0 {
		p.settle(t)
	}
}

// failed takes an answer that is no acknowledgement.
func (p *Partition) failed(f *flight, t *target, now time.Time, err error) {
	var rejected *span.RejectedError
	var truncated *span.TruncatedError
	switch {
	case errors.Is(err, span.ErrSealed), errors.Is(err, span.ErrGone):
		p.halt(t, stopSealed)
		t.returned = append(t.returned, f)
	case errors.As(err, &truncated):
		p.raise(t, truncated, now)
		p.unknownOutcome(f, t, now, err, stopTruncated)
	case errors.As(err, &rejected):
		p.rejected(f, t, rejected)
	case errors.Is(err, span.ErrUnknownOutcome):
		p.unknownOutcome(f, t, now, err, stopUnknown)
	case errors.Is(err, span.ErrStorage):
		p.sentBack(f, t, p.lateError(f, because(ErrStorage, err)))
	case errors.Is(err, span.ErrUnavailable), errors.Is(err, span.ErrDenied):
		p.sentBack(f, t, p.lateError(f, because(ErrUnavailable, err)))
		p.renew(t)
	default:
		// Not a kind that says that nothing landed.
		p.unknownOutcome(f, t, now, err, stopUnknown)
	}
}

var errSession = errors.New("this gateway's session is lost")

// landed takes an acknowledgement.
func (p *Partition) landed(f *flight, t *target, now time.Time) {
	a, sa := f.a, &f.sa
	if sa.BaseOffset < 0 {
		p.l.metrics.Duplicates.Inc()
		t.remember(f.producer, now.Unix())
		t.doubts.Resolve(f.producer, f.epoch, f.first)
		p.fail(f, ErrDuplicate)
		p.placed(f, t)
		return
	}
	base := ToLogical(t.copy, sa.BaseOffset)
	next := base + int64(f.records)
	if t.end >= 0 && next > t.end {
		// It lies past the committed end, so it is not in the chain: only a copy
		// that was ended without a seal can answer so. It goes where the chain goes on.
		p.l.log.Warn("an append landed past the end of a span", "topic", p.topic, "partition", p.index, "span", t.seq, "offset", base, "end", t.end)
		t.returned = append(t.returned, f)
		return
	}
	if sa.Duplicate {
		p.l.metrics.Duplicates.Inc()
	}
	if sa.Duplicate && (!f.unknown || t.acks.counted(base)) {
		t.acks.found(f, base)
	} else {
		if a.marker {
			t.acks.markers++
		} else {
			// A duplicate of this flight's own earlier attempt: nobody else here has counted it.
			t.acks.add(f, base, f.crc(), now)
			p.firstAck(t, f, now)
		}
		p.cacheOwn(f, t, base, next, now)
	}
	if f.hasProducer() {
		t.remember(f.producer, now.Unix())
		t.doubts.Resolve(f.producer, f.epoch, f.first)
		p.cameAgain(f)
	}
	v := p.view.Load()
	a.BaseOffset, a.LogAppendTime, a.LogStart, a.Epoch, a.Duplicate = base, sa.LogAppendTime, v.chain.Start, t.epoch, sa.Duplicate
	p.finish(f)
	if p.hwSeq == t.seq && next > p.hw {
		p.hw = next
		p.wakeUpTo(next)
	}
	p.stable(t, sa.LastStable, next)
	p.placed(f, t)
}

// rejected takes a definite refusal. A sequence that does not fit may be a retry
// of what the spans before hold, which this copy knows nothing of.
func (p *Partition) rejected(f *flight, t *target, r *span.RejectedError) {
	sequence := r.Code == wire.OutOfOrderSequenceNumber || r.Code == wire.UnknownProducerID
	if sequence && f.hasProducer() && p.earlierPending(f, t) {
		// What comes before it in sequence is still to be sent again, or has no
		// answer yet, so it was refused for that alone.
		p.halt(t, stopUnknown)
		t.returned = append(t.returned, f)
		return
	}
	if f.a.Txn != nil {
		p.rejectedTxn(f, t, r)
		return
	}
	if sequence && f.hasProducer() {
		// The copy has state of the producer, so it judges from now on.
		t.remember(f.producer, time.Now().Unix())
		if p.missesOne(f) {
			p.sentBack(f, t, p.lateError(f, because(ErrUnavailable, r)))
			return
		}
		if t.stateRef != "" {
			f.rejected = ofKind(r)
			p.placed(f, t)
			p.judgeLate(f, t)
			return
		}
	}
	p.fail(f, p.lateError(f, ofKind(r)))
	p.placed(f, t)
}

// ofKind gives a copy's refusal the kind that this package has for it.
func ofKind(r *span.RejectedError) error {
	switch r.Code {
	case wire.OutOfOrderSequenceNumber:
		return because(ErrOutOfOrder, r)
	case wire.InvalidProducerEpoch, wire.ProducerFenced:
		return because(ErrOldProducerEpoch, r)
	}
	return r
}

// earlierPending tells whether an earlier batch of the producer waits for its outcome.
func (p *Partition) earlierPending(f *flight, t *target) bool {
	for _, g := range t.returned {
		if g.producer == f.producer && g.ticket < f.ticket {
			return true
		}
	}
	for g := t.flying.head; g != nil; g = g.next {
		if g.producer == f.producer && g.ticket < f.ticket {
			return true
		}
	}
	return false
}

// unknownOutcome: an append may have landed. Without a producer id nobody can
// tell, and it is never sent again. With one it takes its place in the line
// again: the copy tells whether it has it, or, once sealed, its last state does.
func (p *Partition) unknownOutcome(f *flight, t *target, now time.Time, err error, why stopReason) {
	f.unknown = true
	t.doubt(f, now)
	if why == stopTruncated {
		p.halt(t, why)
	}
	if !f.hasProducer() || !now.Add(time.Millisecond).Before(f.deadline) {
		t.acks.lostSight(f)
		p.sentBack(f, t, because(ErrTimedOut, err))
		return
	}
	p.halt(t, why)
	t.returned = append(t.returned, f)
}

// sentBack answers with an error that makes the client come again. What waited
// behind a producer's first batch goes back with it: placed alone it would make
// the first out of order.
func (p *Partition) sentBack(f *flight, t *target, err error) {
	if f.hasProducer() {
		// Also where this copy judges by itself: the chain may go on in one that
		// has not heard of the producer before the batch is here again.
		p.expectAgain(f)
		if pl := t.placing[f.producer]; pl != nil {
			delete(t.placing, f.producer)
			for _, w := range pl.waiting {
				p.fail(w, p.lateError(w, because(ErrUnavailable, err)))
			}
		}
	}
	p.waits(f)
	p.fail(f, err)
}

// lateError is err, unless an earlier attempt may have landed: then the outcome is unknown.
func (p *Partition) lateError(f *flight, err error) error {
	if f.unknown && !errors.Is(err, ErrTimedOut) {
		return because(ErrTimedOut, err)
	}
	return err
}

// fail answers with an error.
func (p *Partition) fail(f *flight, err error) {
	f.a.BaseOffset, f.a.Err = -1, err
	p.finish(f)
}

// finish answers; the flight is gone once mu is given up.
func (p *Partition) finish(f *flight) {
	if f.held {
		p.unhold(f)
	}
	p.done = append(p.done, f)
}

// raise notes that the physical log went back.
func (p *Partition) raise(t *target, e *span.TruncatedError, now time.Time) {
	if t.alarm != nil {
		return
	}
	ref := catalog.TopicRef{ID: p.topic}
	if topic, ok := p.l.source.Topic(p.topic); ok {
		ref.Tenant, ref.Name = topic.Tenant, topic.Name
	}
	t.alarm = &catalog.Alarm{Topic: ref, Partition: p.index, Span: t.seq,
		Acknowledged: max(ToLogical(t.copy, e.Acknowledged), t.acks.next), End: ToLogical(t.copy, e.End),
		LeaderEpoch: e.LeaderEpoch, Node: p.l.node, At: now.UTC()}
	p.halt(t, stopTruncated)
}
