package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
)

// TestReturnOfWhatRealKafkaRefuses loses a real Kafka with records that the topic, on another real Kafka by
// then, does not take any more. The return ends all the same, with all that can be appended anew or read in place, and with the
// rest named. It is for the long run.
func TestReturnOfWhatRealKafkaRefuses(t *testing.T) {
	if os.Getenv("BRAID_SOAK") == "" {
		return
	}
	east, west := startSite(t, "east"), startSite(t, "west")
	up := startUp(t, "--local-clusters", "a")
	up.join(east, west)
	up.must("topic", "create", "ballast", "--partitions", "40", "--cluster", "a")
	const name = "narrowed"
	up.must("topic", "create", name, "--partitions", "1", "--cluster", "east", "--config", "braid.guarantee=available")
	client, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	produce := func(value string) {
		t.Helper()
		eventually(t, patience, "the topic takes "+value, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			return client.ProduceSync(ctx, &kgo.Record{Topic: name, Key: []byte("k-" + value), Value: []byte(value)}).FirstErr() == nil
		})
	}
	produce("before")
	key, old := []byte("k"), time.Now().Add(-48*time.Hour)
	large := strings.Repeat("x", 300_000)
	var halved []*kgo.Record
	for i := range 6 {
		halved = append(halved, &kgo.Record{Key: fmt.Appendf(nil, "h%d", i), Value: fmt.Appendf(nil, "halved%d %s", i, large[:60_000])})
	}
	up.strandBatches(east, name, [][]*kgo.Record{
		halved,
		{{Key: []byte("l"), Value: []byte("large " + large)}},
		{{Key: []byte("o1"), Value: []byte("old1"), Timestamp: old}, {Key: []byte("o2"), Value: []byte("old2"), Timestamp: old}},
		{{Key: key, Value: []byte("mixed1")}, {Value: []byte("keyless")}, {Key: []byte("k2"), Value: []byte("mixed2")}},
		{{Value: []byte("alone")}},
		{{Key: []byte("k3"), Value: []byte("last")}},
	})
	up.vanish(east)
	eventually(t, patience, "the topic leaves east", func() bool { return !slices.Contains(up.openOn(name), "east") })
	produce("meanwhile")
	set := func(k, v string) kadm.AlterConfig { return kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v} }
	answers, err := kadm.NewClient(client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{set("max.message.bytes", "200000"),
		set("cleanup.policy", "compact"), set("message.timestamp.before.max.ms", "3600000")}, name)
	if err != nil || answers[0].Err != nil {
		t.Fatal(err, answers)
	}
	on := up.openOn(name)[0]
	t.Logf("open on %s", on)
	if on == "west" {
		eventually(t, patience, "west has the configs", func() bool {
			list, err := west.direct.DescribeTopicConfigs(t.Context(), up.physicalNames(west, name)...)
			return err == nil && slices.ContainsFunc(list, func(c kadm.ResourceConfig) bool {
				return slices.ContainsFunc(c.Configs, func(c kadm.Config) bool {
					return c.Key == "cleanup.policy" && c.Value != nil && *c.Value == "compact"
				})
			})
		})
	}
	up.giveBack(east)
	up.tookIn("east", name)
	produce("end")
	got := map[string]int{}
	at, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for got["end"] == 0 {
		fetches := at.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("not read to the end: %v", got)
		}
		fetches.EachRecord(func(r *kgo.Record) { got[strings.Fields(string(r.Value))[0]]++ })
	}
	for _, want := range []string{"before", "halved0", "halved1", "halved2", "halved3", "halved4", "halved5", "large", "old1", "old2", "mixed1", "mixed2", "alone", "last", "meanwhile", "end"} {
		if got[want] != 1 {
			t.Errorf("%s is there %d times", want, got[want])
		}
	}
	if got["keyless"] != 0 {
		t.Errorf("keyless is there %d times", got["keyless"])
	}
	var said []string
	for _, c := range up.certified(name) {
		if c.Kind == "return" {
			for _, p := range c.Partitions {
				said = append(said, fmt.Sprintf("%+v", p))
				if !slices.ContainsFunc(p.Ranges, func(r api.Range) bool { return r.What == "left out" && strings.Contains(r.Note, "INVALID_RECORD") }) {
					t.Errorf("what is left out is not named: %+v", p.Ranges)
				}
			}
		}
	}
	t.Logf("%s", strings.Join(said, "\n"))
}

// physicalNames are the topics on a site that a topic has.
func (r *running) physicalNames(s *site, name string) (out []string) {
	r.t.Helper()
	for _, p := range r.topic(name).Partitions {
		for _, sp := range p.Spans {
			for _, c := range sp.Copies {
				if c.Cluster == s.name && !slices.Contains(out, c.Topic) {
					out = append(out, c.Topic)
				}
			}
		}
	}
	return out
}

// strandBatches has a site hold batches of a topic's partition 0 that no gateway knows of: they come past the fleet.
func (r *running) strandBatches(s *site, name string, batches [][]*kgo.Record) {
	r.t.Helper()
	physical := r.physicalNames(s, name)[0]
	direct := s.kafka.Client(r.t, kgo.DisableIdempotentWrite(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ManualFlushing(), kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, s.kafka.Addrs()[0])
		}))
	for _, list := range batches {
		for _, rec := range list {
			own := *rec
			own.Topic = physical
			direct.Produce(r.t.Context(), &own, func(_ *kgo.Record, err error) {
				if err != nil {
					r.t.Errorf("strand a record: %v", err)
				}
			})
		}
		if err := direct.Flush(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}
