package kafka_test

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// TestOpenTransaction: a seal is refused while a transaction is open, and leaves it able to end. Committed
// reads stop at it and are told what was aborted.
func TestOpenTransaction(t *testing.T) {
	versions(t, func(t *testing.T, c *testkit.Cluster) {
		s := open(t, c)
		topic := create(t, s, 1, nil)
		l := s.Log(topic, 0)
		defer l.Release()
		cl := c.Client(t, kgo.TransactionalID(topic.Name), kgo.DefaultProduceTopic(topic.Name))
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("aborted")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if a := appendSync(t, l, oneBatch(t, 1, "plain")); a.Err != nil || a.BaseOffset != 1 {
			t.Fatalf("%+v", a)
		}
		if _, err := s.Seal(t.Context(), topic); !errors.Is(err, span.ErrOpenTransaction) {
			t.Fatalf("seal with an open transaction: %v", err)
		}
		if err := l.Probe(t.Context()); err != nil {
			t.Fatalf("after the seal was refused: %v", err)
		}
		ps, err := l.Producers(t.Context())
		if err != nil || len(ps) != 1 || ps[0].TxnStart != 0 {
			t.Fatalf("producers %+v %v", ps, err)
		}
		o, err := l.Offsets(t.Context())
		if err != nil || o.LastStable != 0 || o.HighWatermark != 2 {
			t.Fatalf("offsets %+v %v", o, err)
		}
		r, err := l.Read(t.Context(), span.ReadRequest{Committed: true})
		if err != nil || len(r.Batches) != 0 || r.LastStable != 0 {
			t.Fatalf("committed read of %d bytes, %v", len(r.Batches), err)
		}
		r.Release()
		if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		var ends []span.End
		waitFor(t, "the marker", func() bool {
			var err error
			ends, err = s.Seal(t.Context(), topic)
			return err == nil
		})
		if ends[0].End != 3 {
			t.Fatalf("ends %+v", ends)
		}
		r, err = l.Read(t.Context(), span.ReadRequest{Committed: true})
		if err != nil || len(r.Aborted) != 1 || r.Aborted[0].FirstOffset != 0 || r.LastStable != 3 {
			t.Fatalf("committed read: %+v %v", r.Aborted, err)
		}
		r.Release()
		raw, err := batch.NewBuilder().Producer(1<<41, 0, 0).Transactional().Add(batch.Record{Value: []byte("v")}).Build()
		if err != nil {
			t.Fatal(err)
		}
		var rejected *span.RejectedError
		if a := appendSync(t, l, raw); !errors.As(a.Err, &rejected) || rejected.Code != wire.InvalidTxnState {
			t.Fatalf("transactional append: %v", a.Err)
		}
	})
}
