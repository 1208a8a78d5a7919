package kafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A coordinator of Kafka may call a transaction complete without its markers: while it finds no leader of a partition in its
// metadata (a broker that registers anew, and no other replica) it takes the partition for deleted and leaves it out
// (TransactionMarkerChannelManager). Nobody writes the marker after that, so the last stable offset stays where the
// transaction began. The leaders know: they list the producer with an open transaction. Each epoch of a producer of
// ours is of one transaction only, so what is open of it is that transaction.

var _ span.MarkerWriter = (*Store)(nil)

// hangingAtOnce bounds the partitions that are asked at the same time.
const hangingAtOnce = 16

// hanging is a partition in which a transaction is open.
type hanging struct {
	at          span.PartPlace
	coordinator int32 // epoch of the coordinator whose marker came last there, -1: there was none
}

// EndHanging implements [span.MarkerWriter].
func (s *Store) EndHanging(ctx context.Context, t span.Transaction, at []span.PartPlace, commit bool) (int, error) {
	open, err := s.openParts(ctx, t, at)
	if err != nil || len(open) == 0 {
		return 0, s.txnWrap("look for the markers of", t.ID, err)
	}
	// Asked behind the first look, and looked again behind it: markers that were on their way then are written by now.
	if err := s.letGo(ctx, t, commit); err != nil {
		return 0, s.txnWrap("look for the markers of", t.ID, err)
	}
	places := make([]span.PartPlace, len(open))
	for i := range open {
		places[i] = open[i].at
	}
	if open, err = s.openParts(ctx, t, places); err != nil {
		return 0, s.txnWrap("look for the markers of", t.ID, err)
	}
	for i := range open {
		if err := s.writeMarker(ctx, t, &open[i], commit); err != nil {
			return i, s.txnWrap("write a lost marker of", t.ID, fmt.Errorf("partition %d of %s: %w", open[i].at.Partition, open[i].at.Topic.Name, err))
		}
	}
	return len(open), nil
}

// openParts asks the leaders in which of the partitions the transaction is open. One that is no more counts as ended.
func (s *Store) openParts(ctx context.Context, t span.Transaction, at []span.PartPlace) ([]hanging, error) {
	found := make([]*hanging, len(at))
	errs := make([]error, len(at))
	var wg sync.WaitGroup
	limit := make(chan struct{}, hangingAtOnce)
	for i := range at {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			found[i], errs[i] = s.openPart(ctx, t, at[i])
			if errors.Is(errs[i], span.ErrGone) {
				errs[i] = nil
			}
		})
	}
	wg.Wait()
	var open []hanging
	for _, h := range found {
		if h != nil {
			open = append(open, *h)
		}
	}
	return open, errors.Join(errs...)
}

func (s *Store) openPart(ctx context.Context, t span.Transaction, at span.PartPlace) (*hanging, error) {
	p := s.partition(at.Topic, at.Partition)
	defer p.Release()
	var out *hanging
	err := p.atLeader(ctx, func(lead partMeta, b *broker) (wire.Code, error) {
		resp, err := b.request(ctx, describeProducers(at.Topic, map[int32]int32{at.Partition: lead.epoch}), 0, 0)
		if err != nil {
			return 0, err
		}
		out = nil
		return producersOf(resp.(*kmsg.DescribeProducersResponse), at.Topic, at.Partition, func(a *kmsg.DescribeProducersResponseTopicPartitionActiveProducer) {
			// Another epoch is another transaction of the same id, and records below the floor are none of ours.
			if a.ProducerID == t.Producer && a.ProducerEpoch == int32(t.Epoch) && a.CurrentTxnStartOffset >= max(at.Floor, 0) {
				out = &hanging{at: at, coordinator: a.CoordinatorEpoch}
			}
		}), nil
	})
	return out, err
}

// letGo asks the coordinator whether it still has something to do for the transaction: then its
// markers are its own affair, [span.ErrTransactionPending].
func (s *Store) letGo(ctx context.Context, t span.Transaction, commit bool) error {
	var verdict error
	err := s.withCoordinator(ctx, t.ID, func(ctx context.Context, b *broker) (wire.Code, error) {
		r, err := b.states.do(ctx, t.ID)
		if err != nil {
			return 0, err
		}
		same := r.ProducerID == t.Producer && r.ProducerEpoch == t.Epoch
		verdict = nil
		switch code := wire.Code(r.ErrorCode); {
		case code == wire.TransactionalIDNotFound:
		case code != wire.None:
			return code, nil
		case strings.HasPrefix(r.State, "Prepare"), same && r.State == "Ongoing":
			verdict = fmt.Errorf("%w: it is in state %s", span.ErrTransactionPending, r.State)
		case same && r.State == "CompleteCommit" && !commit:
			// Somebody else has ended it by hand: nothing is written against that.
			verdict = fmt.Errorf("%w: it is in state %s", span.ErrTransactionEnded, r.State)
		}
		return wire.None, nil
	})
	if err != nil {
		return err
	}
	return verdict
}

// writeMarker writes the marker at the partition's leader, as the coordinator would have. A repeat ends nothing that is not of
// this producer and epoch, and what comes later of the producer has a higher epoch, whose leader refuses it.
func (s *Store) writeMarker(ctx context.Context, t span.Transaction, h *hanging, commit bool) error {
	p := s.partition(h.at.Topic, h.at.Partition)
	defer p.Release()
	return p.atLeader(ctx, func(_ partMeta, b *broker) (wire.Code, error) {
		req := kmsg.NewPtrWriteTxnMarkersRequest()
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch, m.Committed = t.Producer, t.Epoch, commit
		// Not a higher one than the last coordinator's, which is not to be fenced.
		m.CoordinatorEpoch = max(h.coordinator, 0)
		mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		mt.Topic, mt.Partitions = h.at.Topic.Name, []int32{h.at.Partition}
		m.Topics = append(m.Topics, mt)
		req.Markers = append(req.Markers, m)
		// Version 1 is that of transactions whose epoch stays with the marker, as ours does (before KIP-890).
		resp, err := b.txnRequest(ctx, t.ID, req, 1, 1, time.Time{})
		if err != nil {
			return 0, err
		}
		for _, rm := range resp.(*kmsg.WriteTxnMarkersResponse).Markers {
			for _, rt := range rm.Topics {
				for _, rp := range rt.Partitions {
					if rm.ProducerID == t.Producer && rt.Topic == h.at.Topic.Name && rp.Partition == h.at.Partition {
						return wire.Code(rp.ErrorCode), nil
					}
				}
			}
		}
		return 0, fmt.Errorf("%w: WriteTxnMarkers answer leaves a partition out", wire.ErrMalformed)
	})
}
