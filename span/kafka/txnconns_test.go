package kafka_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/wire"
)

// coordinated is a fake cluster whose broker 1 coordinates all transactions, and a store that knows it. answer gives the
// code of InitProducerId, AddPartitionsToTxn and EndTxn, and the state that DescribeTransactions tells, of producer 9 in epoch 4.
func coordinated(t *testing.T, answer func(req kmsg.Request) (wire.Code, string)) *kafka.Store {
	f := newFake(t, 1, 1, 0)
	f.also = func(_ int32, req kmsg.Request, resp kmsg.Response) bool {
		switch r := resp.(type) {
		case *kmsg.FindCoordinatorResponse:
			c := kmsg.NewFindCoordinatorResponseCoordinator()
			c.NodeID = 1
			r.NodeID, r.Coordinators = 1, append(r.Coordinators, c)
		case *kmsg.InitProducerIDResponse:
			code, _ := answer(req)
			r.ErrorCode, r.ProducerID, r.ProducerEpoch = int16(code), 9, 4
		case *kmsg.AddPartitionsToTxnResponse:
			code, _ := answer(req)
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.ErrorCode = int16(code)
			rt.Partitions = append(rt.Partitions, rp)
			r.Topics = append(r.Topics, rt)
		case *kmsg.EndTxnResponse:
			code, _ := answer(req)
			r.ErrorCode = int16(code)
		case *kmsg.DescribeTransactionsResponse:
			code, state := answer(req)
			for _, id := range req.(*kmsg.DescribeTransactionsRequest).TransactionalIDs {
				s := kmsg.NewDescribeTransactionsResponseTransactionState()
				s.TransactionalID, s.ErrorCode, s.ProducerID, s.ProducerEpoch, s.State = id, int16(code), 9, 4, state
				r.TransactionStates = append(r.TransactionStates, s)
			}
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
	return s
}

// An addition that waits behind another request of its id is not sent once its time is over, however long that one takes.
func TestAnAdditionIsNotSentLate(t *testing.T) {
	slow, asked := make(chan struct{}), make(chan struct{})
	var adds atomic.Int32
	s := coordinated(t, func(req kmsg.Request) (wire.Code, string) {
		switch req.(type) {
		case *kmsg.InitProducerIDRequest:
			close(asked)
			<-slow
		case *kmsg.AddPartitionsToTxnRequest:
			adds.Add(1)
		}
		return wire.None, ""
	})
	const id = "__braid-f-1-1-1"
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.BeginTransaction(t.Context(), id, time.Minute); err != nil {
			t.Error(err)
		}
	})
	<-asked
	until := time.Now().Add(time.Second)
	wg.Go(func() {
		err := s.AddToTransaction(t.Context(), span.Transaction{ID: id, Producer: 9, Epoch: 4}, "fake", []int32{0}, until)
		if !errors.Is(err, span.ErrTransactionLate) {
			t.Errorf("late addition: %v", err)
		}
	})
	waitFor(t, "its time to be over", func() bool { return time.Now().After(until) })
	close(slow)
	wg.Wait()
	if n := adds.Load(); n != 0 {
		t.Errorf("%d additions were sent", n)
	}
}

// A cluster that is about to end a transaction by its own timeout says CONCURRENT_TRANSACTIONS to a commit, as it does to one that was
// told before. Only the latter is committed.
func TestACommitThatMeetsTheClustersOwnAbort(t *testing.T) {
	for _, tc := range []struct {
		name   string
		state  string // while the cluster says so
		commit bool
		then   wire.Code // what it says after that
		want   error
	}{
		{"told before", "PrepareCommit", true, wire.ConcurrentTransactions, nil},
		{"told before, an abort", "PrepareAbort", false, wire.ConcurrentTransactions, nil},
		{"its timeout is over", "Ongoing", true, wire.InvalidProducerEpoch, span.ErrTransactionEnded},
		{"aborted in the same epoch", "PrepareAbort", true, wire.InvalidTxnState, span.ErrTransactionEnded},
		{"a partition is being added", "Ongoing", true, wire.None, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var mu sync.Mutex
			ends, state := 0, tc.state
			s := coordinated(t, func(req kmsg.Request) (wire.Code, string) {
				mu.Lock()
				defer mu.Unlock()
				switch req.(type) {
				case *kmsg.EndTxnRequest:
					if ends++; ends == 1 {
						return wire.ConcurrentTransactions, ""
					}
					if tc.want != nil {
						state = "CompleteAbort"
					} else {
						state = "CompleteCommit"
					}
					return tc.then, ""
				case *kmsg.DescribeTransactionsRequest:
					was := state
					switch state {
					case "PrepareCommit":
						state = "CompleteCommit"
					case "PrepareAbort":
						state = "CompleteAbort"
					}
					return wire.None, was
				}
				return wire.None, ""
			})
			_, err := s.EndTransaction(t.Context(), span.Transaction{ID: "__braid-f-1-1-1", Producer: 9, Epoch: 4}, tc.commit)
			if !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}
