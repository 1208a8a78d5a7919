package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
)

// patience is how long tests wait at least for what must happen: on a machine that has
// much else to do.
const patience = 4 * time.Minute

// eventually polls a condition, and fails the test when it does not come true in time,
// which is patience or longer.
func eventually(t testing.TB, most time.Duration, what string, done func() bool) {
	t.Helper()
	most = max(most, patience)
	deadline := time.Now().Add(most)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", most, what)
		}
		<-tick.C
	}
}

// cluster asks for one cluster.
func (r *running) cluster(name string) api.Cluster {
	r.t.Helper()
	c, err := r.admin.Cluster(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// topic asks for one topic.
func (r *running) topic(name string) api.Topic {
	r.t.Helper()
	d, err := r.admin.Topic(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

// openOn lists the clusters that take a topic's appends.
func (r *running) openOn(name string) []string {
	r.t.Helper()
	return strings.Split(openCluster(r.topic(name)), ",")
}

// produce appends values to a topic's partition 0, one by one.
func (r *running) produce(topic string, values ...string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	for _, v := range values {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
			r.t.Fatalf("append %q to %s: %v", v, topic, err)
		}
	}
}
