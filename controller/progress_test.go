package controller

import (
	"testing"

	"github.com/braidstream/braid/catalog"
)

// The steps of a topic under way count for its operation's progress.
func TestProgressOfOneTopic(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.topic("orders", 1, "a", nil)
	goOn := map[string]chan struct{}{FaultSealing: make(chan struct{}), FaultCertified: make(chan struct{})}
	f.controller(func(o *Options) {
		o.Fault = func(p string) error {
			if ch := goOn[p]; ch != nil {
				select {
				case <-ch:
				case <-f.ctx.Done():
				}
			}
			return nil
		}
	})
	op := f.move("b", "orders")
	for _, at := range []struct {
		point string
		want  int
	}{{FaultSealing, stepShare[catalog.StepSeal]}, {FaultCertified, certifyShare}} {
		f.until("progress at "+at.point, func() bool {
			now, err := f.cat.Op(f.ctx, op.ID)
			f.check(err)
			if now.IsFinished() {
				t.Fatalf("it has ended: %+v", now)
			}
			return now.Progress == at.want
		})
		close(goOn[at.point])
	}
	if op = f.done(op); op.State != catalog.OpDone || op.Progress != 100 {
		t.Errorf("%+v", op)
	}
}
