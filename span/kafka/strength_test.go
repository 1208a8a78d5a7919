package kafka

import (
	"testing"
	"time"
)

// A cluster of which half or less answers is up if all that is known of it is served; a part is enough for a while, for one
// whose other half died just now.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name                     string
		peak, listed, answering  int
		served, asked            int
		at, later, much, forever bool // at once, within the time of an election, after it, and for good
	}{
		{"all answer", 3, 3, 3, 0, 0, true, true, true, true},
		{"most answer", 3, 2, 2, 0, 0, true, true, true, true},
		{"half, nothing known", 2, 1, 1, 0, 0, false, false, false, false},
		{"half, all served", 2, 1, 1, 5, 5, true, true, true, true},
		{"half, some served", 2, 2, 1, 3, 5, true, true, false, false},
		{"half, none served", 2, 2, 1, 0, 5, false, false, false, false},
		{"less, some served", 3, 1, 1, 4, 5, false, false, false, false},
		{"less, all served", 6, 2, 2, 5, 5, true, true, true, true},
	} {
		x := strength{peak: tc.peak}
		begin := time.Unix(1000, 0)
		for _, step := range []struct {
			after time.Duration
			want  bool
		}{{0, tc.at}, {electing - 1, tc.later}, {electing, tc.much}, {peakHeld, tc.forever}} {
			if got := x.judge(begin.Add(step.after), tc.listed, tc.answering, tc.served, tc.asked); got != step.want {
				t.Errorf("%s: %t after %v", tc.name, got, step.after)
			}
		}
		if fell := x.peak < tc.peak; fell != (tc.asked > 0 && tc.served == tc.asked) {
			t.Errorf("%s: %d brokers count at last", tc.name, x.peak)
		}
	}
	x := strength{peak: 2}
	now := time.Unix(1000, 0)
	for range 3 { // an election each time, with the cluster whole in between
		if !x.judge(now, 2, 1, 1, 2) || !x.judge(now.Add(time.Second), 2, 2, 0, 0) {
			t.Error("times that are apart were added up")
		}
		now = now.Add(electing)
	}
}
