package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
)

// groupsOfLost are two consumer groups that stand at 100 of 1,000 records when their topic's cluster is
// lost. One reads on, the other waits.
type groupsOfLost struct {
	r     *running
	topic string
	admin *kadm.Client
	next  int64 // where what was appended since begins
	over  bool
}

const stoodAt, wasLong = 100, 1000

func (r *running) groupsOf(topic string) *groupsOfLost {
	r.t.Helper()
	g := &groupsOfLost{r: r, topic: topic}
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	g.admin = kadm.NewClient(cl)
	g.produce(wasLong)
	for _, group := range []string{"reads-on", "waits"} {
		g.commit(group, stoodAt)
	}
	return g
}

// produce appends records and gives the offset of the first.
func (g *groupsOfLost) produce(n int) int64 {
	g.r.t.Helper()
	ctx, cancel := context.WithTimeout(g.r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		g.r.t.Fatal(err)
	}
	defer cl.Close()
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Topic: g.topic, Value: fmt.Append(nil, i)}
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		g.r.t.Fatal(err)
	}
	return records[0].Offset
}

func (g *groupsOfLost) commit(group string, offset int64) {
	g.r.t.Helper()
	offsets := kadm.Offsets{}
	offsets.AddOffset(g.topic, 0, offset, -1)
	eventually(g.r.t, patience, "group "+group+" commits", func() bool {
		ctx, cancel := context.WithTimeout(g.r.t.Context(), patience)
		defer cancel()
		resp, err := g.admin.CommitOffsets(ctx, group, offsets)
		return err == nil && resp.Error() == nil
	})
}

// reads gives the offset of the first record that a group's consumer gets.
func (g *groupsOfLost) reads(group string) int64 {
	g.r.t.Helper()
	ctx, cancel := context.WithTimeout(g.r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.r.ready.Kafka...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(g.topic), kgo.DisableAutoCommit())
	if err != nil {
		g.r.t.Fatal(err)
	}
	defer cl.Close()
	for ctx.Err() == nil {
		if got := cl.PollFetches(ctx).Records(); len(got) > 0 {
			if got[0].Partition == 0 {
				return got[0].Offset
			}
		}
	}
	g.r.t.Fatalf("group %s gets no record", group)
	return -1
}

// certified waits for a certificate of a kind and gives what it says of partition 0's groups.
func (g *groupsOfLost) certified(kind string, ready func(api.Certificate) bool) map[string]api.CertifiedGroup {
	g.r.t.Helper()
	var found api.Certificate
	eventually(g.r.t, patience, "certificate of the "+kind, func() bool {
		for _, c := range g.r.topic(g.topic).Certificates {
			if c.Kind == kind && ready(c) {
				found = c
				return true
			}
		}
		return false
	})
	if found.GroupsAsked == nil {
		g.r.t.Errorf("the certificate of the %s does not say whether it knows all groups", kind)
	} else {
		g.r.t.Logf("the certificate of the %s knows of groups: %+v", kind, *found.GroupsAsked)
	}
	out := map[string]api.CertifiedGroup{}
	for _, p := range found.Partitions {
		for _, x := range p.Groups {
			if p.Partition == 0 {
				out[x.Group] = x
			}
		}
	}
	return out
}

// away looks at the certificate while the cluster is away, and has one group read on.
func (g *groupsOfLost) away() {
	g.r.t.Helper()
	g.next = g.produce(10)
	waits := api.CertifiedGroup{Committed: stoodAt, From: stoodAt, To: wasLong, Records: wasLong - stoodAt, What: "waits"}
	// Coordinators that a busy machine kept from answering in time are asked again a little later.
	got := g.certified("failover", func(c api.Certificate) bool {
		n := 0
		for _, p := range c.Partitions {
			n += len(p.Groups)
		}
		return n == 2
	})
	for _, group := range []string{"reads-on", "waits"} {
		want := waits
		if want.Group = group; got[group] != want {
			g.r.t.Errorf("while the cluster is away: %+v, want %+v", got[group], want)
		}
	}
	if first := g.reads("reads-on"); first != g.next {
		g.r.t.Errorf("the group that reads on gets offset %d first, want %d", first, g.next)
	}
	g.commit("reads-on", g.next+10)
}

// back looks at the certificates when the cluster is back, and takes the way back that they name.
func (g *groupsOfLost) back() {
	t := g.r.t
	t.Helper()
	g.over = true
	g.r.tookIn("east", g.topic)
	for kind, ready := range map[string]func(api.Certificate) bool{
		"return":   func(api.Certificate) bool { return true },
		"failover": func(c api.Certificate) bool { return c.Return != "" },
	} {
		got := g.certified(kind, ready)
		x := got["reads-on"]
		if x.What != "skipped" || x.Committed != stoodAt || x.From != stoodAt || x.To != wasLong || x.Records != wasLong-stoodAt || x.Now == nil || *x.Now != g.next+10 {
			t.Errorf("certificate of the %s: %+v", kind, x)
		}
		if x, ok := got["waits"]; ok {
			t.Errorf("certificate of the %s: the group that waits has skipped nothing: %+v", kind, x)
		}
	}
	if text := g.r.must("topic", "describe", g.topic); !strings.Contains(text, fmt.Sprintf("--group reads-on --topic %s:0 --reset-offsets --to-offset %d --execute", g.topic, stoodAt)) {
		t.Errorf("the way back is not named:\n%s", text)
	}
	if first := g.reads("waits"); first != stoodAt {
		t.Errorf("the group that waited gets offset %d first, want %d", first, stoodAt)
	}
	g.commit("reads-on", stoodAt)
	if first := g.reads("reads-on"); first != stoodAt {
		t.Errorf("the group that went back gets offset %d first, want %d", first, stoodAt)
	}
}
