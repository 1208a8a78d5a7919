package main

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

// TestNobodyLooksAway puts a saboteur between the gateway and a Kafka cluster, who drops,
// doubles or swaps an acknowledged record. `braid verify` names it and fails, and the
// certificate of a move does not call the topic verified.
func TestNobodyLooksAway(t *testing.T) {
	east := testkit.Kafka(t)
	saboteur := testkit.NewSaboteur(t, east.Addrs()[0])
	// A gateway serves what it appended itself from its cache, where no harm was done: the
	// cache is small, and what verify appends is larger.
	up := startUp(t, "--set", "braid.cache.bytes=1048576")
	up.must("cluster", "add", "east", "--bootstrap", saboteur.Addr())
	deeds := 0
	for _, tc := range []struct {
		harm  testkit.Harm
		named func(r verify.Report) verify.Anomaly
	}{
		{testkit.Drop, func(r verify.Report) verify.Anomaly { return r.Lost }},
		{testkit.Double, func(r verify.Report) verify.Anomaly { return r.Duplicated }},
		{testkit.Swap, func(r verify.Report) verify.Anomaly { return r.Reordered }},
	} {
		t.Run(string(tc.harm), func(t *testing.T) {
			topic := "harmed-" + string(tc.harm)
			up.must("topic", "create", topic, "--partitions", "1", "--cluster", "east")
			physical := up.topic(topic).Partitions[0].Spans[0].Copies[0].Topic
			done := func() testkit.Deed {
				t.Helper()
				deeds++
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				list, err := saboteur.Wait(ctx, deeds)
				if err != nil {
					t.Fatalf("the harm was not done: %v", err)
				}
				return list[deeds-1]
			}
			saboteur.Harm(tc.harm, physical, 0)
			out, errs, code := up.run("verify", "--topic", topic, "--duration", "2s", "--rate", "1000", "--record-size", "2000", "--consumers", "0", "--group-consumers", "0", "-o", "json")
			deed := done()
			var report verify.Report
			if err := json.Unmarshal([]byte(out), &report); err != nil {
				t.Fatalf("%v: %s%s", err, out, errs)
			}
			if a := tc.named(report); code != exitFailed || a.Count == 0 || len(a.Examples) == 0 {
				t.Errorf("verify: exit %d after %+v:\n%s", code, deed, &report)
			}

			// Once more near the end, where the certificate looks: the rest it says it has not read.
			saboteur.Harm(tc.harm, physical, 0)
			up.produceBatch(topic, 5)
			deed = done()
			up.produceBatch(topic, 5)
			op, err := up.move(t.Context(), "a", topic)
			if err != nil || op.State != "done" || len(op.Certificates) != 1 {
				t.Fatalf("move: %v, %+v", err, op)
			}
			cert := op.Certificates[0]
			p := cert.Partitions[0]
			t.Logf("certificate after %s: %s, lost %d, duplicated %d, reordered %d, checked %q", tc.harm, cert.Verdict, p.Lost, p.Duplicated, p.Reordered, p.Checked)
			if cert.Verdict == "verified" || p.Lost+p.Duplicated+p.Reordered == 0 && p.Verdict != "unverified" || len(p.Checked) == 0 {
				t.Errorf("after %+v the certificate says %+v", deed, cert)
			}
		})
	}
}

// produceBatch appends so many records in one batch.
func (r *running) produceBatch(topic string, n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ManualFlushing())
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Value: fmt.Appendf(nil, "record %d of a batch", i)}, func(_ *kgo.Record, err error) {
			if err != nil {
				r.t.Error(err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		r.t.Fatal(err)
	}
}
