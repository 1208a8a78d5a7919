package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Batches of a transaction are enlisted with the transaction's coordinator for the
// very copy that they go to, before they go there: so the coordinator knows all
// copies that hold a part when it decides. A copy whose cluster runs transactions
// of its own gets them under a producer of that cluster.
//
// A batch of a transaction is never judged by what the sealed spans know of its
// producer: a transaction does not outlive a seal, so it can be a retry of nothing
// that lies in them, and the coordinator knows who is fenced.

// Transaction is what an append belongs to. One value may serve many appends.
type Transaction struct {
	// Enlist asks the coordinator. Errors that pass are of the kind [ErrTransactionBusy] or
	// [ErrTransactionsHeld]; all others refuse the batch.
	Enlist func(ctx context.Context, e Enlist) (Enlisted, error)
	// Epochal: the producer's epoch is that of one transaction only (KIP-890), so
	// what was enlisted once holds for all batches of the epoch.
	Epochal bool
}

// Enlist names a copy that batches of a transaction go to.
type Enlist struct {
	Topic     catalog.ID
	Partition int32
	Producer  int64
	Epoch     int16
	First     int32 // sequence of the batch

	Cluster  string
	Physical span.Topic
	Index    int32 // physical partition
	Foreign  bool  // the cluster runs transactions of its own
	Floor    int64 // physical offset at or past which the batch will lie
}

// Enlisted is what the coordinator says of it. For a foreign copy it is the
// cluster's own transaction, in which sequences count from Base on.
type Enlisted struct {
	ID       string
	Producer int64
	Epoch    int16
	Base     int32
}

var (
	// ErrTransactionBusy: the transaction's coordinator cannot answer now. NOT_ENOUGH_REPLICAS, which
	// producers of all ages try again.
	ErrTransactionBusy = errors.New("transaction's coordinator is not there")
	// ErrTransactionsHeld: the partition is about to be sealed and takes no new transactions.
	ErrTransactionsHeld = errors.New("partition takes no new transactions")
)

// enlisted is what a target knows of a producer's transaction.
type enlisted struct {
	epoch int16
	as    Enlisted
}

// enlist asks for a batch of a transaction, which goes when the answer is there.
func (p *Partition) enlist(pl *placement, f *flight) {
	t := p.cur
	pl.judged = f
	if p.tooEarly(f, nil) {
		// Ahead of one that was sent back: it would be taken for the producer's first.
		p.turnAway(f, t, ErrTransactionBusy)
		return
	}
	p.await(f)
	id := f.producer
	_, foreign := t.store.(span.Transactor)
	e := Enlist{Topic: p.topic, Partition: p.index, Producer: f.producer, Epoch: f.epoch, First: f.first,
		Cluster: t.copy.Cluster, Physical: span.Topic{Name: t.copy.Topic, ID: t.copy.TopicID}, Index: t.copy.Partition, Foreign: foreign}
	if end := p.knownEnd(t); foreign && end >= 0 {
		e.Floor = ToPhysical(t.copy, end)
	}
	ask, until := f.a.Txn.Enlist, f.deadline
	p.ask(t, pl, func(ctx context.Context) func() {
		ctx, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		as, err := ask(ctx, e)
		for wait := 5 * time.Millisecond; errors.Is(err, ErrTransactionsHeld); wait = min(2*wait, 100*time.Millisecond) {
			// Once the move is through it is another copy that the batch goes to.
			if !sleep(ctx, wait) || !p.stands(t, pl, id, f) {
				break
			}
			as, err = ask(ctx, e)
		}
		return func() {
			pl.judged = nil
			if err != nil {
				p.turnAway(f, t, err)
				return
			}
			if f.a.Txn.Epochal {
				t.enlisted(id, f.epoch, as)
			}
			p.submitTxn(f, as)
			if t.flying.tail != f {
				p.nextPlacement(t, id) // it was refused here
			}
		}
	})
}

// turnAway answers a batch that was not enlisted, and those that wait behind it,
// which must not come to lie before it.
func (p *Partition) turnAway(f *flight, t *target, err error) {
	if errors.Is(err, ErrTransactionBusy) || errors.Is(err, ErrTransactionsHeld) {
		p.expectAgain(f)
	}
	pl := t.placing[f.producer]
	delete(t.placing, f.producer)
	p.fail(f, p.lateError(f, err))
	if pl == nil {
		return
	}
	for _, w := range pl.waiting {
		p.fail(w, p.lateError(w, err))
	}
}

// enlisted remembers what holds for an epoch.
func (t *target) enlisted(producer int64, epoch int16, as Enlisted) {
	if t.txns == nil || len(t.txns) >= knownLimit {
		t.txns = map[int64]enlisted{}
	}
	t.txns[producer] = enlisted{epoch, as}
}

// inTransaction sends a batch of a transaction on, or has it enlisted first.
func (p *Partition) inTransaction(f *flight) {
	t := p.cur
	if t.placing[f.producer] == nil {
		if e, ok := t.txns[f.producer]; ok && e.epoch == f.epoch && f.a.Txn.Epochal {
			p.submitTxn(f, e.as)
			return
		}
	}
	p.place(f)
}

// submitTxn hands a batch to the copy, under the producer that the copy knows.
func (p *Partition) submitTxn(f *flight, as Enlisted) {
	id, epoch, first := f.producer, f.epoch, f.first
	if as.ID != "" {
		distance, after := ahead(as.Base, f.first)
		if !after {
			p.fail(f, p.lateError(f, ErrOutOfOrder))
			return
		}
		id, epoch, first = as.Producer, as.Epoch, distance
	}
	if as.ID != "" || f.rewritten {
		if f.shared {
			// Another attempt's bytes: the store that was given up on still has them.
			c, at := p.fill.reserve(f.batch())
			f.chunk.drop()
			f.chunk, f.at, f.shared = c, at, false
		}
		// The batch was parsed whole before it came here, so this cannot fail.
		if err := batch.SetProducer(f.batch(), id, epoch, first); err != nil {
			p.fail(f, because(ErrStorage, err))
			return
		}
		f.rewritten = as.ID != ""
	}
	f.txn = as.ID
	p.submit(f)
}

// rejectedTxn takes a definite refusal of a batch of a transaction.
func (p *Partition) rejectedTxn(f *flight, t *target, r *span.RejectedError) {
	err := ofKind(r)
	if f.txn != "" {
		switch r.Code {
		case wire.InvalidProducerEpoch, wire.ProducerFenced, wire.InvalidTxnState, wire.InvalidProducerIDMapping, wire.UnknownProducerID:
			// The cluster has ended its part: so must the client.
			err = &span.RejectedError{Code: wire.TransactionAbortable, Detail: "A part of the transaction was ended"}
		}
	}
	if e, ok := t.txns[f.producer]; ok && e.epoch == f.epoch {
		delete(t.txns, f.producer) // asked anew
	}
	p.fail(f, p.lateError(f, err))
	p.placed(f, t)
}

// Mark ends a producer's transaction in the partition with a marker, if its
// records lie on a copy that takes markers. It returns when the marker is durable.
// It may be called again after an error: a copy takes a marker without a
// transaction for nothing.
func (p *Partition) Mark(ctx context.Context, m batch.Marker) error {
	b, err := m.Build()
	if err != nil {
		return fmt.Errorf("build a marker: %w", err)
	}
	h, _, err := batch.Parse(b)
	if err != nil {
		return fmt.Errorf("build a marker: %w", err)
	}
	// For the chain it has no producer: its sequence is nobody's.
	h.ProducerID = batch.NoProducerID
	done := make(chan *Append, 1)
	a := &Append{Batch: b, Header: h, marker: true, Done: func(a *Append) { done <- a }}
	if d, ok := ctx.Deadline(); ok {
		a.Deadline = d
	}
	p.Append(a)
	select {
	case <-done:
		if errors.Is(a.Err, ErrUnknownTopic) {
			return nil
		}
		return a.Err
	case <-ctx.Done():
		return because(ErrTimedOut, ctx.Err())
	}
}

// mark submits a marker, unless the copy's cluster writes its own.
func (p *Partition) mark(f *flight) {
	if _, foreign := p.cur.store.(span.Transactor); foreign {
		p.finish(f)
		return
	}
	p.submit(f)
}

// Marked counts the marker that a cluster with transactions of its own has written to a
// copy, for the reports of acknowledgements: the gateway that had the transaction
// ended is the only one to know.
func (l *Logs) Marked(topic catalog.ID, partition int32, physical catalog.ID) {
	// A partition that is no more has no certificate either.
	if p, err := l.Partition(topic, partition); err == nil {
		p.marked(physical)
	}
}

// HoldsTransactions tells whether an extend keeps new transactions from beginning
// in the topic, so that those that are open can end before the seal.
func HoldsTransactions(e *catalog.Extend) bool {
	if e == nil {
		return false
	}
	switch e.Step {
	case catalog.StepHold, catalog.StepSeal, catalog.StepRead, catalog.StepCommit:
		return true
	}
	return false
}

// Transactor finds the store of a cluster that runs transactions of its own; nil
// for one that does not.
func (l *Logs) Transactor(cluster string) (span.Transactor, error) {
	st, err := l.stores.Store(cluster)
	if err != nil {
		return nil, because(ErrUnavailable, err)
	}
	t, _ := st.(span.Transactor)
	return t, nil
}

// HoldsNew tells whether new transactions may not begin in the topic for now, and whether
// the copy is being sealed by now, or was: then none may come to it that is not in it already. Whoever asks for
// the copy may not have heard yet that the chain goes on elsewhere.
func (l *Logs) HoldsNew(at *Enlist) (held, sealing bool) {
	// The extend first: once it is gone the chain that is read after it goes on elsewhere already. The other way round a move that
	// commits in between would look as if there had been none.
	e := l.source.Extend(at.Topic)
	if c, _, err := l.source.Chain(at.Topic, at.Partition); err == nil {
		if s := OpenSpan(c); s == nil || s.Copies[0].TopicID != catalog.ID(at.Physical.ID) {
			return true, true
		}
	}
	held = HoldsTransactions(e)
	return held, held && e.Step != catalog.StepHold
}
