package main

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/testkit"
)

// TestLogThatWentBack cuts the end of a physical log, as a lost page cache does, and on
// three nodes by an unclean election. The chain goes on past the lost range and names it;
// producers go on, and no offset is used twice.
func TestLogThatWentBack(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		east := testkit.Kafka(t)
		up := startUp(t)
		up.addCluster("east", east)
		up.must("topic", "create", "cut", "--partitions", "1", "--cluster", "east")
		physical := up.topic("cut").Partitions[0].Spans[0].Copies[0].Topic
		up.goesBack(t, "cut", 0, func() error {
			n := east.Node(1)
			if err := n.Kill(); err != nil {
				return err
			}
			if err := n.CutLog(physical, 0, 1000); err != nil {
				return err
			}
			return n.Start(t.Context())
		})
	})
	t.Run("unclean election", func(t *testing.T) {
		east := testkit.Kafka(t, testkit.Nodes(3), testkit.Property("default.replication.factor", "2"), testkit.Property("min.insync.replicas", "1"))
		// While the one that lacks records starts, two of three are down: for as long as a slow
		// machine needs that is no failure of the cluster here.
		up := startUp(t, "--set", "braid.failure.detection.ms=120000")
		up.addCluster("east", east)
		up.must("topic", "create", "unclean", "--partitions", "1", "--cluster", "east")
		// One broker of three that dies is no reason to leave the cluster.
		up.must("topic", "create", "available", "--partitions", "2", "--cluster", "east", "--config", "braid.guarantee=available")
		physical := up.topic("unclean").Partitions[0].Spans[0].Copies[0].Topic
		adm := kadm.NewClient(east.Client(t))
		up.goesBack(t, "unclean", 20, func() error {
			details, err := adm.ListTopics(t.Context(), physical)
			if err != nil {
				return err
			}
			t.Logf("replicas %v", details[physical].Partitions[0].Replicas)
			return east.UncleanElection(t.Context(), physical, 0, func() error {
				up.produce("unclean", strings.Fields(strings.Repeat("lost ", 20))...)
				return nil
			})
		})
		if at := up.openOn("available"); at[0] != "east" {
			t.Errorf("a topic was failed over though one broker of three died: it is on %v", at)
		}
		if c := up.cluster("east"); c.State != "active" {
			t.Errorf("cluster east is %s", c.State)
		}
	})
}

// goesBack appends, makes the physical log go back by what was appended last, and checks
// what the chain makes of it. More is how many records the loss itself appends.
func (r *running) goesBack(t *testing.T, topic string, more int64, lose func() error) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	values := map[int64]string{}
	one := func(value string) int64 {
		t.Helper()
		rec := &kgo.Record{Topic: topic, Value: []byte(value)}
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatalf("append %q: %v", value, err)
		}
		if was, used := values[rec.Offset]; used {
			t.Errorf("offset %d was %q and is now %q", rec.Offset, was, value)
		}
		values[rec.Offset] = value
		return rec.Offset
	}
	var last int64
	for range 50 {
		last = one("before")
	}
	if err := lose(); err != nil {
		t.Fatal(err)
	}
	last += more
	next := one("after")
	if next <= last {
		t.Errorf("the append after the loss is at %d: %d was acknowledged before", next, last)
	}
	for range 5 {
		one("after")
	}
	eventually(t, patience, "a certificate names the lost range", func() bool {
		for _, c := range r.topic(topic).Certificates {
			for _, p := range c.Partitions {
				for _, x := range p.Ranges {
					if x.To > last && counted(p.Lost) > 0 && c.Verdict != "verified" {
						t.Logf("certificate: %s %s, range [%d, %d) %s %s, %d lost", c.Kind, c.Verdict, x.From, x.To, x.What, x.Note, counted(p.Lost))
						return true
					}
				}
			}
		}
		return false
	})
	// Readers get past the hole, and find what is there where it was acknowledged.
	reader, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	found := 0
	for end := false; !end; {
		fetches := reader.PollFetches(t.Context())
		if t.Context().Err() != nil {
			t.Fatal("the reader did not get to the end")
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if v, ok := values[rec.Offset]; ok && v != string(rec.Value) {
				t.Errorf("offset %d: acknowledged %q, read %q", rec.Offset, v, rec.Value)
			}
			found++
			end = end || rec.Offset >= next+5
		})
	}
	t.Logf("%d records were acknowledged up to %d, %d are there; the first after the loss is at %d", len(values), last, found, next)
	if found >= len(values)+int(more) {
		t.Error("nothing was lost: the test shows nothing")
	}
}
