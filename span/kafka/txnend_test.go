package kafka_test

import (
	"errors"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
)

// Transactions of one id follow each other, where the cluster bumps the epoch with each commit and where it does not: late
// batches of the one before come to nothing, an end may be told again, and one that nothing was added to is ended too.
func TestTransactionsOfOneIDFollowEachOther(t *testing.T) {
	versions(t, func(t *testing.T, c *testkit.Cluster) {
		s := open(t, c)
		topic := create(t, s, 1, nil)
		l := s.Log(topic, 0)
		defer l.Release()
		id := "__braid-" + topic.Name
		x, err := s.BeginTransaction(t.Context(), id, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		add := func(x span.Transaction) error {
			return s.AddToTransaction(t.Context(), x, topic.Name, []int32{0}, time.Time{})
		}
		put := func(x span.Transaction, seq int32) error {
			raw, err := batch.NewBuilder().Producer(x.Producer, x.Epoch, seq).Transactional().Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: []byte("v")}).Build()
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			a := &span.Append{Batch: raw, Transaction: x.ID, Deadline: time.Now().Add(patience), Done: func(*span.Append) { close(done) }}
			l.Append(a)
			<-done
			return a.Err
		}
		end := func(what string, x span.Transaction, commit bool) span.Transaction {
			t.Helper()
			next, err := s.EndTransaction(t.Context(), x, commit)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			return next
		}
		written := func(x span.Transaction) {
			t.Helper()
			waitFor(t, "the markers", func() bool {
				err := s.TransactionWritten(t.Context(), x)
				if err != nil && !errors.Is(err, span.ErrTransactionPending) {
					t.Fatal(err)
				}
				return err == nil
			})
		}
		committed := func() int64 {
			o, err := l.Offsets(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if o.LastStable != o.HighWatermark {
				t.Fatalf("%+v", o)
			}
			return o.LastStable
		}
		goOn := func(next span.Transaction) span.Transaction {
			t.Helper()
			if next.ID == "" {
				if next, err = s.BeginTransaction(t.Context(), id, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			return next
		}
		if err := errors.Join(add(x), put(x, 0), put(x, 1), add(x), s.TransactionOpen(t.Context(), x)); err != nil {
			t.Fatal(err)
		}
		next := end("commit", x, true)
		if again := end("commit again", x, true); again.ID != "" && again != next {
			t.Fatalf("told again: %+v, %+v", again, next)
		}
		written(x)
		if at := committed(); at != 3 {
			t.Fatalf("committed up to %d", at)
		}
		if again := end("commit that is written", x, true); again.ID != "" && again != next {
			t.Fatalf("told again: %+v, %+v", again, next)
		}
		bumps := next.ID != ""
		if bumps != (c.Version() != testkit.Kafka39) || bumps && next != (span.Transaction{ID: id, Producer: x.Producer, Epoch: x.Epoch + 1}) {
			t.Fatalf("%+v follows on %+v", next, x)
		}

		second := goOn(next)
		if err := s.TransactionOpen(t.Context(), second); err != nil {
			t.Fatalf("before anything was added: %v", err)
		}
		if err := add(x); !errors.Is(err, span.ErrTransactionEnded) {
			t.Fatalf("late addition: %v", err)
		}
		var rejected *span.RejectedError
		if err := put(x, 2); !errors.As(err, &rejected) {
			t.Fatalf("late batch: %v", err)
		}
		if err := errors.Join(add(second), put(second, 0)); err != nil {
			t.Fatal(err)
		}
		if err := put(x, 2); !errors.As(err, &rejected) {
			t.Fatalf("late batch in the next transaction: %v", err)
		}
		next = end("second commit", second, true)
		written(second)
		if at := committed(); at != 5 {
			t.Fatalf("committed up to %d", at)
		}

		empty := goOn(next)
		end("commit of nothing", empty, true)
		aborted := goOn(span.Transaction{})
		if err := errors.Join(add(aborted), put(aborted, 0)); err != nil {
			t.Fatal(err)
		}
		if next = end("abort", aborted, false); next.ID != "" {
			t.Fatalf("%+v goes on after an abort", next)
		}
		written(aborted)
		if _, err := s.EndTransaction(t.Context(), aborted, true); !errors.Is(err, span.ErrTransactionEnded) {
			t.Fatalf("commit of what was aborted: %v", err)
		}
	})
}
