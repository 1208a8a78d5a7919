package explore_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain/explore"
	"github.com/braidstream/braid/internal/testkit/summary"
)

func walk(t *testing.T, cfg explore.Config) explore.Result {
	t.Helper()
	r, err := explore.Run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v", r)
	return r
}

// The walks of the default test: each bounds some kinds of events and is complete
// within them.
var walks = map[string]explore.Config{
	"three gateways, two moves, retries through others": {Gateways: 3, Producers: 1, Batches: 2, Window: 2, Moves: 2, Drops: 1},
	"two producers":                     {Gateways: 2, Producers: 2, Batches: 2, Window: 2, Moves: 1, Drops: 1},
	"two producers, three gateways":     {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Takeovers: 1},
	"answers lost, late requests":       {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Moves: 1, Drops: 1, Cuts: 1},
	"controllers depose each other":     {Gateways: 1, Producers: 1, Batches: 2, Window: 2, Moves: 2, Takeovers: 1, Cancels: 1},
	"kills of gateways and controllers": {Gateways: 2, Producers: 1, Batches: 2, Window: 2, Moves: 1, Crashes: 2, Takeovers: 1},
	"a kill, a cut, a retry":            {Gateways: 2, Producers: 1, Batches: 2, Window: 2, Moves: 1, Crashes: 1, Drops: 1, Cuts: 1},
}

// One that takes longer, left out of short tests.
var long = explore.Config{Gateways: 2, Producers: 1, Batches: 2, Window: 2, Moves: 1, Crashes: 1, Takeovers: 1, Drops: 1, Cuts: 1}

func TestNoInterleavingBreaksAnInvariant(t *testing.T) {
	total := 0
	one := func(name string, cfg explore.Config) {
		t.Run(name, func(t *testing.T) {
			r := walk(t, cfg)
			total += r.States
			if r.Violation != "" || !r.Complete {
				t.Fatal("see above")
			}
		})
	}
	for name, cfg := range walks {
		one(name, cfg)
	}
	if !testing.Short() {
		one("a kill, a cut, a retry, a deposition", long)
	}
	summary.Line(t, "explorer, moves: %d states in all, each held against the invariants", total)
}

// BRAID_EXPLORE is how many states each larger walk visits at most (0: all).
func TestSoak(t *testing.T) {
	env := os.Getenv("BRAID_EXPLORE")
	if env == "" {
		t.Log("set BRAID_EXPLORE to a number of states for the larger walks")
		return
	}
	limit, err := strconv.Atoi(env)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]explore.Config{
		"everything once":         {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Crashes: 1, Takeovers: 1, Drops: 1, Cuts: 1, Cancels: 1},
		"two moves, crashes":      {Gateways: 3, Producers: 1, Batches: 3, Window: 2, Moves: 2, Crashes: 2, Takeovers: 1, Drops: 1},
		"three moves":             {Gateways: 2, Producers: 1, Batches: 3, Window: 3, Moves: 3, Drops: 2},
		"cancels, depositions":    {Gateways: 2, Producers: 1, Batches: 2, Window: 2, Moves: 2, Takeovers: 2, Cancels: 1, Crashes: 1},
		"cuts and drops, in flux": {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Moves: 1, Drops: 2, Cuts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.MaxStates = limit
			cfg.Progress = func(n int) {
				if n%5000000 == 0 {
					t.Logf("%d states", n)
				}
			}
			r := walk(t, cfg)
			if r.Violation != "" {
				t.Fatal("see above")
			}
			summary.Line(t, "explorer, soak: %s: %d states, all there are: %v", cfg.Bounds(), r.States, r.Complete)
		})
	}
}

// A walk that finds nothing proves little unless it finds what is there: each
// rule, left out, breaks an invariant.
func TestPlantedBugsAreFound(t *testing.T) {
	base := explore.Config{Gateways: 2, Producers: 1, Batches: 3, Window: 2, Moves: 1, Drops: 1, MaxStates: 3_000_000}
	cancels := explore.Config{Gateways: 1, Producers: 1, Batches: 2, Window: 2, Moves: 2, Takeovers: 2, Cancels: 1, MaxStates: 3_000_000}
	for bug, cfg := range map[explore.Bug]explore.Config{
		explore.EndAtHighWatermark: base,
		explore.StateBeforeSeal:    base,
		explore.PipelineFresh:      {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Moves: 1, Cuts: 1, Drops: 1, MaxStates: 3_000_000},
		explore.NoSealedState:      base,
		explore.ReusePhysical:      base,
		explore.UnfencedCommit:     {Gateways: 1, Producers: 1, Batches: 2, Window: 2, Moves: 2, Takeovers: 2, MaxStates: 3_000_000},
		explore.UnprovedEnd:        base,
		explore.OvertakeAtSwitch:   base,
		explore.JudgeByPast:        {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Moves: 2, Drops: 1, MaxStates: 3_000_000},
		explore.LateUnseal:         cancels, // see unsealing
	} {
		t.Run(string(bug), func(t *testing.T) {
			cfg.Bug = bug
			if bug == explore.LateUnseal {
				cfg.Decide = unsealing
			}
			if r := walk(t, cfg); r.Violation == "" {
				t.Fatal("not found")
			}
		})
	}
}

// unsealing decides as one would who takes a seal back when its extend is cancelled.
func unsealing(q explore.Question) explore.Answer {
	switch {
	case q.Step == catalog.StepUndo && !q.Unsealed:
		return explore.Answer{Do: "unseal"}
	case q.Cancel && q.Moved == 0 && q.Step == catalog.StepSeal:
		return explore.Answer{Do: "record", Step: catalog.StepUndo}
	}
	return explore.Standard(q)
}
