package coordinator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// InitProducerId with a transactional id, versions 0 to 5, as Apache Kafka 4.3:
// a new id, the next epoch of the one that is there, or the same again for a
// retry. An open transaction is aborted first, and the client told to try again.

// initRequest is an InitProducerId whose fields were checked.
type initRequest struct {
	key      groupKey
	timeout  int32 // ms
	producer int64 // that the client has, -1
	epoch    int16
	fresh    int64 // producer id to be used if a new one is needed, -1: none was taken yet
}

// initResult is what comes of it.
type initResult struct {
	producer int64
	epoch    int16
	needID   bool            // ask again with a fresh producer id
	aborting bool            // the open transaction is being aborted
	writing  bool            // markers of the last one are to come
	written  <-chan struct{} // with writing: closed when something has changed of them since
}

func (c *Coordinator) initTransactional(ctx context.Context, caller Caller, req *kmsg.InitProducerIDRequest) (int64, int16, wire.Code) {
	if len(*req.TransactionalID) > maxName {
		return noID, noEpoch, wire.InvalidRequest
	}
	if req.TransactionTimeoutMillis <= 0 || int64(req.TransactionTimeoutMillis) > c.config.MaxTransactionTimeout.Milliseconds() {
		return noID, noEpoch, wire.InvalidTransactionTimeout
	}
	r := &initRequest{key: groupKey{caller.Tenant, *req.TransactionalID}, timeout: req.TransactionTimeoutMillis, producer: noID, epoch: noEpoch, fresh: noID}
	if req.Version >= 3 {
		r.producer, r.epoch = req.ProducerID, req.ProducerEpoch
	}
	unlock, code := c.locks.take(ctx, r.key)
	if code != wire.None {
		return noID, noEpoch, code
	}
	defer unlock()
	waited := false
	for {
		res, code := c.askInit(ctx, r)
		switch {
		case code != wire.None:
			return noID, noEpoch, code
		case res.aborting:
			c.settleTxn(r.key, nil)
			return noID, noEpoch, wire.ConcurrentTransactions
		case res.writing && waited:
			return noID, noEpoch, wire.ConcurrentTransactions
		case res.writing:
			awaitMarkers(ctx, res.written)
			waited = true
			continue
		case !res.needID:
			return res.producer, res.epoch, wire.None
		}
		if r.fresh, code = c.freshID(ctx); code != wire.None {
			return noID, noEpoch, code
		}
	}
}

func (m *machine) initProducer(r *initRequest) (initResult, wire.Code) {
	t := m.txns[r.key]
	if t == nil {
		if code := m.mayBegin(r.key); code != wire.None {
			return initResult{}, code
		}
	}
	switch {
	case t == nil && r.fresh == noID:
		return initResult{needID: true}, wire.None
	case t == nil:
		t = m.newTransaction(r.key)
		t.producer = r.fresh
	case !t.knows(r.producer, r.epoch):
		return initResult{}, wire.ProducerFenced
	case t.state.decided():
		return initResult{}, wire.ConcurrentTransactions
	case t.state == txnOngoing:
		// The client is another incarnation, or wants the epoch bumped: the former one
		// is fenced, by the markers too.
		m.decide(t, txnPrepareAbort, decision{bump: true})
		return initResult{aborting: true}, wire.None
	case t.awaitsMarkers():
		// Who has its answer finds all that the former incarnation has committed.
		return initResult{writing: true}, wire.None
	}
	switch {
	case t.epoch >= lastEpoch && r.producer != noID && r.epoch == t.epoch, t.epoch >= lastEpoch && r.producer == noID:
		if r.fresh == noID {
			return initResult{needID: true}, wire.None
		}
		t.before, t.producer = t.producer, r.fresh
		t.lastEpoch, t.epoch = t.epoch, 0
		if r.producer == noID {
			t.lastEpoch = noEpoch
		}
	case r.producer == noID, t.epoch == noEpoch:
		// Nobody has the id yet: what a client says that it had is of no account, some say 0 and 0 at their first request.
		t.lastEpoch, t.epoch = noEpoch, t.epoch+1
	case r.producer != t.producer:
		// A retry of what began this producer id.
	case r.epoch == t.epoch:
		t.lastEpoch, t.epoch = t.epoch, t.epoch+1
	case r.epoch == t.lastEpoch:
		// A retry: its bump is done.
	default:
		return initResult{}, wire.ProducerFenced
	}
	t.timeout = r.timeout
	if t.state != txnEmpty {
		t.state = txnEmpty
	}
	t.empty()
	m.writeTxn(t)
	return initResult{producer: t.producer, epoch: t.epoch}, wire.None
}

// knows tells whether a client that says it has that producer id may go on; its
// epoch is looked at later.
func (t *transaction) knows(producer int64, epoch int16) bool {
	switch {
	case producer == noID, t.epoch == noEpoch:
		return true
	case producer == t.producer:
		return true
	}
	// A retry after the former producer id was used up.
	return producer == t.before && epoch == t.lastEpoch && epoch >= lastEpoch
}

func (c *Coordinator) freshID(ctx context.Context) (int64, wire.Code) {
	id, err := c.ids.get(ctx)
	if err != nil {
		c.logger.Warn("no producer ids to be had", "err", err)
		return noID, wire.CoordinatorNotAvailable
	}
	return id, wire.None
}
