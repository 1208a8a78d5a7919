package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

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
