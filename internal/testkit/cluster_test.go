package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func roundTrip(t *testing.T, c *Cluster, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cl := c.Client(t, kgo.ConsumeTopics(topic), kgo.DefaultProduceTopic(topic))
	want := fmt.Sprint(time.Now().UnixNano())
	if err := cl.ProduceSync(ctx, kgo.StringRecord(want)).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
	for {
		f := cl.PollFetches(ctx)
		if err := f.Err0(); err != nil {
			t.Fatalf("consume: %v", err)
		}
		for _, r := range f.Records() {
			if string(r.Value) == want {
				return
			}
		}
	}
}

func TestVersions(t *testing.T) {
	for _, v := range []string{Kafka43, Kafka39} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			// Small segments, so that a cut reaches over one.
			c := Kafka(t, Version(v), Property("log.segment.bytes", "1048576"))
			t.Logf("ready in %s", time.Since(start))
			c.CreateTopic(t, "events", 2, "max.message.bytes", "1000")
			roundTrip(t, c, "events")
			cutLog(t, c)
		})
	}
}

func TestKillPauseRestart(t *testing.T) {
	t.Parallel()
	c := Kafka(t)
	c.CreateTopic(t, "events", 1)
	roundTrip(t, c, "events")
	n := c.Node(1)
	addr, pid := n.Addr(), n.Pid()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if n.Pid() != 0 {
		t.Fatal("a killed node has a pid")
	}
	if err := n.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n.Addr() != addr || n.Pid() == pid || n.Pid() == 0 {
		t.Fatalf("restarted as %s pid %d, was %s pid %d", n.Addr(), n.Pid(), addr, pid)
	}
	roundTrip(t, c, "events")

	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := c.Client(t).Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a paused node answered, or refused: %v", err)
	}
	if err := n.Resume(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "events")
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "events")
}

func TestThreeNodes(t *testing.T) {
	t.Parallel()
	start := time.Now()
	c := Kafka(t, Nodes(3))
	t.Logf("ready in %s", time.Since(start))
	c.CreateTopic(t, "events", 3)
	roundTrip(t, c, "events")
	if err := c.Node(2).Kill(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c, "events")
	if err := c.Node(2).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("restarted in %s", time.Since(start))
	roundTrip(t, c, "events")
	uncleanElection(t, c)
	if c.Node(4) != nil || len(c.Nodes()) != 3 {
		t.Fatal("wrong nodes")
	}
}

func TestBadPropertyIsReported(t *testing.T) {
	before := liveNodes.Load()
	_, err := StartKafka(t.Context(), t.TempDir(), Property("log.segment.bytes", "many"))
	if err == nil {
		t.Fatal("a cluster with a bad property started")
	}
	t.Log(err)
	if n := liveNodes.Load(); n != before {
		t.Fatalf("%d nodes counted live, %d before", n, before)
	}
}

func TestNotInstalled(t *testing.T) {
	t.Setenv("BRAID_CACHE", t.TempDir())
	_, err := StartKafka(t.Context(), t.TempDir())
	if !errors.Is(err, ErrNotInstalled) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(os.Getenv("BRAID_CACHE")); err != nil {
		t.Fatal(err)
	}
}
