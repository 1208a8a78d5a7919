package kafka_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// A leader refuses a batch of a transaction as too large, which a seal has it say too. Only a probe that finds the log open tells
// that it is the batch, and only the second time: a probe that fails tells nothing.
func TestRefusalOfATransactionsBatchIsProbed(t *testing.T) {
	for _, tc := range []struct {
		name     string
		refusals int64 // of the batch
		rejected bool
		probes   int64
	}{
		{"a seal that is undone before the probe", 1, false, 1},
		{"too large in truth", 1 << 40, true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t, 1, 1, 0)
			var batches, probes atomic.Int64
			f.produced = func(raw []byte) (wire.Code, bool) {
				if batch.Verify(raw) != nil {
					probes.Add(1)
					return wire.None, false // as it is: open
				}
				if batches.Add(1) <= tc.refusals {
					return wire.MessageTooLarge, false
				}
				return wire.None, false
			}
			l := openAt(t, f.bootstrap()).Log(span.Topic{Name: f.name, ID: f.id}, 0)
			defer l.Release()
			a := appendTxn(t, l, patience)
			var rejected *span.RejectedError
			if got := errors.As(a.Err, &rejected); got != tc.rejected || !got && a.Err != nil {
				t.Errorf("%v after %d tries and %d probes", a.Err, batches.Load(), probes.Load())
			}
			if probes.Load() != tc.probes || tc.rejected && batches.Load() != 2 {
				t.Errorf("%d tries, %d probes", batches.Load(), probes.Load())
			}
		})
	}
}

// As long as no probe is answered nobody knows whether the log is sealed: the batch is not refused for good.
func TestRefusalWithoutAProbeIsNotDefinite(t *testing.T) {
	f := newFake(t, 1, 1, 0)
	f.produced = func(raw []byte) (wire.Code, bool) {
		return wire.MessageTooLarge, batch.Verify(raw) != nil
	}
	l := openAt(t, f.bootstrap()).Log(span.Topic{Name: f.name, ID: f.id}, 0)
	defer l.Release()
	a := appendTxn(t, l, time.Second)
	var rejected *span.RejectedError
	if errors.As(a.Err, &rejected) || !errors.Is(a.Err, span.ErrUnavailable) {
		t.Error(a.Err)
	}
}

func appendTxn(t *testing.T, l span.Log, within time.Duration) *span.Append {
	t.Helper()
	raw, err := batch.NewBuilder().Producer(9, 4, 0).Transactional().Add(batch.Record{Value: []byte("v")}).Build()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	a := &span.Append{Batch: raw, Transaction: "__braid-test", Deadline: time.Now().Add(within), Done: func(*span.Append) { close(done) }}
	l.Append(a)
	select {
	case <-done:
	case <-time.After(2 * patience):
		t.Fatal("append was never done")
	}
	return a
}
