package coordinator

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// EndTxn, versions 0 to 5 (from 5 on with the epoch bump of KIP-890), as Apache
// Kafka 4.3.
//
// Differences: the answer comes when every cluster that runs its own part has decided it and the other parts are visible, unless that takes
// longer than settlePatience, and before the log has it that all is complete; Kafka's comes with the decision. A commit is only
// decided after every cluster that runs its own part has just said that the part
// is open (see justAnswered); one that has ended it makes the commit an abort, with
// TRANSACTION_ABORTABLE, and one that does not answer leaves it undecided.

// settlePatience is how long EndTxn waits for what follows from its decision.
const settlePatience = 10 * time.Second

// decision says how a transaction is ended.
type decision struct {
	bump  bool  // the markers carry the next epoch, which fences the client's
	keep  bool  // the client may go on from its epoch: it is remembered
	fresh int64 // producer id that the next transaction begins with, if the epochs are used up
}

// decide ends an ongoing transaction; settling does the rest. An id without open
// transaction may be aborted too, which bumps its epoch.
func (m *machine) decide(t *transaction, to txnState, d decision) {
	if t.state != txnOngoing {
		t.empty()
	}
	t.state, t.bumped, t.next = to, d.bump, noID
	if d.bump {
		t.lastEpoch = noEpoch
		if d.keep {
			t.lastEpoch = t.epoch
		}
		t.epoch++
		if d.keep && t.epoch > lastEpoch {
			t.next = d.fresh
		}
	}
	m.writeTxn(t)
}

// endRequest is an EndTxn.
type endRequest struct {
	key      groupKey
	producer int64
	epoch    int16
	commit   bool
	bump     bool // version 5 and later
	fresh    int64
	aborted  bool // a participant has ended its part: abort, whatever was asked
}

// endResult is what comes of it.
type endResult struct {
	txn    *settling // to be settled if it is decided, nil: nothing
	needID bool
	check  []partCheck // participants that are to be asked before a commit
}

// promises tells whether the result needs what the log does not have yet.
func (r endResult) promises() bool { return r.txn != nil }

// EndTxn commits or aborts the transaction of a producer.
func (c *Coordinator) EndTxn(ctx context.Context, caller Caller, req *kmsg.EndTxnRequest) *kmsg.EndTxnResponse {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.Version = req.Version
	resp.ProducerID, resp.ProducerEpoch = noID, noEpoch
	if req.TransactionalID == "" || len(req.TransactionalID) > maxName {
		resp.ErrorCode = int16(wire.InvalidRequest)
		return resp
	}
	r := &endRequest{key: groupKey{caller.Tenant, req.TransactionalID}, producer: req.ProducerID, epoch: req.ProducerEpoch,
		commit: req.Commit, bump: req.Version >= 5, fresh: noID}
	producer, epoch, code := c.endTxn(ctx, r)
	if code == wire.ProducerFenced && req.Version < 2 {
		code = wire.InvalidProducerEpoch
	}
	if code == wire.TransactionAbortable && req.Version < 4 {
		code = wire.InvalidProducerEpoch
	}
	resp.ErrorCode = int16(code)
	if code == wire.None && r.bump {
		resp.ProducerID, resp.ProducerEpoch = producer, epoch
	}
	return resp
}

func (c *Coordinator) endTxn(ctx context.Context, r *endRequest) (int64, int16, wire.Code) {
	unlock, code := c.locks.take(ctx, r.key)
	if code != wire.None {
		return noID, noEpoch, code
	}
	defer unlock()
	checked := false
	for {
		res, code := askFor(ctx, c, r.key, func(m *machine) (endResult, wire.Code) { return m.end(r, checked) }, endResult.promises)
		switch {
		case code != wire.None:
			return noID, noEpoch, code
		case res.needID:
			if r.fresh, code = c.freshID(ctx); code != wire.None {
				return noID, noEpoch, code
			}
		case res.check != nil:
			if r.aborted, code = c.checkParticipants(ctx, r.key, res.check); code != wire.None {
				return noID, noEpoch, code
			}
			checked = true
		default:
			if res.txn.state.decided() {
				c.awaitSettled(ctx, r.key, res.txn)
			}
			producer, epoch := res.txn.producer, res.txn.epoch
			if res.txn.next != noID {
				producer, epoch = res.txn.next, 0
			}
			if r.aborted {
				return noID, noEpoch, wire.TransactionAbortable
			}
			return producer, epoch, wire.None
		}
	}
}

// end decides on an EndTxn as TransactionCoordinator.endTransaction does.
func (m *machine) end(r *endRequest, checked bool) (endResult, wire.Code) {
	t := m.txns[r.key]
	if t == nil || t.producer != r.producer && !(r.bump && t.before == r.producer && t.lastEpoch == r.epoch) {
		return endResult{}, wire.InvalidProducerIDMapping
	}
	prepare, complete := txnPrepareAbort, txnCompleteAbort
	if r.commit {
		prepare, complete = txnPrepareCommit, txnCompleteCommit
	}
	if r.epoch != t.epoch || t.producer != r.producer {
		if !r.bump || r.epoch != t.lastEpoch {
			return endResult{}, wire.ProducerFenced
		}
		// A retry of what bumped the epoch.
		switch t.state {
		case complete:
			return endResult{txn: m.settlingOf(t)}, wire.None
		case prepare:
			return endResult{}, wire.ConcurrentTransactions
		}
		return endResult{}, wire.ProducerFenced
	}
	switch t.state {
	case txnOngoing:
	case txnPrepareCommit, txnPrepareAbort:
		if t.state == prepare {
			return endResult{}, wire.ConcurrentTransactions
		}
		return endResult{}, wire.InvalidTxnState
	case complete:
		if !r.bump {
			return endResult{txn: m.settlingOf(t)}, wire.None
		}
		fallthrough
	default:
		// With KIP-890 a client may abort what has not begun at the coordinator.
		if !r.bump || r.commit {
			return endResult{}, wire.InvalidTxnState
		}
	}
	switch {
	case r.bump && t.epoch >= lastEpoch && r.fresh == noID:
		return endResult{needID: true}, wire.None
	case r.commit && !checked:
		if check := m.checks(t); len(check) > 0 {
			return endResult{check: check}, wire.None
		}
	}
	if r.aborted {
		prepare = txnPrepareAbort
	}
	m.decide(t, prepare, decision{bump: r.bump || r.aborted, keep: true, fresh: r.fresh})
	return endResult{txn: m.settlingOf(t)}, wire.None
}

// completeTxn ends what was decided, after all participants were told. ends is what the clusters said, by cluster. The
// markers of the transaction before must be there, or not be waited for any more: of no id more than one
// transaction is answered whose markers are to come, as with Apache Kafka.
func (m *machine) completeTxn(key groupKey, producer int64, epoch int16, ends map[string]ending) wire.Code {
	t := m.txns[key]
	if t == nil || !t.state.decided() || t.producer != producer || t.epoch != epoch {
		return wire.None // done already
	}
	if t.awaitsMarkers() {
		return wire.ConcurrentTransactions
	}
	for i := range t.participants {
		// A redo that is open, or whose markers are not written, would stay so in its partitions for ever.
		if redo := m.txns[redoKey(m.shard, &t.participants[i])]; redo != nil && (redo.state == txnOngoing || redo.state.decided() || redo.awaitsMarkers()) {
			return wire.ConcurrentTransactions
		}
	}
	for i := range t.participants {
		if redo := m.txns[redoKey(m.shard, &t.participants[i])]; redo != nil {
			m.emit(txnGone{redo.key}.encode())
			m.dropTxn(redo)
		}
	}
	m.keepFormer(t, ends)
	if t.state == txnPrepareCommit {
		t.state = txnCompleteCommit
	} else {
		t.state = txnCompleteAbort
	}
	if t.next != noID {
		t.before, t.producer, t.epoch, t.next = t.producer, t.next, 0, noID
	}
	bumped, left := t.bumped, t.left
	m.forgetThere(t)
	t.empty()
	t.bumped, t.left = bumped, left
	m.writeTxn(t)
	// All that it says follows from the decision, which an owner that takes over carries out again.
	m.lazily()
	return wire.None
}

// expireTxn aborts a transaction past its timeout.
func (c *Coordinator) expireTxn(ctx context.Context, key groupKey) {
	unlock, code := c.locks.take(ctx, key)
	if code != wire.None {
		return
	}
	defer unlock()
	due, code := ask(ctx, c, key, func(m *machine) (bool, wire.Code) {
		t := m.txns[key]
		if t == nil || t.state != txnOngoing || m.now < t.started+int64(t.timeout) {
			return false, wire.None
		}
		// Where the epochs are used up the client cannot go on from its own.
		m.decide(t, txnPrepareAbort, decision{bump: true, keep: t.epoch < lastEpoch})
		return true, wire.None
	})
	if code == wire.None && due {
		c.logger.Info("transaction timed out and is aborted", "tenant", key.tenant, "transactional_id", key.group)
		c.metrics.txnTimeouts.Inc()
		c.settleTxn(key, nil)
	}
}
