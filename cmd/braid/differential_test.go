package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/summary"
)

// TestAdminDifferential sends the same random admin requests to Apache Kafka and
// to Braid on the local engine, and compares the answers, error codes included.
//
// What is normalised: error messages, topic ids, leader epochs, broker ids and
// addresses, throttle times, the order of lists; of configs, Braid's own and
// those that Kafka's broker sets dynamically (min.insync.replicas). What is left
// out: replica assignments and other brokers' resources, which Braid refuses by
// design (docs/kafka-api.md), and operations that Kafka does not know, to which
// it says UNKNOWN_SERVER_ERROR. A broker of Kafka learns of a change some time
// after the controller has answered: what only reads is asked again for a while.
func TestAdminDifferential(t *testing.T) {
	kafka := testkit.Shared(t)
	up := startUp(t, "--local-clusters", "a", "--set", "auto.create.topics.enable=false")
	open := func(seeds ...string) *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.MetadataMinAge(50*time.Millisecond), kgo.UnknownTopicRetries(-1), kgo.RequestTimeoutOverhead(patience))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	d := &adminDiff{t: t, kafka: open(kafka.Addrs()...), braid: open(up.ready.Kafka...)}
	seeds := uint64(4)
	if os.Getenv("BRAID_SOAK") != "" {
		seeds = 100
	}
	for seed := range seeds {
		d.sequence(seed, 60)
	}
	summary.Line(t, "admin requests to Braid and to Apache Kafka: %d were answered alike, %d not", d.alike, d.different)
}

// adminDiff is a comparison under way.
type adminDiff struct {
	t            *testing.T
	kafka, braid *kgo.Client
	rng          *rand.Rand
	names        []string
	alike        int
	different    int
}

// question is a request and how its answer is shown.
type question struct {
	what  string
	req   kmsg.Request
	show  func(kmsg.Response) string
	reads bool // may be asked again
}

func (d *adminDiff) sequence(seed uint64, steps int) {
	d.rng = rand.New(rand.NewPCG(seed, 5))
	d.names = nil
	for i := range 4 {
		d.names = append(d.names, fmt.Sprintf("diff-%d-%d", seed, i))
	}
	kinds := []func() question{d.create, d.create, d.remove, d.grow, d.describe, d.describe, d.alter, d.alter, d.replace,
		d.group, d.offsets, d.offsets, d.trim, d.metadata, d.pages, d.elect, d.reassign, d.dirs, d.resources, d.epoch}
	for range steps {
		if d.rng.IntN(6) == 0 {
			d.produce()
			continue
		}
		a := kinds[d.rng.IntN(len(kinds))]()
		deadline := time.Now().Add(patience)
		for {
			ours, theirs := d.send(d.braid, a), d.send(d.kafka, a)
			if ours == theirs {
				d.alike++
				break
			}
			if !a.reads || time.Now().After(deadline) {
				d.t.Errorf("seed %d: %s\nbraid: %s\nkafka: %s", seed, a.what, ours, theirs)
				if d.different++; d.different > 15 {
					d.t.Fatal("too many differences")
				}
				break
			}
			select {
			case <-d.t.Context().Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

func (d *adminDiff) send(cl *kgo.Client, a question) string {
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	// To one broker as it is: the client would split requests and try again.
	resp, err := cl.SeedBrokers()[0].Request(ctx, a.req)
	if err != nil {
		d.t.Fatalf("%s: %v", a.what, err)
	}
	return a.show(resp)
}

// produce appends the same records to a topic that both have.
func (d *adminDiff) produce() {
	topic := d.names[d.rng.IntN(len(d.names))]
	md := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	md.Topics = append(md.Topics, rt)
	resp, err := md.RequestWith(d.t.Context(), d.braid)
	if err != nil {
		d.t.Fatal(err)
	}
	if resp.Topics[0].ErrorCode != 0 {
		return
	}
	p := d.rng.IntN(len(resp.Topics[0].Partitions))
	// The third is too far ahead for some topics' message.timestamp.after.max.ms, however late both are asked.
	now := time.Now()
	ahead := []time.Duration{0, time.Second, 30 * time.Minute}
	for i := range 1 + d.rng.IntN(3) {
		for _, cl := range []*kgo.Client{d.braid, d.kafka} {
			ctx, cancel := context.WithTimeout(d.t.Context(), patience)
			r := &kgo.Record{Topic: topic, Partition: int32(p), Key: []byte("k"), Value: fmt.Append(nil, i), Timestamp: now.Add(ahead[i])}
			err := cl.ProduceSync(ctx, r).FirstErr()
			cancel()
			if err != nil {
				d.t.Logf("produce to %s: %v", topic, err) // too small a limit, for instance: on both
			}
		}
	}
}

func (d *adminDiff) topic() string {
	switch d.rng.IntN(12) {
	case 0:
		return "bad name"
	case 1:
		return ""
	case 2:
		return "diff-nowhere"
	}
	return d.names[d.rng.IntN(len(d.names))]
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// setting is a config with a value, mostly a good one.
func (d *adminDiff) setting() (string, *string) {
	all := [][2]string{
		{"retention.ms", "60000"}, {"retention.ms", "-1"}, {"retention.ms", "-2"}, {"retention.ms", "x"}, {"retention.ms", ""},
		{"cleanup.policy", "compact"}, {"cleanup.policy", "compact,delete"}, {"cleanup.policy", "both"}, {"cleanup.policy", "delete"}, {"cleanup.policy", ""}, {"cleanup.policy", "delete, delete"}, {"cleanup.policy", "compact,"},
		{"max.message.bytes", "100000"}, {"max.message.bytes", "-1"}, {"max.message.bytes", "99999999999"},
		{"segment.bytes", "1048576"}, {"segment.bytes", "10"}, {"min.cleanable.dirty.ratio", "0.3"}, {"min.cleanable.dirty.ratio", "1.5"},
		{"message.timestamp.type", "LogAppendTime"}, {"message.timestamp.type", "Wrong"}, {"compression.type", "zstd"}, {"compression.type", "brotli"},
		{"preallocate", "true"}, {"preallocate", "maybe"}, {"unknown.thing", "1"}, {"segment.ms", "0"}, {"segment.ms", "100000"},
		{"compression.zstd.level", "5"}, {"compression.zstd.level", "50"}, {"follower.replication.throttled.replicas", "0:1"},
		{"follower.replication.throttled.replicas", "nope"}, {"remote.storage.enable", "false"}, {"flush.ms", "1000"},
		{"message.timestamp.after.max.ms", "1000"}, {"min.insync.replicas", "0"}, {"index.interval.bytes", "0"}, {"delete.retention.ms", "5"},
		{"max.compaction.lag.ms", "0"}, {"file.delete.delay.ms", "-1"},
	}
	s := all[d.rng.IntN(len(all))]
	if d.rng.IntN(25) == 0 {
		return s[0], nil
	}
	return s[0], &s[1]
}

// comparable tells whether a config is one whose value both sides have alike.
func comparableConfig(name string) bool {
	return !strings.HasPrefix(name, "braid.") && name != "min.insync.replicas"
}

func shownText(s *string) string {
	if s == nil {
		return "null"
	}
	return fmt.Sprintf("%q", *s)
}

func inOrder(lines []string) string {
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}
