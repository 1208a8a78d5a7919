package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/testkit"
)

// TestOnlyTheControllerIsCutOff: the leading controller, a process of its own, loses its way
// to a cluster that the gateways reach. Nothing is failed over, though the topic would go on
// elsewhere at once; clients notice nothing; who asks is told whose view is which. Moves off
// and onto the cluster are refused with the topics untouched, and done when it is reached again.
func TestOnlyTheControllerIsCutOff(t *testing.T) {
	t.Parallel()
	east := testkit.Shared(t)
	proxy := testkit.NewProxy(t, east.Addrs()[0])
	etcd, err := catalog.StartEmbedded(t.Context(), catalog.EmbeddedConfig{Dir: t.TempDir(), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	endpoint := etcd.Endpoints()[0]

	// First of all, so that it leads; `braid up` stands by.
	cut := startBraidWith(t, []string{"BRAID_FAULTS_ROUTES=" + east.Addrs()[0] + "=" + proxy.Addr()},
		"controller", "--catalog-endpoints", endpoint)
	leads := func() string {
		t.Helper()
		s, err := cut.admin.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Controller
	}
	eventually(t, patience, "the controller leads", func() bool { return leads() != "" })
	leader := leads()
	up := startUp(t, "--catalog-endpoints", endpoint)
	second := startBraid(t, "gateway", "--catalog-endpoints", endpoint, "--listen", "127.0.0.1:0")
	up.addCluster("east", east)

	up.must("topic", "create", "goes-on", "--partitions", "3", "--cluster", "a", "--config", "braid.guarantee=available")
	up.must("topic", "create", "away", "--partitions", "1", "--cluster", "a")
	move := func(topic, to, state string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		op, err := up.move(ctx, to, topic)
		if err != nil || op.State != state {
			t.Fatalf("move of %s to %s: %v: %s %s, want %s", topic, to, err, op.State, op.Message, state)
		}
		return op.Message
	}
	move("goes-on", "east", "done")
	if proxy.Accepted() == 0 {
		t.Fatal("the controller moved a topic to the cluster, and not by the proxy")
	}
	l := startLoad(t, []string{up.ready.Kafka[0], second.ready.Kafka[0]}, 10*time.Millisecond, 3, "goes-on")
	x := l.topic("goes-on")
	x.goesOn(t, "at first", patience)

	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"while the controller gets no answers", func() { proxy.Stall(testkit.Both) }},
		{"while the controller is refused", proxy.Cut},
	} {
		fault.do()
		const blind = "most gateways reach it, this process does not"
		eventually(t, patience, "the controller's process says what it does not reach "+fault.name, func() bool {
			c := cut.cluster("east")
			return c.Health == "up" && strings.Contains(c.Detail, blind)
		})
		eventually(t, patience, "the gateway's process says that it reaches it "+fault.name, func() bool {
			c := up.cluster("east")
			return c.Health == "up" && !strings.Contains(c.Detail, blind)
		})
		x.goesOn(t, fault.name, patience)
		// Both take longer than a gateway's vote and its damping would.
		if why := move("goes-on", "a", "failed"); !strings.Contains(why, "cannot be read") {
			t.Errorf("%s: a move off the cluster is refused with %q", fault.name, why)
		}
		if why := move("away", "east", "failed"); !strings.Contains(why, "east does not answer") {
			t.Errorf("%s: a move onto the cluster is refused with %q", fault.name, why)
		}
		x.goesOn(t, "after moves were refused "+fault.name, patience)
		s, err := cut.admin.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Clusters {
			if c.Name == "east" && (c.State != "active" || c.Health != "up") {
				t.Errorf("%s: cluster east is %s and %s", fault.name, c.State, c.Health)
			}
		}
		if at := up.openOn("goes-on"); len(at) != 1 || at[0] != "east" {
			t.Errorf("%s: the topic is on %v", fault.name, at)
		}
		if s.Controller != leader {
			t.Fatalf("%s: %s leads, which is not cut off: nothing was tried", fault.name, s.Controller)
		}
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
		eventually(t, patience, "the controller's process reaches the cluster again", func() bool {
			c := cut.cluster("east")
			return c.Health == "up" && !strings.Contains(c.Detail, blind)
		})
		move("goes-on", "a", "done")
		move("goes-on", "east", "done")
		x.goesOn(t, "after it was healed", patience)
	}
	ops, err := up.admin.Ops(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if op.Kind != "move" {
			t.Errorf("%s %s was decided: %s", op.Kind, op.ID, op.Message)
		}
	}
	if n := l.drops.Load(); n > 0 {
		t.Errorf("the client lost %d connections to the gateways", n)
	}
	up.noStrays(t.Context(), "goes-on", map[string]*testkit.Cluster{"east": east})
	r := l.end(2 * time.Minute)["goes-on"]
	t.Logf("\n%s", r)
	if !r.OK() || !r.Complete() {
		t.Error("the history is not clean")
	}
}
