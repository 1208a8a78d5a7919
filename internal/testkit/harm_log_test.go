package testkit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func produceN(t *testing.T, c *Cluster, topic string, from, n int, opts ...kgo.Opt) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cl := c.Client(t, append(opts, kgo.DefaultProduceTopic(topic))...)
	for i := range n {
		// One by one, so that each is a batch of its own.
		if err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf("%04d", from+i))).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

func end(t *testing.T, c *Cluster, topic string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	adm, offset := kadm.NewClient(c.Client(t)), int64(-1)
	// Who was just elected, or started, may not know it yet.
	err := poll(ctx, func() error {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err == nil {
			offset = ends[topic][0].Offset
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

// cutLog is part of TestVersions: both versions read what is left in their own way.
func cutLog(t *testing.T, c *Cluster) {
	c.CreateTopic(t, "kept", 1)
	c.CreateTopic(t, "cut", 1)
	for _, topic := range []string{"kept", "cut"} {
		if err := produceN(t, c, topic, 0, 20); err != nil {
			t.Fatal(err)
		}
	}
	n := c.Node(1)
	if err := n.CutLog("cut", 0, 1); err == nil {
		t.Fatal("cut the log of a node that runs")
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := n.CutLog("cut", 0, 0); err == nil {
		t.Fatal("cut nothing")
	}
	if err := n.CutLog("none", 0, 1); err == nil {
		t.Fatal("cut a log that is not there")
	}
	// One byte spoils one batch.
	if err := n.CutLog("cut", 0, 1); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := end(t, c, "cut"); e != 19 {
		t.Fatalf("the log ends at %d", e)
	}
	if e := end(t, c, "kept"); e != 20 {
		t.Fatalf("the other log ends at %d", e)
	}
	if err := produceN(t, c, "cut", 100, 3); err != nil {
		t.Fatal(err)
	}
	if e := end(t, c, "cut"); e != 22 {
		t.Fatalf("the log ends at %d", e)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.CutLog("cut", 0, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := end(t, c, "cut"); e != 0 {
		t.Fatalf("the emptied log ends at %d", e)
	}
}

// uncleanElection is part of TestThreeNodes.
func uncleanElection(t *testing.T, c *Cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	inSync := "1"
	_, err := kadm.NewClient(c.Client(t)).CreateTopic(ctx, 1, 2, map[string]*string{"min.insync.replicas": &inSync}, "unclean")
	if err != nil {
		t.Fatal(err)
	}
	if err := produceN(t, c, "unclean", 0, 10); err != nil {
		t.Fatal(err)
	}
	err = c.UncleanElection(ctx, "unclean", 0, func() error {
		if err := produceN(t, c, "unclean", 10, 5); err != nil {
			return err
		}
		if e := end(t, c, "unclean"); e != 15 {
			return fmt.Errorf("the log ends at %d", e)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := end(t, c, "unclean"); e != 10 {
		t.Fatalf("the log ends at %d: nothing was lost", e)
	}
}
