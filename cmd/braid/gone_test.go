package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// TestPhysicalTopicsAreDeletedOnKafka: physical topics, one that takes appends and one of a sealed span, are deleted with Kafka's own
// tools. Both topics go on, readers pass over what is lost, and all who ask are told; what has not moved is as it was.
func TestPhysicalTopicsAreDeletedOnKafka(t *testing.T) {
	t.Parallel()
	east := testkit.Shared(t)
	up := startUp(t)
	up.addCluster("east", east)
	var physical []string
	for _, name := range []string{"deleted-open", "deleted-sealed", "deleted-not"} {
		up.must("topic", "create", name, "--partitions", "1", "--cluster", "east")
		up.produce(name, "one", "two", "three")
		if name != "deleted-not" {
			physical = append(physical, up.topic(name).Partitions[0].Spans[0].Copies[0].Topic)
		}
	}
	for _, name := range []string{"deleted-sealed", "deleted-not"} {
		up.must("topic", "move", name, "--to", "a")
		up.produce(name, "four")
	}
	deleted, err := kadm.NewClient(east.Client(t)).DeleteTopics(t.Context(), physical...)
	if err == nil {
		err = deleted.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	// Before it is found by itself, or after.
	out, _, _ := up.run("cluster", "drain", "east", "--dry-run")
	if !strings.Contains(out, "lost records") && !slices.ContainsFunc(up.ops(), func(o api.Op) bool { return o.Kind == "repair" }) {
		t.Errorf("a plan does not know what is gone:\n%s", out)
	}
	up.produce("deleted-open", "four")
	for name, want := range map[string]string{"deleted-open": "four", "deleted-sealed": "four", "deleted-not": "one"} {
		if got := up.firstOf(name); got != want {
			t.Errorf("the first that readers of %s get is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"deleted-open", "deleted-sealed"} {
		var lost api.Certificate
		eventually(t, patience, "a certificate of the repair of "+name, func() bool {
			for _, c := range up.topic(name).Certificates {
				if lost = c; c.Kind == "repair" && c.Verdict == "violated" {
					return true
				}
			}
			return false
		})
		if p := lost.Partitions[0]; counted(p.Lost) != 3 || !slices.ContainsFunc(p.Ranges, func(r api.Range) bool { return r.What == "lost" && r.From == 0 && r.To == 3 }) {
			t.Errorf("%s: %+v", name, lost)
		}
		if c := up.topic(name).Partitions[0].Spans[0].Copies[0]; !c.Gone {
			t.Errorf("%s: %+v", name, c)
		}
		if text := up.must("topic", "describe", name); !strings.Contains(text, "gone: lost") {
			t.Errorf("%s", text)
		}
	}
	eventually(t, patience, "status warns of both", func() bool {
		return strings.Contains(up.must("status"), "warning: 2 topics have lost records, for cluster east has their physical topics no more (deleted-open, deleted-sealed)")
	})
	for _, op := range up.ops() {
		if slices.Contains(op.Topics, "deleted-not") && op.Kind != "move" {
			t.Errorf("%+v", op)
		}
	}
	up.must("topic", "move", "deleted-open", "--to", "a")
}

// firstOf is the first value that a reader of a topic gets, from its start on.
func (r *running) firstOf(topic string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			r.t.Fatalf("readers of %s wait for ever: %v", topic, fetches.Err())
		}
		if all := fetches.Records(); len(all) > 0 {
			return string(all[0].Value)
		}
	}
}
