package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTwoRealKafkasAway loses a real Kafka with answers on their way, and then the one to which its topics went, with records that
// nobody saw acknowledged. They come back in either order, and the process that holds the controller is killed in each of the returns.
// Every record is there once. It is for the long run.
func TestTwoRealKafkasAway(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		t.Run([]string{"as they went", "the last one first"}[order[0]], func(t *testing.T) {
			sites := []*site{startSite(t, "east"), startSite(t, "west")}
			up := startUpThere(t, "--local-clusters", "a")
			up.join(sites...)
			// Clusters with fewer partitions are preferred: west is.
			up.must("topic", "create", "ballast", "--partitions", "40", "--cluster", "a")
			names := []string{"replayed", "in-place"}
			for _, name := range names {
				up.must("topic", "create", name, "--partitions", "2", "--cluster", "east", "--config", "braid.guarantee=available",
					"--config", "braid.stranded="+map[string]string{"replayed": "replay", "in-place": "in-place"}[name])
			}
			loads := []*load{startLoad(t, up.ready.Kafka, 20*time.Millisecond, 2, names...)}
			for _, x := range loads[0].topics {
				x.goesOn(t, "at first", patience)
			}
			up.loseUnanswered(sites[0], loads)
			up.goOnWithout(sites[0], loads)
			lonely := up.loseWithLonely(sites[1], loads, names...)
			up.goOnWithout(sites[1], loads)
			for _, i := range order {
				s := sites[i]
				up.giveBack(s)
				eventually(t, patience, "the return of "+s.name+" begins", func() bool {
					out := up.must("op", "list", "-o", "json")
					return strings.Count(out, `"return"`) > slices.Index(order, i)
				})
				up.kill()
				up.start()
				for _, x := range loads[0].topics {
					x.goesOn(t, "with "+s.name, patience)
				}
			}
			for _, s := range sites {
				up.tookIn(s.name, names...)
			}
			for _, name := range names {
				up.holdsOnce(name, lonely[name])
			}
			reports := loads[0].end(patience)
			for name, r := range reports {
				t.Logf("%s\n%s", name, r)
				if !r.Complete() || r.Lost.Count+r.Duplicated.Count+r.Misplaced.Count+r.Conflicting.Count+r.NonMonotonic.Count+r.Phantom.Count > 0 {
					t.Errorf("topic %s: the history is not what the guarantee allows", name)
				}
			}
			for _, name := range names {
				up.certified(name)
			}
			toldClean(t, "two real Kafkas away at once, back in either order, controllers killed", reports)
		})
	}
}
