package controller

import (
	"slices"
	"sync"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
)

// A cluster that is failed over drops, doubles and swaps one acknowledged record each, in
// another partition each: the failover's certificate names them, and is content with the rest.
func TestFailoverCertificateNamesWhatAClusterDid(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	topic := f.topic("orders", 4, "a", nil)
	ws := make([]*writer, 4)
	for p := range ws {
		ws[p] = f.writer(topic, p, int64(100+p))
	}
	logs := f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts
	for i := range 12 {
		if i == 4 { // before it is acknowledged to anybody: the log has it twice
			f.doubles["a"].set(func() {
				l := logs[1]
				b := slices.Clone(l.batches[3].bytes)
				batch.SetBaseOffset(b, l.end)
				l.batches = append(l.batches, doubleBatch{l.end, b})
				l.end++
			})
		}
		for _, w := range ws {
			w.append(1)
		}
	}
	var once sync.Once
	written := make(chan struct{}) // all reports are; they do not account for what is doubled
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			if p == FaultCommitted {
				once.Do(func() {
					f.doubles["a"].set(func() {
						logs[0].batches = slices.Delete(logs[0].batches, 5, 6)
						x, y := &logs[2].batches[5], &logs[2].batches[7]
						batch.SetBaseOffset(x.bytes, y.offset)
						batch.SetBaseOffset(y.bytes, x.offset)
						x.bytes, y.bytes = y.bytes, x.bytes
					})
				})
				select {
				case <-written:
				case <-f.ctx.Done():
				}
			}
			return nil
		}
	})
	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", Force: true})
	f.check(err)
	for _, w := range ws {
		w.through()
	}
	close(written)
	op = f.done(op)
	f.lastWord(topic, op)
	cert := f.certificate(topic, op.ID)
	if cert.Kind != catalog.OpFailover || len(cert.Partitions) != 4 {
		t.Fatalf("%+v", cert)
	}
	for p, want := range []struct {
		what string
		at   int64
	}{{"lost", 5}, {"duplicated", 4}, {"lost", 7}, {}} {
		c := cert.Partitions[p]
		switch {
		case want.what == "":
			if c.Verdict != catalog.VerdictVerified {
				t.Errorf("%+v", c)
			}
		case c.Verdict != catalog.VerdictViolated || !slices.ContainsFunc(c.Ranges, func(r catalog.Range) bool {
			return r.What == want.what && r.From <= want.at && want.at < r.To && r.To-r.From <= 17
		}):
			t.Errorf("partition %d, %s: %+v", p, want.what, c)
		}
	}
}
