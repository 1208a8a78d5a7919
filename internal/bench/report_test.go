package main

import (
	"bytes"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	// The machine became half as fast after the first round; the ratio must not show it.
	f := against("x", "MiB/s", []float64{200, 100, 100}, "peer", []float64{100, 50, 50})
	if f.Ratio != 2 || f.Value != 100 || f.PeerValue != 50 {
		t.Fatalf("got ratio %v of %v to %v", f.Ratio, f.Value, f.PeerValue)
	}
	if f = f.ratioAtLeast(2); !*f.Met {
		t.Error("2 is at least 2")
	}
	if f = f.ratioAtMost(1.9); *f.Met {
		t.Error("2 is not at most 1.9")
	}
	if f = f.valueAtMost(99); *f.Met {
		t.Error("100 is not at most 99")
	}
	if !math.IsNaN(median(nil)) || median([]float64{3, 1}) != 2 {
		t.Error("median of none, or of two")
	}
}

func TestGapsOverlapTheirSpan(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	acks := map[int32][]int64{}
	for _, ms := range []int64{0, 10, 20, 90, 100, 110, 500} {
		acks[0] = append(acks[0], ms*1000)
	}
	for _, c := range []struct {
		name     string
		from, to int64
		want     float64
	}{
		{"inside", 15, 105, 70},
		{"begins in the gap", 30, 105, 70},
		{"ends in the gap", 5, 40, 70},
		{"lies in the gap", 40, 50, 70},
		{"before it", 1, 9, 10},
		{"runs into the next", 95, 130, 390},
	} {
		got := gaps(acks, [][2]time.Time{{at(c.from), at(c.to)}})
		if !slices.Equal(got, []float64{c.want}) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOwnProcessIsRead(t *testing.T) {
	began := time.Now()
	for x := 1.0; time.Since(began) < 50*time.Millisecond; {
		x = math.Sqrt(x + 1)
	}
	cpu, err := cpuSeconds(os.Getpid())
	if err != nil || cpu <= 0 {
		t.Errorf("cpu time %v, %v", cpu, err)
	}
	now, peak, err := memory(os.Getpid())
	if err != nil || now <= 0 || peak < now {
		t.Errorf("memory %d, peak %d, %v", now, peak, err)
	}
}

func TestReportSaysWhatWasNotMet(t *testing.T) {
	var b bytes.Buffer
	figures := []figure{
		figure{Scenario: "s", Name: "fast", Value: 1}.goal("<= 2", true),
		figure{Scenario: "s", Name: "slow", Value: math.NaN()}.goal("<= 2", false),
	}
	for _, output := range []string{"text", "json"} {
		b.Reset()
		if err := report(&b, options{output: output}, slices.Clone(figures)); err != nil {
			t.Fatalf("%s: %v", output, err)
		}
		if want := map[string]string{"text": "NO", "json": `"met": false`}[output]; !strings.Contains(b.String(), want) {
			t.Errorf("%s: no %q in %s", output, want, b.String())
		}
	}
}

func TestCommandLine(t *testing.T) {
	o, err := parse([]string{"-quick", "-only", "moves,batch", "-window", "3s"})
	if err != nil || !slices.Equal(o.only, []string{"moves", "batch"}) || o.rounds != 1 || o.window != 3*time.Second {
		t.Errorf("got %+v, %v", o, err)
	}
	if _, err := parse([]string{"-only", "move"}); err == nil || !strings.Contains(err.Error(), `"moves"`) {
		t.Errorf("the nearest name is not told: %v", err)
	}
	if _, err := parse([]string{"-o", "yaml"}); err == nil {
		t.Error("yaml is no output format")
	}
}
