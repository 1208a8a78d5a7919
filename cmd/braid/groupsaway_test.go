package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/coordinator"
)

var snapshotsTotal = regexp.MustCompile(`(?m)^braid_coordinator_snapshots_total(?:\{[^}]*\})? (\d+)`)

// rewritten is how many coordinator shards of the process have written their state anew.
func (r *running) rewritten() int {
	r.t.Helper()
	resp, err := http.Get(r.ready.Admin + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		r.t.Fatal(err, cerr)
	}
	m := snapshotsTotal.FindSubmatch(b)
	if m == nil {
		r.t.Fatal("no count of snapshots")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// groups commits and looks at what groups have committed, for partition 0 of one topic.
func (r *running) groups(f func(ctx context.Context, adm *kadm.Client)) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RetryTimeout(patience))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	f(ctx, kadm.NewClient(cl))
}

func (r *running) commits(topic string, offset int64, groups ...string) {
	r.t.Helper()
	r.groups(func(ctx context.Context, adm *kadm.Client) {
		for _, g := range groups {
			var o kadm.Offsets
			o.Add(kadm.Offset{Topic: topic, At: offset, LeaderEpoch: -1})
			if err := adm.CommitAllOffsets(ctx, g, o); err != nil {
				r.t.Fatalf("group %s: %v", g, err)
			}
		}
	})
}

func (r *running) hasCommits(when, topic string, want int64, groups ...string) {
	r.t.Helper()
	r.groups(func(ctx context.Context, adm *kadm.Client) {
		for _, g := range groups {
			got, err := adm.FetchOffsets(ctx, g)
			for errors.Is(err, kerr.CoordinatorNotAvailable) || errors.Is(err, kerr.NotCoordinator) || errors.Is(err, kerr.CoordinatorLoadInProgress) {
				got, err = adm.FetchOffsets(ctx, g) // the process has just started
			}
			if o, ok := got.Lookup(topic, 0); err != nil || !ok || o.Err != nil || o.At != want {
				r.t.Errorf("%s: group %s: %+v, %v; want %d", when, g, got, err, want)
			}
		}
	})
}

// shardsWaiting is what the status says of coordinator shards.
func (r *running) shardsWaiting() string {
	r.t.Helper()
	var s api.Status
	if err := json.Unmarshal([]byte(r.must("status", "-o", "json")), &s); err != nil {
		r.t.Fatal(err)
	}
	if i := slices.IndexFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "coordinator shards wait") }); i >= 0 {
		return s.Warnings[i]
	}
	return ""
}

// TestGroupsWithoutTheClusterOfTheirCommits: a real Kafka that has the coordinators' logs is killed. A gateway that lives has all
// commits, and so has one that is started then, without that Kafka. If both are killed at once, groups wait for the Kafka, and have
// all their commits when it is back; or go on without when it is given up. It is for the long run.
func TestGroupsWithoutTheClusterOfTheirCommits(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	east, west := startSite(t, "east"), startSite(t, "west")
	up := startUpThere(t, "--local-clusters", "")
	up.join(east)
	up.must("topic", "create", "ballast", "--partitions", "1", "--cluster", "east")
	groups := []string{"g0", "g1", "g2", "g3"}
	up.commits("ballast", 300, groups...) // the coordinators' topic is on east from here on
	up.join(west)
	usable := func(name string) {
		t.Helper()
		eventually(t, patience, name+" is in use", func() bool {
			c := up.cluster(name)
			return c.State == "active" && c.Health == "up"
		})
	}
	usable("west")

	before := up.rewritten()
	up.vanish(east)
	eventually(t, patience, "all shards have written their state again", func() bool { return up.rewritten() >= before+coordinator.DefaultShards })
	up.kill()
	up.start()
	up.hasCommits("started without east", "ballast", 300, groups...)
	up.commits("ballast", 301, groups...)
	up.giveBack(east)
	usable("east")
	up.hasCommits("east is back", "ballast", 301, groups...)

	both := func(s *site) {
		t.Helper()
		up.vanish(s)
		up.kill()
		up.start()
		eventually(t, patience, "shards wait for "+s.name, func() bool { return up.shardsWaiting() != "" })
		if text := up.shardsWaiting(); !strings.Contains(text, "braid failover "+s.name+" --force") {
			t.Errorf("the status says %q", text)
		}
		up.groups(func(ctx context.Context, adm *kadm.Client) {
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			if got, err := adm.FetchOffsets(ctx, "g0"); err == nil && got.Error() == nil {
				t.Errorf("without %s: %+v", s.name, got)
			}
		})
	}
	both(west)
	up.giveBack(west)
	eventually(t, patience, "no shard waits", func() bool { return up.shardsWaiting() == "" })
	up.hasCommits("west is back", "ballast", 301, groups...)
	usable("west")

	both(east)
	if costs := up.must("failover", "east", "--force", "--dry-run"); !strings.Contains(costs, "are lost for good") {
		t.Errorf("the costs: %s", costs)
	}
	// Shards are loaded a few at a time: some may not have come to wait when the others are given up.
	eventually(t, patience, "no shard waits", func() bool {
		if up.shardsWaiting() == "" {
			return true
		}
		up.must("failover", "east", "--force")
		return false
	})
	up.groups(func(ctx context.Context, adm *kadm.Client) {
		for {
			got, err := adm.FetchOffsets(ctx, "g0")
			if (err != nil || got.Error() != nil) && ctx.Err() == nil {
				up.must("failover", "east", "--force")
				continue
			}
			if err != nil || len(got) > 0 {
				t.Errorf("given up: %+v, %v", got, err)
			}
			return
		}
	})
	up.commits("ballast", 302, groups...)
	up.hasCommits("given up", "ballast", 302, groups...)
}
