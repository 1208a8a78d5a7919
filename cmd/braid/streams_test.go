package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/clients"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// TestKafkaStreams: an application of Kafka Streams counts words exactly once, over repartition and
// changelog topics, while its topics move between two clusters and a gateway
// is killed. Each word's counts arrive as 1, 2, 3 … up to how often it was written: none is
// missing, none comes twice. The long run does it on local clusters, and on two of Apache Kafka.
func TestKafkaStreams(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		return // the race detector learns nothing of a JVM
	}
	t.Run("local", func(t *testing.T) {
		countsWords(t, startUp(t, "--set", "group.initial.rebalance.delay.ms=0"), "a", "b")
	})
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	t.Run("kafka", func(t *testing.T) {
		up := startUp(t, "--local-clusters", "a", "--set", "group.initial.rebalance.delay.ms=0")
		for _, name := range []string{"east", "west"} {
			up.addCluster(name, testkit.Kafka(t))
		}
		// Topics that the application makes lie on Kafka too.
		up.must("cluster", "drain", "a")
		countsWords(t, up, "east", "west")
	})
}

// countsWords runs the application on topics of two clusters.
func countsWords(t *testing.T, up *running, one, other string) {
	second := up.gateway("--set", "group.initial.rebalance.delay.ms=0")
	bootstrap := []string{up.ready.Kafka[0], second.ready.Kafka[0]}
	up.must("topic", "create", "lines", "--partitions", "2", "--cluster", one)
	up.must("topic", "create", "counted", "--partitions", "2", "--cluster", other)
	lines := 300
	if os.Getenv("BRAID_SOAK") != "" {
		lines = 10_000
	}
	const words = 7
	want := map[string]int{}
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.DefaultProduceTopic("lines"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	write := func(from, to int) {
		t.Helper()
		var records []*kgo.Record
		for i := from; i < to; i++ {
			a, b := fmt.Sprint("word", i%words), fmt.Sprint("other", i*i%words)
			want[a]++
			want[b]++
			records = append(records, kgo.StringRecord(a+" "+b))
		}
		if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	app := clients.StartStreams(t, bootstrap, "wordcount", "lines", "counted", t.TempDir())
	counts, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.ConsumeTopics("counted"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(250*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(counts.Close)
	got := map[string]int{}
	// arrived reads until the counts are those of what was written.
	arrived := func(what string) {
		t.Helper()
		eventually(t, 4*time.Minute, "all is counted "+what, func() bool {
			select {
			case <-app.Exited():
				t.Fatal("the application has ended")
			default:
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			counts.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				n, err := strconv.Atoi(string(r.Value))
				if err != nil || n != got[string(r.Key)]+1 {
					t.Errorf("count %q of %q follows %d", r.Value, r.Key, got[string(r.Key)])
				}
				got[string(r.Key)]++
			})
			for word, n := range want {
				if got[word] < n {
					return t.Failed()
				}
			}
			return true
		})
	}
	write(0, lines/3)
	arrived("at first")
	write(lines/3, 2*lines/3)
	topics, err := up.admin.Topics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	to := map[string][]string{}
	for i := range topics {
		if len(topics[i].Clusters) == 1 {
			target := one
			if topics[i].Clusters[0] == one {
				target = other
			}
			to[target] = append(to[target], topics[i].Name)
		}
	}
	if len(topics) < 4 {
		t.Errorf("%d topics, there should be a repartition topic and a changelog too", len(topics))
	}
	for target, names := range to {
		op, err := up.move(t.Context(), target, names...)
		if err != nil {
			t.Fatal(err)
		}
		if op.State != "done" {
			t.Errorf("move of %v to %s: %s: %s", names, target, op.State, op.Message)
		}
	}
	second.kill()
	second.start()
	write(2*lines/3, lines)
	arrived("at the end")
	if len(got) != len(want) {
		t.Errorf("%d words, want %d", len(got), len(want))
	}
	if !t.Failed() {
		summary.Line(t, "Kafka Streams on %s and %s: %d lines are counted exactly once, through moves and the kill of a gateway", one, other, lines)
	}
}
