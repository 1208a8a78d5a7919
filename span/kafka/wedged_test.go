package kafka

import (
	"testing"
	"time"
)

// A decided transaction whose markers do not get on keeps a topic from being sealed for a while, and not for ever; one
// that goes on, and the next one under the same id, begin that while anew.
func TestWedgedTransactionsAreWaitedForAWhile(t *testing.T) {
	var w wedged
	at := time.Unix(1000, 0)
	for _, step := range []struct {
		after time.Duration
		epoch int16
		state string
		want  bool
	}{
		{0, 1, "Ongoing", false},
		{0, 1, "PrepareCommit", false},
		{wedgedAfter, 1, "PrepareCommit", false},
		{wedgedAfter + time.Second, 1, "PrepareCommit", true},
		{wedgedAfter + time.Second, 2, "PrepareAbort", false},
		{wedgedAfter + time.Second, 1, "Ongoing", false},
		{wedgedAfter + time.Second, 1, "PrepareCommit", false},
	} {
		if got := w.is("id", step.epoch, step.state, at.Add(step.after)); got != step.want {
			t.Errorf("%+v: %v", step, got)
		}
	}
}
