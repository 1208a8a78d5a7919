package controller

import (
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

func TestMove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller(reported)
	topic := f.topic("orders", 3, "a", nil)
	var ws []*writer
	for p := range 3 {
		w := f.writer(topic, p, int64(100+p))
		ws = append(ws, w)
		if p < 2 { // partition 2 stays empty
			w.append(2)
			w.append(3)
		}
	}
	op := f.move("b", "orders")
	for _, w := range ws[:2] {
		w.through() // the report on the sealed span goes out with it
	}
	op = f.done(op)
	if op.State != catalog.OpDone || op.Done != 1 || op.Message != "" {
		t.Fatalf("operation: %+v", op)
	}
	for p, w := range ws {
		w.append(1)
		ch := f.chain(topic, p)
		open := chain.OpenSpan(ch)
		if open.Copies[0].Cluster != "b" || open.Epoch != 1 {
			t.Errorf("open span: %+v", open)
		}
		if want := []int{2, 2, 1}[p]; len(ch.Spans) != want {
			t.Errorf("partition %d has %d spans, want %d", p, len(ch.Spans), want)
		}
		if (ch.Sealed != "") != (p < 2) {
			t.Errorf("partition %d: producers %q", p, ch.Sealed)
		}
		w.verify()
	}
	cert := f.certificate(topic, op.ID)
	if cert.From != "a" || cert.To != "b" || cert.Mode != catalog.ModeSeal || len(cert.Partitions) != 3 {
		t.Errorf("certificate: %+v", cert)
	}
	for _, p := range cert.Partitions {
		if p.Verdict != catalog.VerdictVerified || p.Lost+p.Duplicated+p.Reordered+p.Stray != 0 {
			t.Errorf("partition %d: %+v", p.Partition, p)
		}
	}
	if again := f.move("b", "orders"); again.State != catalog.OpDone || again.Total != 0 {
		t.Errorf("move to where it is: %+v", again)
	}
}
