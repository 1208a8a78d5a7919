package main

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/clients"
	"github.com/braidstream/braid/verify"
)

// TestReturnsOfRealKafka loses a real Kafka, then the one to which its topics went, and then the
// first one again, each with records on it that nobody saw acknowledged, and has each back in between.
// Every record is there once: what a return has taken in, the next one leaves alone. It is for the
// long run.
func TestReturnsOfRealKafka(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	east, west := startSite(t, "east"), startSite(t, "west")
	up := startUp(t, "--local-clusters", "a")
	up.join(east, west)
	// Clusters with fewer partitions are preferred: west is.
	up.must("topic", "create", "ballast", "--partitions", "40", "--cluster", "a")
	idempotent, once := []string{"replayed", "in-place"}, []string{"once-replayed", "once-in-place"}
	names := slices.Concat(idempotent, once)
	stranded := map[string]string{"in-place": "in-place", "once-in-place": "in-place"}
	create := func(name string) {
		args := []string{"topic", "create", name, "--partitions", "2", "--cluster", "east", "--config", "braid.guarantee=available"}
		if s := stranded[name]; s != "" {
			args = append(args, "--config", "braid.stranded="+s)
		}
		up.must(args...)
	}
	for _, name := range names {
		create(name)
	}
	loads := []*load{startLoad(t, up.ready.Kafka, 20*time.Millisecond, 2, idempotent...), startPlainLoad(t, up.ready.Kafka, 20*time.Millisecond, 2, once...)}
	sessions := map[string]*clients.Session{}
	for i, f := range []clients.Family{clients.Java, clients.Confluent} {
		name := "of-" + string(f)
		create(name)
		sessions[name] = clients.Start(t, f, clients.Options{Bootstrap: up.ready.Kafka[0], Topic: name, Partitions: 2, Producer: int32(i), Count: 6000, Rate: 50, Timeout: 8 * time.Minute})
	}
	for _, l := range loads {
		for _, x := range l.topics {
			x.goesOn(t, "at first", patience)
		}
	}
	var lonely []map[string]string
	type round struct {
		s      *site
		lonely bool // its stranded records are of producers that are gone
	}
	for _, round := range []round{{east, true}, {west, false}, {east, true}, {east, false}, {east, true}} {
		s := round.s
		if !slices.Contains(up.openOn("replayed"), s.name) {
			up.must("failback", s.name, "-o", "json")
			if on := up.openOn("replayed"); !slices.Equal(on, []string{s.name}) {
				t.Fatalf("the topics are on %v, not home on %s", on, s.name)
			}
		}
		if round.lonely {
			lonely = append(lonely, up.loseWithLonely(s, loads, names...))
		} else {
			up.loseUnanswered(s, loads)
		}
		up.goOnWithout(s, loads)
		for _, name := range names {
			up.leavesRoom(name, s.name)
		}
		t.Logf("%s is away, and the topics are on %v", s.name, up.openOn("replayed"))
		up.giveBack(s)
		up.tookIn(s.name, names...)
		t.Logf("%s is back", s.name)
	}
	for _, name := range names {
		for _, round := range lonely {
			up.holdsOnce(name, round[name])
		}
	}
	reports := map[string]*verify.Report{}
	for _, l := range loads {
		maps.Copy(reports, l.end(patience))
	}
	for name, s := range sessions {
		r, err := s.Wait()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		reports[name] = &r
	}
	for name, r := range reports {
		t.Logf("%s\n%s", name, r)
		if !r.Complete() || r.Lost.Count+r.Duplicated.Count+r.Misplaced.Count+r.Conflicting.Count+r.NonMonotonic.Count+r.Phantom.Count > 0 {
			t.Errorf("topic %s: the history is not what the guarantee allows", name)
		}
		var back int64
		for _, c := range up.certified(name) {
			for _, p := range c.Partitions {
				back += p.Replayed + p.InPlace
			}
		}
		if back < int64(len(lonely)) && slices.Contains(names, name) {
			t.Errorf("topic %s: the certificates tell of %d records that came back, at least %d did", name, back, len(lonely))
		}
	}
	toldClean(t, "five losses and returns of two real Kafkas", reports)
}
