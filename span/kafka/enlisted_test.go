package kafka_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A seal asks all coordinators of transactions whether one of ours is in the topic. One that does not answer may have it.
func TestSealHearsAllTransactionCoordinators(t *testing.T) {
	const held = "__braid-f-1-1-1"
	for _, tc := range []struct {
		name    string
		topic   wire.Code       // of the description of what coordinators keep
		leaders [][]int32       // of its partitions, as asked one time after the other; the last one stays
		codes   map[int32]int16 // of the lists
		open    map[int32]bool  // brokers that have an open transaction in the topic
		want    error
	}{
		{name: "never had a transaction", topic: wire.UnknownTopicOrPartition},
		{name: "none is open", leaders: [][]int32{{0, 1}}},
		{name: "one is", leaders: [][]int32{{0, 1}}, open: map[int32]bool{1: true}, want: span.ErrOpenTransaction},
		{name: "a coordinator is loading", leaders: [][]int32{{0, 1}}, codes: map[int32]int16{1: int16(wire.CoordinatorLoadInProgress)}, want: span.ErrUnavailable},
		{name: "of a broker that keeps none", leaders: [][]int32{{0, 0}}, codes: map[int32]int16{1: int16(wire.CoordinatorNotAvailable)}},
		{name: "a partition has no leader", leaders: [][]int32{{0, -1}}, want: span.ErrUnavailable},
		{name: "a leader that nobody knows", leaders: [][]int32{{0, 7}}, want: span.ErrUnavailable},
		{name: "they change places", leaders: [][]int32{{0, 1}, {1, 0}}, want: span.ErrUnavailable},
		{name: "the description is denied", topic: wire.TopicAuthorizationFailed},
		{name: "denied, and one is open", topic: wire.TopicAuthorizationFailed, open: map[int32]bool{0: true}, want: span.ErrOpenTransaction},
		{name: "denied, and one is loading", topic: wire.TopicAuthorizationFailed, codes: map[int32]int16{1: int16(wire.CoordinatorLoadInProgress)}, want: span.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, 1, 1, 0)
			var described atomic.Int32
			f.also = func(node int32, req kmsg.Request, resp kmsg.Response) bool {
				switch r := resp.(type) {
				case *kmsg.MetadataResponse:
					f.metadata(&kmsg.MetadataRequest{}, r)
					rt := kmsg.NewMetadataResponseTopic()
					rt.Topic, rt.ErrorCode = req.(*kmsg.MetadataRequest).Topics[0].Topic, int16(tc.topic)
					if n := len(tc.leaders); n > 0 {
						for i, leader := range tc.leaders[min(int(described.Add(1)), n)-1] {
							rp := kmsg.NewMetadataResponseTopicPartition()
							rp.Partition, rp.Leader = int32(i), leader
							rt.Partitions = append(rt.Partitions, rp)
						}
					}
					r.Topics = append(r.Topics, rt)
				case *kmsg.ListTransactionsResponse:
					r.ErrorCode = tc.codes[node]
					if tc.open[node] {
						x := kmsg.NewListTransactionsResponseTransactionState()
						x.TransactionalID = held
						r.TransactionStates = append(r.TransactionStates, x)
					}
				case *kmsg.DescribeTransactionsResponse:
					x := kmsg.NewDescribeTransactionsResponseTransactionState()
					x.TransactionalID, x.State = held, "Ongoing"
					rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
					rt.Topic, rt.Partitions = f.name, []int32{0}
					x.Topics = append(x.Topics, rt)
					r.TransactionStates = append(r.TransactionStates, x)
				default:
					return false
				}
				return true
			}
			s := openAt(t, f.bootstrap())
			l := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
			defer l.Release()
			if err := l.Probe(t.Context()); err != nil { // it knows the brokers from then on
				t.Fatal(err)
			}
			if err := s.EnlistedIn(t.Context(), span.Topic{Name: f.name, ID: f.id}); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

// A question whether a part of ours is open adds nothing to it, and an end of it by the cluster is told from one that never had a partition.
func TestTransactionOpen(t *testing.T) {
	x := span.Transaction{ID: "__braid-f-1-1-1", Producer: 9, Epoch: 4}
	for _, tc := range []struct {
		name     string
		code     wire.Code
		producer int64
		epoch    int16
		state    string
		want     error
	}{
		{"open", wire.None, 9, 4, "Ongoing", nil},
		{"nothing was added", wire.None, 9, 4, "Empty", nil},
		{"its timeout has passed", wire.None, 9, 5, "CompleteAbort", span.ErrTransactionEnded},
		{"on its way to that", wire.None, 9, 5, "PrepareAbort", span.ErrTransactionEnded},
		{"ended in its own epoch", wire.None, 9, 4, "CompleteAbort", span.ErrTransactionEnded},
		{"another producer", wire.None, 10, 4, "Ongoing", span.ErrTransactionEnded},
		{"not known", wire.TransactionalIDNotFound, -1, -1, "", span.ErrTransactionEnded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, 1, 1, 0)
			f.also = func(_ int32, _ kmsg.Request, resp kmsg.Response) bool {
				switch r := resp.(type) {
				case *kmsg.FindCoordinatorResponse:
					c := kmsg.NewFindCoordinatorResponseCoordinator()
					c.Key, c.NodeID = x.ID, 1
					r.NodeID, r.Coordinators = 1, append(r.Coordinators, c)
				case *kmsg.DescribeTransactionsResponse:
					s := kmsg.NewDescribeTransactionsResponseTransactionState()
					s.TransactionalID, s.ErrorCode, s.ProducerID, s.ProducerEpoch, s.State = x.ID, int16(tc.code), tc.producer, tc.epoch, tc.state
					r.TransactionStates = append(r.TransactionStates, s)
				default:
					return false
				}
				return true
			}
			s := openAt(t, f.bootstrap())
			l := s.Log(span.Topic{Name: f.name, ID: f.id}, 0)
			defer l.Release()
			if err := l.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.TransactionOpen(t.Context(), x); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}
