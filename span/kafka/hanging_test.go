package kafka_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A cluster calls a transaction complete and a leader has it open: only then, and only where what is open is that very
// transaction, its marker is written, as it was decided.
func TestLostMarkerIsWritten(t *testing.T) {
	x := span.Transaction{ID: "__braid-f-1-1-1", Producer: 9, Epoch: 4}
	for _, tc := range []struct {
		name     string
		abort    bool
		producer int64
		epoch    int32
		start    int64
		floor    int64
		code     wire.Code // of the coordinator's answer
		state    string
		there    int16     // epoch in that answer
		meets    bool      // the cluster's own marker is written while it is asked
		refused  wire.Code // of the marker
		want     error
		written  int
	}{
		{name: "committed", producer: 9, epoch: 4, start: 7, floor: 7, state: "CompleteCommit", there: 4, written: 1},
		{name: "aborted", abort: true, producer: 9, epoch: 4, start: 7, state: "CompleteAbort", there: 4, written: 1},
		{name: "aborted by its timeout", abort: true, producer: 9, epoch: 4, start: 7, state: "CompleteAbort", there: 5, written: 1},
		{name: "nobody knows the id", producer: 9, epoch: 4, start: 7, code: wire.TransactionalIDNotFound, written: 1},
		{name: "ended there", producer: 9, epoch: 4, start: -1, state: "CompleteCommit", there: 4},
		{name: "of another producer", producer: 8, epoch: 4, start: 7, state: "CompleteCommit", there: 4},
		{name: "a later one of the same id", producer: 9, epoch: 5, start: 7, state: "Ongoing", there: 5},
		{name: "below what is ours", producer: 9, epoch: 4, start: 7, floor: 8, state: "CompleteCommit", there: 4},
		{name: "markers are on their way", producer: 9, epoch: 4, start: 7, state: "PrepareCommit", there: 4, want: span.ErrTransactionPending},
		{name: "its own abort is on its way", abort: true, producer: 9, epoch: 4, start: 7, state: "PrepareAbort", there: 5, want: span.ErrTransactionPending},
		{name: "not ended yet", producer: 9, epoch: 4, start: 7, state: "Ongoing", there: 4, want: span.ErrTransactionPending},
		{name: "against the decision", abort: true, producer: 9, epoch: 4, start: 7, state: "CompleteCommit", there: 4, want: span.ErrTransactionEnded},
		{name: "the marker comes late", producer: 9, epoch: 4, start: 7, state: "CompleteCommit", there: 4, meets: true},
		{name: "without the right", producer: 9, epoch: 4, start: 7, state: "CompleteCommit", there: 4, refused: wire.ClusterAuthorizationFailed, want: span.ErrDenied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, 1, 1, 0)
			var mu sync.Mutex
			start := tc.start
			var markers []kmsg.WriteTxnMarkersRequestMarker
			f.also = func(node int32, req kmsg.Request, resp kmsg.Response) bool {
				mu.Lock()
				defer mu.Unlock()
				switch r := resp.(type) {
				case *kmsg.FindCoordinatorResponse:
					c := kmsg.NewFindCoordinatorResponseCoordinator()
					c.NodeID = 1
					r.NodeID, r.Coordinators = 1, append(r.Coordinators, c)
				case *kmsg.DescribeTransactionsResponse:
					s := kmsg.NewDescribeTransactionsResponseTransactionState()
					s.TransactionalID, s.ErrorCode, s.ProducerID, s.ProducerEpoch, s.State = x.ID, int16(tc.code), 9, tc.there, tc.state
					r.TransactionStates = append(r.TransactionStates, s)
					if tc.meets {
						start = -1
					}
				case *kmsg.DescribeProducersResponse:
					rt := kmsg.NewDescribeProducersResponseTopic()
					rt.Topic = f.name
					rp := kmsg.NewDescribeProducersResponseTopicPartition()
					p := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset, p.CoordinatorEpoch = tc.producer, tc.epoch, start, 3
					rp.ActiveProducers = append(rp.ActiveProducers, p)
					rt.Partitions = append(rt.Partitions, rp)
					r.Topics = append(r.Topics, rt)
				case *kmsg.WriteTxnMarkersResponse:
					m := req.(*kmsg.WriteTxnMarkersRequest).Markers[0]
					rm := kmsg.NewWriteTxnMarkersResponseMarker()
					rm.ProducerID = m.ProducerID
					rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
					rt.Topic = m.Topics[0].Topic
					rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
					rp.Partition, rp.ErrorCode = m.Topics[0].Partitions[0], int16(tc.refused)
					rt.Partitions = append(rt.Partitions, rp)
					rm.Topics = append(rm.Topics, rt)
					r.Markers = append(r.Markers, rm)
					if tc.refused == wire.None {
						markers, start = append(markers, m), -1
					}
				default:
					return false
				}
				return true
			}
			s := openAt(t, f.bootstrap())
			topic := span.Topic{Name: f.name, ID: f.id}
			l := s.Log(topic, 0)
			defer l.Release()
			if err := l.Probe(t.Context()); err != nil { // it knows the brokers from then on
				t.Fatal(err)
			}
			for range 2 { // a repeat finds nothing to do
				n, err := s.EndHanging(t.Context(), x, []span.PartPlace{{Topic: topic, Floor: tc.floor}}, !tc.abort)
				if !errors.Is(err, tc.want) || n != tc.written {
					t.Errorf("%d written, %v; want %d, %v", n, err, tc.written, tc.want)
				}
				if tc.written--; tc.written < 0 {
					tc.written = 0
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, m := range markers {
				if m.ProducerID != 9 || m.ProducerEpoch != 4 || m.Committed == tc.abort || m.CoordinatorEpoch != 3 {
					t.Errorf("marker %+v", m)
				}
			}
		})
	}
}

// What a lost marker leaves behind on Apache Kafka: a partition that its coordinator never heard of is left open by the end of
// the transaction. It is ended as the transaction was, and what comes next of the same id is not touched.
func TestLostMarkerOnKafka(t *testing.T) {
	c := testkit.Kafka(t, testkit.Property("transaction.partition.verification.enable", "false"))
	s := open(t, c)
	for _, commit := range []bool{true, false} {
		t.Run(fmt.Sprintf("commit=%v", commit), func(t *testing.T) {
			topic := create(t, s, 2, nil)
			id := "__braid-" + topic.Name
			places := []span.PartPlace{{Topic: topic, Partition: 0}, {Topic: topic, Partition: 1}}
			known, lost := s.Log(topic, 0), s.Log(topic, 1)
			defer known.Release()
			defer lost.Release()
			write := func(x span.Transaction, l span.Log) {
				t.Helper()
				raw, err := batch.NewBuilder().Producer(x.Producer, x.Epoch, 0).Transactional().Add(batch.Record{Value: []byte("v")}).Build()
				if err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				a := &span.Append{Batch: raw, Transaction: x.ID, Deadline: time.Now().Add(patience), Done: func(*span.Append) { close(done) }}
				l.Append(a)
				if <-done; a.Err != nil {
					t.Fatal(a.Err)
				}
			}
			stable := func(l span.Log) int64 {
				t.Helper()
				o, err := l.Offsets(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return o.LastStable
			}
			x, err := s.BeginTransaction(t.Context(), id, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.AddToTransaction(t.Context(), x, topic.Name, []int32{0}, time.Time{}); err != nil {
				t.Fatal(err)
			}
			write(x, known)
			write(x, lost)
			if n, err := s.EndHanging(t.Context(), x, places, commit); !errors.Is(err, span.ErrTransactionPending) || n != 0 {
				t.Fatalf("before its end: %d, %v", n, err)
			}
			next, err := s.EndTransaction(t.Context(), x, commit)
			if err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the markers", func() bool { return s.TransactionWritten(t.Context(), x) == nil })
			if a, b := stable(known), stable(lost); a != 2 || b != 0 {
				t.Fatalf("last stable offsets %d and %d", a, b)
			}
			if n, err := s.EndHanging(t.Context(), x, places, commit); err != nil || n != 1 {
				t.Fatalf("%d, %v", n, err)
			}
			if at := stable(lost); at != 2 {
				t.Fatalf("last stable offset %d", at)
			}
			r, err := lost.Read(t.Context(), span.ReadRequest{Committed: true})
			if err != nil || len(r.Aborted) != map[bool]int{true: 0, false: 1}[commit] {
				t.Fatalf("aborted %+v, %v", r.Aborted, err)
			}
			r.Release()
			// The next one of the id is open, and the former one is asked for once more.
			y := next
			if y.ID == "" {
				if y, err = s.BeginTransaction(t.Context(), id, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.AddToTransaction(t.Context(), y, topic.Name, []int32{1}, time.Time{}); err != nil {
				t.Fatal(err)
			}
			write(y, lost)
			if n, err := s.EndHanging(t.Context(), x, places, commit); err != nil || n != 0 {
				t.Fatalf("%d, %v", n, err)
			}
			if _, err := s.EndTransaction(t.Context(), y, true); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the markers of the next one", func() bool { return s.TransactionWritten(t.Context(), y) == nil })
			if at := stable(lost); at != 4 {
				t.Fatalf("last stable offset %d", at)
			}
		})
	}
}
