package controller

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// A cluster that says that it has taken the grant back is not moved from, and its
// topics go on: a fence would not hold for gateways, which go by what is on record.
func TestMoveIsRefusedWhereTheGrantWasTakenBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	f.controller()
	w := f.writer(topic, 0, 100)
	w.append(3)
	f.gateway(1, w)
	f.doubles["a"].set(func() { f.doubles["a"].canSeal = false })
	op := f.done(f.move("b", "orders"))
	if op.State != catalog.OpFailed || !strings.Contains(op.Message, "grant ALTER_CONFIGS again (braid cluster check a)") {
		t.Errorf("%+v", op)
	}
	if ch := f.chain(topic, 0); len(ch.Spans) != 1 || !ch.Spans[0].IsOpen() {
		t.Errorf("chain: %+v", ch)
	}
	f.doubles["a"].set(func() {
		if n := f.doubles["a"].seals; n != 0 {
			t.Errorf("%d seals", n)
		}
		f.doubles["a"].canSeal = true
	})
	w.append(2)
	// The refusal is believed for a moment, and so is the snapshot that has the extend.
	f.until("the move after the grant", func() bool {
		op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "b"})
		var req *RequestError
		if errors.As(err, &req) && req.Problem == Busy {
			return false
		}
		f.check(err)
		return f.done(op).State == catalog.OpDone
	})
	w.append(1)
	w.verify()
}

// Where the seal itself is refused, the extend waits and says for what; appends go
// on at the old copy, and no gateway is fenced.
func TestSealWaitsForTheGrant(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	f.controller()
	w := f.writer(topic, 0, 100)
	w.append(3)
	f.gateway(1, w)
	f.doubles["a"].set(func() { f.doubles["a"].revoked = true })
	op := f.move("b", "orders")
	f.until("the operation to say what it waits for", func() bool {
		now, err := f.cat.Op(f.ctx, op.ID)
		f.check(err)
		if now.IsFinished() {
			t.Fatalf("it has ended: %+v", now)
		}
		return strings.Contains(now.Message, "topic orders: waits: cluster a") && strings.Contains(now.Message, "grant ALTER_CONFIGS again")
	})
	w.append(2)
	e, err := f.cat.Extend(f.ctx, topic.Tenant, topic.ID)
	if err != nil || e.Mode != catalog.ModeSeal || e.Step != catalog.StepSeal {
		t.Errorf("%+v, %v", e, err)
	}
	if words, err := f.cat.HoldAcks(f.ctx, topic.ID, op.ID); err != nil || len(words) != 0 {
		t.Errorf("fenced: %+v, %v", words, err)
	}
	f.doubles["a"].set(func() { f.doubles["a"].revoked = false })
	if op = f.done(op); op.State != catalog.OpDone || op.Message != "" {
		t.Errorf("%+v", op)
	}
	if cert := f.certificate(topic, op.ID); cert.Mode != catalog.ModeSeal || cert.Partitions[0].End != 5 {
		t.Errorf("certificate: %+v", cert)
	}
	w.append(1)
	w.verify()
}

// A fence that covers a copy on a cluster that is recorded as one that can be sealed,
// be it that an earlier release chose it, seals that copy too: gateways that are cut off
// from the catalog know of no lease there.
func TestFenceSealsWhatCanBeSealed(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 1, "a", nil)
	f.record("a", false) // when the move begins
	var once sync.Once
	var sealed bool
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			switch p {
			case FaultSealing:
				once.Do(func() { f.record("a", true) })
			case FaultSealed:
				f.doubles["a"].set(func() { sealed = f.doubles["a"].seals > 0 })
			}
			return nil
		}
	})
	w := f.writer(topic, 0, 100)
	w.append(3)
	f.gateway(1, w)
	op := f.done(f.move("b", "orders"))
	if op.State != catalog.OpDone || chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster != "b" {
		t.Fatalf("%+v", op)
	}
	if cert := f.certificate(topic, op.ID); !sealed || cert.Mode != catalog.ModeFence {
		t.Errorf("sealed is %v, mode %s", sealed, cert.Mode)
	}
	w.append(1)
	w.verify()
}
