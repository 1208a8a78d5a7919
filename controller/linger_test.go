package controller

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// A topic is not held for a transaction that is open for long, unless such are always open.
func TestAnExtendWaitsForOldTransactionsBeforeItHolds(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(1_000_000 + ms)) }
	old, killed, short := openTxn{0, 1, 5}, openTxn{1, 2, 0}, func(n int) openTxn { return openTxn{0, 3, int64(n)} }
	for _, tc := range []struct {
		name  string
		looks [][]openTxn // 100 ms apart
		want  int         // the look after which the topic is held; -1: none
	}{
		{"none is open", [][]openTxn{nil}, 0},
		{"short ones, one after the other", [][]openTxn{{short(0)}, {short(1)}}, 1},
		{"one that was there ends", [][]openTxn{{old}, {old, short(1)}, {short(2)}}, 2},
		{"one that was there stays", [][]openTxn{{old}, {old}, {old}, {old}}, -1},
		{"one that came stays", [][]openTxn{{old}, {old, killed}, {old, killed}, {old, killed}, {old, killed}, {old, killed}, {old, killed}, {old, killed},
			{old, killed}, {old, killed}, {old, killed}, {killed}, {killed}}, -1},
		{"one that came is young", [][]openTxn{{old}, {old, killed}, {killed}}, 2},
	} {
		var l lingering
		held := -1
		for i, open := range tc.looks {
			if !l.note(at(100*i), open) {
				held = i
				break
			}
		}
		if held != tc.want {
			t.Errorf("%s: held after look %d, want %d", tc.name, held, tc.want)
		}
	}
}

// A move meets a transaction that stays open: producers are not held before it has ended.
func TestAMoveHoldsNothingForATransactionThatStays(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(3)
	open := func(is bool) {
		f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].openTxn = is })
	}
	var looks atomic.Int32
	var ended atomic.Bool
	open(true)
	f.doubles["a"].set(func() { f.doubles["a"].asked = func(*doubleLog) { looks.Add(1) } })
	f.controller(func(o *Options) {
		o.Linger = 2 * patience
		o.Fault = func(point string) error {
			if point == FaultHolding && !ended.Load() {
				t.Error("the topic is held while the transaction is open")
			}
			return nil
		}
	})
	op := f.move("b", "orders")
	f.until("the fresh topic", func() bool {
		e, err := f.cat.Extend(f.ctx, topic.Tenant, topic.ID)
		return err == nil && !e.New.TopicID.IsZero()
	})
	seen := looks.Load()
	f.until("some looks", func() bool { return looks.Load() > seen+5 })
	if e, err := f.cat.Extend(f.ctx, topic.Tenant, topic.ID); err != nil || e.Step != catalog.StepPrepare {
		t.Errorf("%+v %v", e, err)
	}
	ended.Store(true)
	open(false)
	if op = f.done(op); op.State != catalog.OpDone {
		t.Fatalf("operation: %+v", op)
	}
	w.append(1)
	w.verify()
}
