package explore_test

import (
	"maps"
	"os"
	"strconv"
	"testing"

	"github.com/braidstream/braid/chain/explore"
	"github.com/braidstream/braid/internal/testkit/summary"
)

func lose(t *testing.T, cfg explore.Losing) explore.Result {
	t.Helper()
	r, err := explore.Lose(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v", r)
	return r
}

// What is walked of extends whose old copy cannot be sealed. Each bounds some kinds
// of events and is complete within them.
var losses = map[string]explore.Losing{
	"a fence, pipelined, controllers deposed": {Gateways: 1, Producers: 1, Batches: 2, Window: 2, Deaf: 1, Takeovers: 1, Skews: 1},
	"a fence, another extend takes a lease":   {Gateways: 1, Producers: 1, Batches: 2, Window: 1, Others: 1, Deaf: 1, Skews: 1},
	"lost, what was on its way":               {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Cuts: 1, Reads: 1},
	"lost, two producers read, in place":      {Gateways: 2, Producers: 2, Batches: 2, Window: 1, Hangs: true, Reads: 1, InPlace: true},
	"lost, producers that end, in place":      {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Leaves: 1, Expires: 1, InPlace: true},
}

// Those that take longer, left out of short tests.
var longLosses = map[string]explore.Losing{
	"a fence, a gateway that is silent": {Gateways: 2, Producers: 1, Batches: 2, Window: 1, Deaf: 1},
	"lost, retries through others":      {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Drops: 1, Expires: 1},
	"lost, two producers":               {Gateways: 2, Producers: 2, Batches: 2, Window: 1, Hangs: true, Cuts: 1},
	"lost, three gateways":              {Gateways: 3, Producers: 2, Batches: 1, Window: 1, Hangs: true, Cuts: 1, Reads: 1},
	"lost, producers that end, replay":  {Gateways: 2, Producers: 2, Batches: 2, Window: 2, Hangs: true, Leaves: 1, Expires: 1},
}

func TestNoLossBreaksAnInvariant(t *testing.T) {
	total := 0
	all := maps.Clone(losses)
	if !testing.Short() {
		maps.Copy(all, longLosses)
	}
	for name, cfg := range all {
		t.Run(name, func(t *testing.T) {
			r := lose(t, cfg)
			total += r.States
			if r.Violation != "" || !r.Complete {
				t.Fatal("see above")
			}
		})
	}
	summary.Line(t, "explorer, losses: %d states in all, each held against the invariants", total)
}

// BRAID_EXPLORE is how many states each larger walk visits at most (0: all).
func TestSoakLosses(t *testing.T) {
	env := os.Getenv("BRAID_EXPLORE")
	if env == "" {
		t.Log("set BRAID_EXPLORE to a number of states for the larger walks")
		return
	}
	limit, err := strconv.Atoi(env)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]explore.Losing{
		"a fence, everything once":        {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Deaf: 1, Cuts: 1, Drops: 1, Takeovers: 1, Others: 1, Skews: 1},
		"a fence, two that are silent":    {Gateways: 2, Producers: 1, Batches: 2, Window: 2, Deaf: 2, Cuts: 1, Takeovers: 1, Skews: 1},
		"a fence, retries":                {Gateways: 2, Producers: 1, Batches: 2, Window: 2, Deaf: 1, Drops: 1, Expires: 1},
		"lost, everything once":           {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Hangs: true, Cuts: 1, Drops: 1, Expires: 1, Reads: 1, Leaves: 1},
		"lost, everything once, in place": {Gateways: 3, Producers: 2, Batches: 2, Window: 2, Hangs: true, InPlace: true, Cuts: 1, Drops: 1, Expires: 1, Reads: 1, Leaves: 1},
		"lost, cuts and retries":          {Gateways: 2, Producers: 1, Batches: 3, Window: 3, Hangs: true, Cuts: 2, Drops: 2, Expires: 1, Reads: 1},
		"lost, cuts and readers":          {Gateways: 2, Producers: 2, Batches: 2, Window: 2, Hangs: true, Cuts: 2, Reads: 2},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.MaxStates = limit
			cfg.Progress = func(n int) {
				if n%5000000 == 0 {
					t.Logf("%d states", n)
				}
			}
			r := lose(t, cfg)
			if r.Violation != "" {
				t.Fatal("see above")
			}
			summary.Line(t, "explorer, soak: %s: %d states, all there are: %v", cfg.Bounds(), r.States, r.Complete)
		})
	}
}

// Each rule of a fence and of a cut, left out, breaks an invariant.
func TestPlantedLossesAreFound(t *testing.T) {
	fence := explore.Losing{Gateways: 2, Producers: 1, Batches: 2, Window: 1, Deaf: 1, Cuts: 1}
	lost := explore.Losing{Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Cuts: 1, Reads: 1}
	two := explore.Losing{Gateways: 2, Producers: 2, Batches: 2, Window: 1, Hangs: true, Cuts: 1}
	ends := explore.Losing{Gateways: 2, Producers: 2, Batches: 1, Window: 1, Hangs: true, Leaves: 1, Expires: 1}
	inPlace := ends
	inPlace.InPlace = true
	for bug, cfg := range map[explore.Bug]explore.Losing{
		explore.NoLeaseWait:        fence,
		explore.AbsentIsStopped:    {Gateways: 1, Producers: 1, Batches: 2, Window: 1, Others: 1},
		explore.AnswerAfterLease:   fence,
		explore.AnswerAcrossLeases: fence,
		explore.ReadAfterLease:     fence,
		explore.EarlyWord:          fence,
		explore.StaleResume:        fence,
		explore.StaleEnd:           fence,
		explore.CutAtHighest:       two,
		explore.CutAtDoubt:         two,
		explore.ForgetKnown:        lost,
		explore.NoDoubts:           two,
		explore.NoJudging:          lost,
		explore.HastyReturn:        ends,
		explore.SkipAll:            inPlace,
		explore.RetainByEnd:        ends,
		explore.NoExpectation:      {Gateways: 2, Producers: 1, Batches: 3, Window: 2, Hangs: true, Drops: 1, Expires: 1},
	} {
		t.Run(string(bug), func(t *testing.T) {
			cfg.Bug, cfg.MaxStates = bug, 2_000_000
			if r := lose(t, cfg); r.Violation == "" {
				t.Fatal("not found")
			}
		})
	}
}
