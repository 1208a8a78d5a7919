package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/verify"
)

// judged ends the loads and checks that nothing was lost, doubled or out of order.
func (r *running) judged(what string, loads ...*load) {
	r.t.Helper()
	reports := map[string]*verify.Report{}
	for _, l := range loads {
		maps.Copy(reports, l.end(2*patience))
	}
	for name, x := range reports {
		r.t.Logf("%s\n%s", name, x)
		if !x.Complete() || x.Lost.Count+x.Duplicated.Count+x.Misplaced.Count+x.Conflicting.Count+x.NonMonotonic.Count+x.Phantom.Count > 0 {
			r.t.Errorf("topic %s: the history is not what the guarantee allows", name)
		}
		r.certified(name)
	}
	toldClean(r.t, what, reports)
}

// settles waits until no operation is under way and no topic waits for anything.
func (r *running) settles(topics ...string) {
	r.t.Helper()
	eventually(r.t, 2*patience, "all operations end", func() bool {
		for _, o := range r.ops() {
			if o.Finished == nil {
				return false
			}
		}
		return !slices.ContainsFunc(topics, func(name string) bool { return r.topic(name).Moving != nil })
	})
}

// TestRealKafkaFlaps has a real Kafka come and go, killed and hanging, four times in a row each, while idempotent producers
// write its topics and others read them. Every record is there once, no operation hangs, and the cluster is in
// use at the end. It is for the long run.
func TestRealKafkaFlaps(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	east := startSite(t, "east")
	up := startUp(t, "--local-clusters", "a,b")
	up.join(east)
	names := []string{"replayed", "in-place", "ordered"}
	for _, name := range names {
		args := []string{"topic", "create", name, "--partitions", "2", "--cluster", "east"}
		if name != "ordered" {
			args = append(args, "--config", "braid.guarantee=available", "--config", "braid.stranded="+map[string]string{"replayed": "replay", "in-place": "in-place"}[name])
		}
		up.must(args...)
	}
	up.must("topic", "create", "elsewhere", "--partitions", "2", "--cluster", "b")
	available, ordered := startLoad(t, up.ready.Kafka, 10*time.Millisecond, 2, "replayed", "in-place"), startLoad(t, up.ready.Kafka, 10*time.Millisecond, 2, "ordered")
	elsewhere := startLoad(t, up.ready.Kafka, 10*time.Millisecond, 2, "elsewhere")
	loads := []*load{available, ordered, elsewhere}
	for _, l := range loads {
		for _, x := range l.topics {
			x.goesOn(t, "at first", patience)
		}
	}
	start := func() error { return east.kafka.Start(t.Context()) }
	for _, kind := range []struct {
		name       string
		take, give func() error
	}{{"killed", east.kafka.Kill, start}, {"hanging", east.kafka.Pause, east.kafka.Resume}} {
		for i := range 4 {
			at := time.Now()
			if err := kind.take(); err != nil {
				t.Fatal(err)
			}
			// Now and then it is back before it is missed, now and then while the failover is at work.
			pace(t, time.Duration(1+3*i)*time.Second)
			if err := kind.give(); err != nil {
				t.Fatal(err)
			}
			pace(t, time.Duration(9-2*i)*time.Second)
			t.Logf("%s, %d: the topics are on %v and %v; elsewhere the longest gap since is %s", kind.name, i, up.openOn("replayed"), up.openOn("in-place"),
				elsewhere.topic("elsewhere").gap(at))
		}
		for _, l := range loads {
			for _, x := range l.topics {
				x.goesOn(t, "after it was "+kind.name, patience)
			}
		}
		up.tookIn("east", names...)
		up.settles(names...)
		eventually(t, patience, "the cluster is in use", func() bool { return up.cluster("east").State == "active" })
		up.must("failback", "east", "-o", "json")
		for _, name := range names {
			if on := up.openOn(name); !slices.Equal(on, []string{"east"}) {
				t.Errorf("topic %s is on %v, not home", name, on)
			}
		}
	}
	up.judged("a real Kafka that comes and goes, killed and hanging, eight times", loads...)
}

// pace lets the load run for a while: what happens is the load's own.
func pace(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// TestMovesDuringAReturnOfRealKafka asks for a move of a topic, for a drain of the cluster that another one went to, and for a move
// home, while what both left on a real Kafka is appended anew. The return comes first, and all of them end. It is for the long run.
func TestMovesDuringAReturnOfRealKafka(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	east, west := startSite(t, "east"), startSite(t, "west")
	up := startUp(t, "--local-clusters", "a")
	up.join(east, west)
	up.must("topic", "create", "ballast", "--partitions", "40", "--cluster", "a")
	names := []string{"one", "two", "three"}
	for _, name := range names {
		up.must("topic", "create", name, "--partitions", "2", "--cluster", "east", "--config", "braid.guarantee=available")
	}
	l := startLoad(t, up.ready.Kafka, 20*time.Millisecond, 2, names...)
	for _, x := range l.topics {
		x.goesOn(t, "at first", patience)
	}
	l.pause()
	// As many batches as take a while to append anew, one by one.
	for _, name := range names {
		var batches [][]*kgo.Record
		for i := range 1500 {
			batches = append(batches, []*kgo.Record{{Value: fmt.Appendf(nil, "lonely %s %d", name, i)}})
		}
		up.strandBatches(east, name, batches)
	}
	l.resume()
	up.loseUnanswered(east, []*load{l})
	up.goOnWithout(east, []*load{l})
	up.giveBack(east)
	// The return takes one topic after the other: the one that it has in hand is to be moved.
	var held string
	eventually(t, patience, "the return is at work", func() bool {
		if !slices.ContainsFunc(up.ops(), func(o api.Op) bool { return o.Kind == "return" && !o.Ended() }) {
			return false
		}
		i := slices.IndexFunc(names, func(name string) bool { return up.topic(name).Moving != nil })
		if i >= 0 {
			held = names[i]
		}
		return i >= 0
	})
	others := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == held })
	type asked struct {
		what string
		req  api.OpRequest
	}
	refused, said := 0, ""
	for _, a := range []asked{
		{"the move", api.OpRequest{Kind: "move", Topics: []string{held}, To: "a"}},
		{"the drain", api.OpRequest{Kind: "drain", Cluster: "west"}},
		{"the move home", api.OpRequest{Kind: "move", Topics: others[:1], To: "east"}},
	} {
		eventually(t, patience, a.what+" is taken and ends well", func() bool {
			op, err := up.admin.Submit(t.Context(), a.req)
			for err == nil && !op.Ended() {
				op, err = up.admin.Op(t.Context(), op.ID, op.Revision)
			}
			if err != nil || op.State != "done" {
				refused++
				if now := fmt.Sprintf("%s: %v %s %s", a.what, err, op.State, op.Message); now != said {
					said = now
					t.Log(said)
				}
				return false
			}
			return true
		})
	}
	t.Logf("refused %d times", refused)
	up.tookIn("east", names...)
	up.settles(names...)
	for _, name := range names {
		l.topic(name).goesOn(t, "after all that", patience)
	}
	if on := append(up.openOn(held), up.openOn(others[0])...); !slices.Equal(on, []string{"a", "east"}) {
		t.Errorf("the topics are on %v", on)
	}
	if slices.Contains(up.openOn(others[1]), "west") {
		t.Error("a topic is left on the drained cluster")
	}
	up.judged("a move, a drain and a move home during a return of a real Kafka", l)
	for _, name := range names {
		for _, i := range []int{0, 749, 1499} {
			up.holdsOnceIn(name, 0, fmt.Sprintf("lonely %s %d", name, i))
		}
	}
}

// ops lists all operations.
func (r *running) ops() []api.Op {
	r.t.Helper()
	list, err := r.admin.Ops(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}
