package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/testkit"
)

// TestDeletedKeyStaysDeleted: a key is written, the topic moves, the key is deleted, the
// brokers compact. The tombstone lies in a later span than the value that it deletes, so
// it must outlive that span, whatever delete.retention.ms says.
func TestDeletedKeyStaysDeleted(t *testing.T) {
	east := testkit.Kafka(t, testkit.Property("log.cleaner.backoff.ms", "100"), testkit.Property("log.cleaner.min.cleanable.ratio", "0.01"))
	up := startUp(t)
	up.addCluster("east", east)
	up.must("topic", "create", "table", "--partitions", "1", "--cluster", "a", "--config", "cleanup.policy=compact",
		"--config", "delete.retention.ms=100", "--config", "segment.ms=1000", "--config", "min.cleanable.dirty.ratio=0.01")
	cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	put := func(key string, value []byte) {
		t.Helper()
		rec := &kgo.Record{Topic: "table", Key: []byte(key), Value: value}
		if err := cl.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	put("kept", []byte("1"))
	put("deleted", []byte("1"))
	if op, err := up.move(t.Context(), "east", "table"); err != nil || op.State != "done" {
		t.Fatalf("move: %v, %+v", err, op)
	}
	open := up.topic("table").Partitions[0].Spans[1].Copies[0]
	put("deleted", nil)
	// The cleaner leaves the active segment alone, and cleans what is worth it: new
	// values of one key come until the old ones of that key are gone.
	adm := kadm.NewClient(east.Client(t))
	n := 0
	direct := func() (records int, tombstone bool) {
		t.Helper()
		ends, err := adm.ListEndOffsets(t.Context(), open.Topic)
		if err != nil {
			t.Fatal(err)
		}
		end, _ := ends.Lookup(open.Topic, 0)
		reader := east.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{open.Topic: {0: kgo.NewOffset().AtStart()}}))
		defer reader.Close()
		for last := int64(-1); last < end.Offset-1; {
			fetches := reader.PollFetches(t.Context())
			if t.Context().Err() != nil {
				t.Fatal("the cluster was not read to its end")
			}
			fetches.EachRecord(func(r *kgo.Record) {
				last = r.Offset
				records++
				tombstone = tombstone || string(r.Key) == "deleted" && r.Value == nil
			})
		}
		return records, tombstone
	}
	compacted := 0
	eventually(t, patience, "the brokers compact twice", func() bool {
		for range 10 {
			put("busy", fmt.Appendf(nil, "%d", n))
			n++
		}
		if records, _ := direct(); records < n/2 {
			compacted++
		}
		return compacted >= 2
	})
	records, tombstone := direct()
	t.Logf("%s: %d values were written, %d records are left, the tombstone among them: %v", filepath.Base(open.Topic), n, records, tombstone)
	if !tombstone {
		t.Error("the tombstone is gone though the span before holds the value")
	}

	reader, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"table": {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	state := map[string]string{}
	want := fmt.Sprint(n - 1)
	for state["busy"] != want {
		fetches := reader.PollFetches(t.Context())
		if t.Context().Err() != nil {
			t.Fatal("the topic was not read to its end")
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Value == nil {
				delete(state, string(r.Key))
			} else {
				state[string(r.Key)] = string(r.Value)
			}
		})
	}
	if _, back := state["deleted"]; back || state["kept"] != "1" {
		t.Errorf("read from 0 the table is %v", state)
	}
}
