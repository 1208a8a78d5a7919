package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// Transactions on the cluster itself. Their requests are those of a producer
// before KIP-890, that it works alike on all releases from 3.9 on: partitions are added one by one. Only
// a commit bumps the epoch, where the cluster does that; else it stays until the next BeginTransaction.

var _ span.Transactor = (*Store)(nil)

// txnCoordinators remembers which broker coordinates a transactional id.
type txnCoordinators struct {
	mu    sync.Mutex
	nodes map[string]int32
}

// maxCoordinators bounds what is remembered.
const maxCoordinators = 50_000

func (c *txnCoordinators) get(id string) (int32, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.nodes[id]
	return n, ok
}

func (c *txnCoordinators) set(id string, node int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes == nil || len(c.nodes) >= maxCoordinators {
		c.nodes = map[string]int32{}
	}
	c.nodes[id] = node
}

func (c *txnCoordinators) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.nodes, id)
}

// coordinator finds the broker of a transactional id.
func (s *Store) coordinator(ctx context.Context, id string) (*broker, error) {
	if node, ok := s.coordinators.get(id); ok {
		if b := s.broker(node); b != nil {
			return b, nil
		}
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType = 1
	req.CoordinatorKey = id
	req.CoordinatorKeys = []string{id}
	var node int32
	accept := func(resp kmsg.Response) error {
		r := resp.(*kmsg.FindCoordinatorResponse)
		code, at := wire.Code(r.ErrorCode), r.NodeID
		if r.Version >= 4 {
			if len(r.Coordinators) != 1 {
				return fmt.Errorf("%w: FindCoordinator answers for %d keys", wire.ErrMalformed, len(r.Coordinators))
			}
			code, at = wire.Code(r.Coordinators[0].ErrorCode), r.Coordinators[0].NodeID
		}
		if code != wire.None {
			return code
		}
		node = at
		return nil
	}
	for _, b := range s.candidates() {
		// The version is written into the request, so each broker gets its own.
		one := *req
		resp, err := b.request(ctx, &one, 1, 4)
		if err == nil {
			err = accept(resp)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, unavailable(err)
			}
			if errors.Is(err, wire.TransactionalIDAuthorizationFailed) || errors.Is(err, wire.ClusterAuthorizationFailed) {
				return nil, fmt.Errorf("%w: %w", span.ErrDenied, err)
			}
			continue
		}
		if b := s.broker(node); b != nil {
			s.coordinators.set(id, node)
			return b, nil
		}
	}
	return nil, unavailable(errNoBroker)
}

// errTxnBusy: the coordinator is to be asked again.
var errTxnBusy = errors.New("transaction coordinator is busy")

// withCoordinator asks the coordinator of an id until it gives a definite answer.
// ask returns the answer's code; busy ones are tried again.
func (s *Store) withCoordinator(ctx context.Context, id string, ask func(ctx context.Context, b *broker) (wire.Code, error)) error {
	ctx, cancel := s.short(ctx)
	defer cancel()
	var last error = errTxnBusy
	began := time.Now()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if s.givesUp(began) {
			return unavailable(errors.Join(last, errAway))
		}
		b, err := s.coordinator(ctx, id)
		if err == nil {
			var code wire.Code
			code, err = ask(ctx, b)
			switch {
			case errors.Is(err, span.ErrTransactionLate):
				return unavailable(errors.Join(last, err))
			case err != nil:
				s.coordinators.forget(id)
				err = unavailable(err)
			case code == wire.None:
				return nil
			case code == wire.NotCoordinator, code == wire.CoordinatorNotAvailable:
				s.coordinators.forget(id)
				err = fmt.Errorf("%w: %w", span.ErrUnavailable, code)
			case code == wire.ConcurrentTransactions, code == wire.CoordinatorLoadInProgress, code == wire.OperationNotAttempted,
				code == wire.UnknownTopicOrPartition, kindOf(code) == kindRetry, kindOf(code) == kindMaybe, kindOf(code) == kindMoved:
				// A broker may not have heard of a new topic yet.
				err = fmt.Errorf("%w: %w: %w", span.ErrUnavailable, errTxnBusy, code)
			default:
				return txnError(code)
			}
		}
		if errors.Is(err, span.ErrDenied) {
			return err
		}
		last = err
		if err := s.pause(ctx, wait); err != nil {
			return unavailable(errors.Join(last, err))
		}
	}
}

// txnError maps the code of a transaction's request.
func txnError(code wire.Code) error {
	switch code {
	case wire.InvalidProducerEpoch, wire.ProducerFenced, wire.InvalidProducerIDMapping, wire.InvalidTxnState, wire.TransactionAbortable:
		return fmt.Errorf("%w: %w", span.ErrTransactionEnded, code)
	case wire.TransactionalIDAuthorizationFailed, wire.ClusterAuthorizationFailed, wire.TopicAuthorizationFailed:
		return fmt.Errorf("%w: %w", span.ErrDenied, code)
	}
	return asError(code)
}

func (s *Store) txnWrap(what, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cluster %s: %s %s: %w", s.opts.Name, what, id, err)
}

// leastTxnTimeout is the least timeout that is asked for.
const leastTxnTimeout = 10 * time.Second

// BeginTransaction implements [span.Transactor].
func (s *Store) BeginTransaction(ctx context.Context, id string, timeout time.Duration) (span.Transaction, error) {
	t := span.Transaction{ID: id, Producer: -1, Epoch: -1}
	for {
		err := s.withCoordinator(ctx, id, func(ctx context.Context, b *broker) (wire.Code, error) {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID = &id
			req.TransactionTimeoutMillis = int32(timeout.Milliseconds())
			req.ProducerID, req.ProducerEpoch = -1, -1
			resp, err := b.txnRequest(ctx, id, req, 0, 4, time.Time{})
			if err != nil {
				return 0, err
			}
			r := resp.(*kmsg.InitProducerIDResponse)
			t.Producer, t.Epoch = r.ProducerID, r.ProducerEpoch
			return wire.Code(r.ErrorCode), nil
		})
		var rejected *span.RejectedError
		if errors.As(err, &rejected) && rejected.Code == wire.InvalidTransactionTimeout && timeout > leastTxnTimeout {
			// The cluster allows less (transaction.max.timeout.ms).
			timeout = max(timeout/2, leastTxnTimeout)
			continue
		}
		return t, s.txnWrap("begin transaction", id, err)
	}
}

// AddToTransaction implements [span.Transactor].
func (s *Store) AddToTransaction(ctx context.Context, t span.Transaction, topic string, partitions []int32, until time.Time) error {
	return s.txnWrap("add to transaction", t.ID, s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch = t.ID, t.Producer, t.Epoch
		rt := kmsg.NewAddPartitionsToTxnRequestTopic()
		rt.Topic, rt.Partitions = topic, partitions
		req.Topics = append(req.Topics, rt)
		resp, err := b.txnRequest(ctx, t.ID, req, 0, 3, until)
		if err != nil {
			return 0, err
		}
		code, n := wire.None, 0
		for _, rt := range resp.(*kmsg.AddPartitionsToTxnResponse).Topics {
			for _, r := range rt.Partitions {
				n++
				if r.ErrorCode != 0 && (code == wire.None || code == wire.OperationNotAttempted) {
					code = wire.Code(r.ErrorCode)
				}
			}
		}
		if n < len(partitions) {
			return 0, fmt.Errorf("%w: AddPartitionsToTxn answer leaves a partition out", wire.ErrMalformed)
		}
		return code, nil
	}))
}

// TransactionOpen implements [span.Transactor].
func (s *Store) TransactionOpen(ctx context.Context, t span.Transaction) error {
	return s.txnWrap("ask for transaction", t.ID, s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		r, err := b.states.do(ctx, t.ID)
		switch {
		case err != nil:
			return 0, err
		case wire.Code(r.ErrorCode) == wire.TransactionalIDNotFound:
			return wire.InvalidProducerIDMapping, nil
		case r.ErrorCode != 0:
			return wire.Code(r.ErrorCode), nil
		case r.ProducerID != t.Producer || r.ProducerEpoch != t.Epoch:
			return wire.ProducerFenced, nil
		case r.State != "Ongoing" && r.State != "Empty" && r.State != "CompleteCommit":
			// CompleteCommit is the state of the one before, whose end gave this one its epoch: nothing was added yet.
			return wire.InvalidTxnState, nil
		}
		return wire.None, nil
	}))
}

// endsAs tells whether a state follows from the decision to commit, or to abort.
func endsAs(state string, commit bool) bool {
	if commit {
		return state == "PrepareCommit" || state == "CompleteCommit"
	}
	return state == "PrepareAbort" || state == "CompleteAbort"
}

// markerPatience is how long markers are waited for at a time.
const markerPatience = 3 * time.Second

// Only the end of the next transaction waits for markers. So it is looked after them at common points of time, the transactions of many in one
// request: each request costs the coordinator about as much as a small one of a client.
const (
	markerLook  = 20 * time.Millisecond
	markerEven  = 8  // looks at that pace, before the pauses grow
	markerLooks = 32 // that a pause between looks has at most
)

// untilLook is the time to the next look, at the pace of the nth.
func untilLook(now time.Time, nth int) time.Duration {
	step := markerLook * time.Duration(min(1<<min(max(nth-markerEven, 0), 10), markerLooks))
	return now.Truncate(step).Add(step).Sub(now)
}

// EndTransaction implements [span.Transactor].
//
// Where the cluster bumps a producer's epoch with each end (transaction.version=2, KIP-890) a commit is told by such a request:
// whatever of the transaction comes late is refused from then on, and nothing need be asked before the id is used again. The part
// may have been begun and be ended once more by gateways that know less of the cluster: see ended for what is found then.
func (s *Store) EndTransaction(ctx context.Context, t span.Transaction, commit bool) (next span.Transaction, err error) {
	high := int16(3)
	if commit && s.bumpsEpochs.Load() {
		high = 5
	}
	err = s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = t.ID, t.Producer, t.Epoch, commit
		answer, err := b.txnRequest(ctx, t.ID, req, 0, high, time.Time{})
		if err != nil {
			return 0, err
		}
		resp := answer.(*kmsg.EndTxnResponse)
		code := wire.Code(resp.ErrorCode)
		if code == wire.None && resp.Version >= 5 && resp.ProducerID >= 0 && resp.ProducerEpoch >= 0 {
			next = span.Transaction{ID: t.ID, Producer: resp.ProducerID, Epoch: resp.ProducerEpoch}
		}
		if code == wire.ConcurrentTransactions {
			// Decided before, and being carried out: as it is told now, or by the cluster's own timeout.
			r, err := b.states.do(ctx, t.ID)
			if err == nil && r.ErrorCode == 0 && decidedAs(r, t, commit) {
				return wire.None, nil
			}
		}
		return code, nil
	})
	if err == nil || !errors.Is(err, wire.InvalidTxnState) {
		return next, s.txnWrap("end transaction", t.ID, err)
	}
	return span.Transaction{}, s.txnWrap("end transaction", t.ID, s.ended(ctx, t, commit, err))
}

// decidedAs tells whether the transaction is decided as it was to be. A commit that bumps the epoch shows the bumped one.
func decidedAs(r stateAnswer, t span.Transaction, commit bool) bool {
	return r.ProducerID == t.Producer && (r.ProducerEpoch == t.Epoch || commit && r.ProducerEpoch == t.Epoch+1) && endsAs(r.State, commit)
}

// ended finds out what INVALID_TXN_STATE says of a transaction: nothing had been added to it, or it had ended the other way.
func (s *Store) ended(ctx context.Context, t span.Transaction, commit bool, refused error) error {
	var is stateAnswer
	wait, cancel := context.WithTimeout(ctx, markerPatience)
	defer cancel()
	err := s.withCoordinator(wait, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		r, err := b.states.do(ctx, t.ID)
		switch is = r; {
		case err != nil:
			return 0, err
		case r.ErrorCode != 0:
			return wire.Code(r.ErrorCode), nil
		case r.State == "PrepareCommit" || r.State == "PrepareAbort":
			return wire.ConcurrentTransactions, nil
		}
		return wire.None, nil
	})
	same := is.ProducerID == t.Producer && is.ProducerEpoch == t.Epoch
	switch {
	case err != nil:
		return err
	case same && is.State == "Empty":
		return nil
	case same && commit && is.State == "CompleteCommit":
		// It was begun with the epoch that the end of the one before gave it, and that one's state is still there; or it is
		// committed already, by a request that leaves the epoch. An abort by the cluster itself bumps it.
		return nil
	}
	return refused
}

// TransactionWritten implements [span.Transactor].
func (s *Store) TransactionWritten(ctx context.Context, t span.Transaction) error {
	pending := false
	wait, cancel := context.WithTimeout(ctx, markerPatience)
	defer cancel()
	err := s.withCoordinator(wait, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		for nth := range markerLooks {
			if err := s.pause(ctx, untilLook(time.Now(), nth)); err != nil {
				return 0, err
			}
			r, err := b.states.do(ctx, t.ID)
			if err != nil {
				return 0, err
			}
			code := wire.Code(r.ErrorCode)
			pending = code == wire.None && (r.State == "PrepareCommit" || r.State == "PrepareAbort")
			switch {
			case code == wire.TransactionalIDNotFound:
				return wire.None, nil // forgotten, which comes long after
			case !pending:
				return code, nil
			}
		}
		return wire.ConcurrentTransactions, nil
	})
	if err != nil && pending {
		err = fmt.Errorf("%w: %w", span.ErrTransactionPending, err)
	}
	return s.txnWrap("wait for the markers of", t.ID, err)
}

// transactionPrefix begins the transactional ids that this product uses on clusters.
const transactionPrefix = "__braid-"

// wedged knows the transactions whose coordinator has decided and does not get on with the markers. One of
// them was refused, by a seal: it is not tried again before that coordinator restarts, and all its partitions
// are listed as open as long, also where the marker was written. That must not keep their topics from
// being sealed for ever; whether records are open is told by the last stable offset.
type wedged struct {
	mu    sync.Mutex
	since map[wedgedKey]time.Time // when it was first seen decided
}

type wedgedKey struct {
	id    string
	epoch int16
}

// wedgedAfter is how long markers take at most where nothing is wrong.
const wedgedAfter = 30 * time.Second

func (w *wedged) is(id string, epoch int16, state string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := wedgedKey{id, epoch}
	if state != "PrepareCommit" && state != "PrepareAbort" {
		delete(w.since, k)
		return false
	}
	if w.since == nil || len(w.since) >= maxCoordinators {
		w.since = map[wedgedKey]time.Time{}
	}
	first, seen := w.since[k]
	if !seen {
		w.since[k] = now
		return false
	}
	return now.Sub(first) > wedgedAfter
}

// enlistedIn fails when a transaction of ours that is open has a partition of the
// topic, also one without a record: its marker would come to a sealed partition,
// where its coordinator gives it up for good.
func (s *Store) enlistedIn(ctx context.Context, t span.Topic) error {
	// All coordinators that there are must answer: the one that does not may have it. Asked before and after, for a
	// coordinator's transactions that go over to one which was asked already would be seen by neither.
	before, err := s.txnLeaders(ctx)
	if err != nil {
		return err
	}
	asked := map[int32]bool{}
	for _, p := range before {
		if asked[p.leader] {
			continue
		}
		asked[p.leader] = true
		b := s.broker(p.leader)
		if b == nil {
			return unavailable(errNoBroker)
		}
		list := kmsg.NewPtrListTransactionsRequest()
		list.StateFilters = []string{"Ongoing", "PrepareCommit", "PrepareAbort"}
		resp, err := b.request(ctx, list, 0, 1)
		if err != nil {
			return unavailable(err)
		}
		if code := wire.Code(resp.(*kmsg.ListTransactionsResponse).ErrorCode); code != wire.None {
			return unavailable(fmt.Errorf("list transactions of broker %d: %w", p.leader, code)) // it is loading some
		}
		describe := kmsg.NewPtrDescribeTransactionsRequest()
		for _, x := range resp.(*kmsg.ListTransactionsResponse).TransactionStates {
			if strings.HasPrefix(x.TransactionalID, transactionPrefix) {
				describe.TransactionalIDs = append(describe.TransactionalIDs, x.TransactionalID)
			}
		}
		if len(describe.TransactionalIDs) == 0 {
			continue
		}
		if resp, err = b.request(ctx, describe, 0, 0); err != nil {
			return unavailable(err)
		}
		for _, x := range resp.(*kmsg.DescribeTransactionsResponse).TransactionStates {
			for _, rt := range x.Topics {
				if rt.Topic == t.Name && !s.wedged.is(x.TransactionalID, x.ProducerEpoch, x.State, time.Now()) {
					return fmt.Errorf("%w: %s holds it", span.ErrOpenTransaction, x.TransactionalID)
				}
			}
		}
	}
	switch after, err := s.txnLeaders(ctx); {
	case err != nil:
		return err
	case !slices.Equal(before, after):
		return unavailable(errTxnBusy)
	}
	return nil
}

// txnTopic is where a cluster's transaction coordinators keep what they know: each partition's leader is one.
const txnTopic = "__transaction_state"

// txnLeaders are the leaders of the partitions of txnTopic; none where the cluster has never had a transaction. Where the
// topic's description is denied they are all brokers that the cluster names.
func (s *Store) txnLeaders(ctx context.Context) ([]partMeta, error) {
	name := txnTopic
	var last error = errNoBroker
	for _, b := range s.candidates() {
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = false
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		resp, err := b.request(ctx, req, 4, 13)
		if err == nil {
			var parts []partMeta
			if parts, err = leadersOf(resp.(*kmsg.MetadataResponse)); err == nil {
				return parts, nil
			}
		}
		if last = err; ctx.Err() != nil {
			break
		}
	}
	return nil, unavailable(last)
}

func leadersOf(r *kmsg.MetadataResponse) ([]partMeta, error) {
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) > maxPartitions || len(r.Brokers) > maxBrokers {
		return nil, fmt.Errorf("%w: Metadata answers for %d topics", wire.ErrMalformed, len(r.Topics))
	}
	t := &r.Topics[0]
	var parts []partMeta
	switch code := wire.Code(t.ErrorCode); code {
	case wire.None:
	case wire.UnknownTopicOrPartition:
		return nil, nil
	case wire.TopicAuthorizationFailed:
		for i := range r.Brokers {
			parts = append(parts, partMeta{leader: r.Brokers[i].NodeID})
		}
		slices.SortFunc(parts, func(a, b partMeta) int { return cmp.Compare(a.leader, b.leader) })
		return parts, nil
	default:
		return nil, code
	}
	slices.SortFunc(t.Partitions, func(a, b kmsg.MetadataResponseTopicPartition) int { return cmp.Compare(a.Partition, b.Partition) })
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Leader < 0 {
			return nil, fmt.Errorf("partition %d of %s: %w", p.Partition, txnTopic, wire.LeaderNotAvailable)
		}
		parts = append(parts, partMeta{leader: p.Leader, epoch: p.LeaderEpoch})
	}
	return parts, nil
}
