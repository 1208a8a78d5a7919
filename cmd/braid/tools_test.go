package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/clients/tools"
)

// TestKafkaTools runs Apache Kafka's own command line tools against Braid, and
// holds what they print against what is so.
func TestKafkaTools(t *testing.T) {
	t.Parallel()
	up := startBraid(t, "up", "--data-dir", t.TempDir(), "--http", "127.0.0.1:0", "--catalog-listen", "127.0.0.1:0", "--gateways", "1", "--local-clusters", "a",
		"--listener", "open=127.0.0.1:0", "--listener", "teams=127.0.0.1:0,security=SASL_PLAINTEXT")
	bootstrap := up.ready.Kafka[0]
	up.must("topic", "create", "filled", "--partitions", "2", "--cluster", "a")
	for i := range 10 {
		up.produce("filled", fmt.Sprint("v", i))
	}
	// A group with offsets and no members.
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup("readers"), kgo.ConsumeTopics("filled"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 10; {
		f := cl.PollRecords(t.Context(), 10-n)
		if err := f.Err0(); err != nil {
			t.Fatal(err)
		}
		n += f.NumRecords()
	}
	if err := cl.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	cl.Close()

	// A transaction that is open, of a producer that has committed one before.
	txn, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID("stuck"), kgo.DefaultProduceTopic("pending"),
		kgo.TransactionTimeout(15*time.Minute)) // it is still open when the tools that run before have ended
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Close()
	up.must("topic", "create", "pending", "--partitions", "1", "--cluster", "a")
	for i := range 2 {
		if err := txn.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := txn.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint("pending ", i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := txn.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
		}
	}

	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	node := regexp.QuoteMeta(strconv.Itoa(int(up.nodeID(t, bootstrap))))
	java := tools.Start(t)
	reassignment := file("reassign", `{"version":1,"partitions":[{"topic":"filled","partition":0,"replicas":[`+node+`]}]}`)
	commands := []struct {
		tool string
		args string   // words; --bootstrap-server is added
		code int      // exit code
		want []string // patterns that the output has
	}{
		{"kafka-broker-api-versions", "", 0, []string{`(?s)Produce\(0\): 0 to 13 .*DescribeTopicPartitions\(75\): 0`, `PushTelemetry\(72\): UNSUPPORTED`}},
		{"kafka-cluster", "cluster-id", 0, []string{`Cluster ID: \S+`}},
		{"kafka-cluster", "list-endpoints", 0, []string{node + `\s+127\.0\.0\.1\s+\d+`}},
		{"kafka-metadata-quorum", "describe --status", 0, []string{`LeaderId:\s+` + node, `HighWatermark:\s+[1-9]`}},
		{"kafka-metadata-quorum", "describe --replication", 0, []string{node + `\s.*\sLeader`}},
		{"kafka-features", "describe", 0, nil},

		{"kafka-topics", "--create --topic made --partitions 3 --replication-factor 1 --config retention.ms=60000", 0, []string{`Created topic made\.`}},
		{"kafka-topics", "--create --topic made --partitions 3", 1, []string{`already exists`}},
		{"kafka-topics", "--list", 0, []string{`(?m)^filled$`, `(?m)^made$`}},
		{"kafka-topics", "--describe --topic made", 0, []string{`PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: retention\.ms=60000`, `Partition: 2\s+Leader: ` + node}},
		{"kafka-topics", "--alter --topic made --partitions 5", 0, nil},
		{"kafka-topics", "--describe --topic made", 0, []string{`PartitionCount: 5`, `Partition: 4`}},
		{"kafka-topics", "--alter --topic made --partitions 2", 1, []string{`InvalidPartitionsException|cannot be decreased|fewer|higher`}},
		{"kafka-topics", "--describe --topic nowhere", 1, []string{`does not exist`}},

		{"kafka-configs", "--describe --entity-type topics --entity-name made", 0, []string{`retention\.ms=60000 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:retention\.ms=60000, DEFAULT_CONFIG:log\.retention\.ms=604800000\}`}},
		{"kafka-configs", "--alter --entity-type topics --entity-name made --add-config max.message.bytes=2000000 --delete-config retention.ms", 0, []string{`Completed updating config for topic made`}},
		{"kafka-configs", "--describe --all --entity-type topics --entity-name made", 0, []string{`max\.message\.bytes=2000000`, `retention\.ms=604800000 sensitive=false synonyms=\{DEFAULT_CONFIG`, `cleanup\.policy=delete`, `remote\.storage\.enable=false`}},
		{"kafka-configs", "--alter --entity-type topics --entity-name made --add-config retention.ms=x", 1, []string{`InvalidConfigurationException`}},
		{"kafka-configs", "--alter --entity-type groups --entity-name readers --add-config consumer.session.timeout.ms=50000", 0, []string{`Completed updating config for group readers`}},
		{"kafka-configs", "--describe --entity-type groups --entity-name readers", 0, []string{`consumer\.session\.timeout\.ms=50000 sensitive=false synonyms=\{(DYNAMIC_)?GROUP_CONFIG:`}},
		{"kafka-configs", "--describe --all --entity-type brokers --entity-name " + node, 0, []string{`num\.partitions=1`}},
		{"kafka-configs", "--alter --entity-type brokers --entity-name " + node + " --add-config log.cleaner.threads=2", 1, []string{`Cannot update these configs dynamically`}},
		{"kafka-client-metrics", "--list", 0, nil},

		{"kafka-get-offsets", "--topic filled", 0, []string{`(?m)^filled:0:10$`, `(?m)^filled:1:0$`}},
		{"kafka-get-offsets", "--topic filled --time earliest", 0, []string{`(?m)^filled:0:0$`}},
		{"kafka-get-offsets", "--topic filled --time max-timestamp", 0, []string{`(?m)^filled:0:9$`}},
		{"kafka-get-offsets", "--topic filled --time earliest-local", 0, []string{`(?m)^filled:0:0$`}},
		{"kafka-delete-records", "--offset-json-file " + file("delete", `{"partitions":[{"topic":"filled","partition":0,"offset":4}],"version":1}`), 0, []string{`partition: filled-0\s+low_watermark: 4`}},
		{"kafka-get-offsets", "--topic filled --time earliest", 0, []string{`(?m)^filled:0:4$`}},
		{"kafka-log-dirs", "--describe --topic-list filled", 0, []string{`"partition":"filled-0"`, `"partition":"filled-1"`, `"broker":` + node}},
		{"kafka-leader-election", "--election-type preferred --topic filled --partition 0", 0, []string{`already elected`}},
		{"kafka-leader-election", "--election-type preferred --all-topic-partitions", 0, nil},
		{"kafka-reassign-partitions", "--list", 0, []string{`No partition reassignments found`}},
		{"kafka-reassign-partitions", "--verify --reassignment-json-file " + reassignment, 0, []string{`Reassignment of partition filled-0 is completed`, `Clearing topic-level throttles on topic filled`}},
		{"kafka-reassign-partitions", "--cancel --reassignment-json-file " + reassignment, 0, []string{`None of the specified partition reassignments are active`}},

		{"kafka-transactions", "list", 0, []string{`stuck\s+\d+\s+\d+\s+Ongoing`}},
		{"kafka-transactions", "describe --transactional-id stuck", 0, []string{`Ongoing.*pending-0`}},
		// Producer id, epoch, coordinator's epoch, last sequence, time, start of the open transaction.
		{"kafka-transactions", "describe-producers --topic pending --partition 0", 0, []string{`(?m)^\d+\s+\d+\s+[1-9]\d*\s+\d+\s+\d+\s+2\s*$`}},
		{"kafka-transactions", "find-hanging --topic pending", 0, nil},
		{"kafka-transactions", "abort --topic pending --partition 0 --start-offset 2", 0, nil},
		{"kafka-transactions", "describe-producers --topic pending --partition 0", 0, []string{`(?m)^\d+\s+\d+\s+[1-9]\d*\s+\d+\s+\d+\s+None\s*$`}},

		{"kafka-groups", "--list", 0, []string{`readers\s+Classic\s+consumer`}},
		{"kafka-consumer-groups", "--list", 0, []string{`(?m)^readers$`}},
		{"kafka-consumer-groups", "--describe --group readers", 0, []string{`has no active members`, `readers\s+filled\s+0\s+10\s+10\s+0`}},
		{"kafka-consumer-groups", "--describe --state --group readers", 0, []string{`Empty`}},
		{"kafka-consumer-groups", "--reset-offsets --to-earliest --topic filled --group readers --execute", 0, []string{`readers\s+filled\s+0\s+4`}},
		{"kafka-consumer-groups", "--describe --group readers", 0, []string{`readers\s+filled\s+0\s+4\s+10\s+6`}},
		{"kafka-consumer-groups", "--delete-offsets --topic filled --group readers", 0, []string{`filled\s+0\s+Successful`}},
		{"kafka-consumer-groups", "--delete --group readers", 0, []string{`Deletion of requested consumer groups \('readers'\) was successful`}},
		{"kafka-consumer-groups", "--describe --group readers", 0, []string{`Group readers not found`}},

		{"kafka-producer-perf-test", "--topic made --num-records 500 --record-size 100 --throughput -1", 0, []string{`500 records sent`}},
		{"kafka-consumer-perf-test", "--topic made --num-records 500 --timeout 30000", 0, []string{`500`}},
		{"kafka-topics", "--delete --topic made", 0, nil},
		{"kafka-topics", "--describe --topic made", 1, []string{`does not exist`}},
	}
	if testing.Short() {
		commands = commands[:10] // the rest tells the race detector nothing new
	}
	for _, c := range commands {
		t.Run(c.tool+" "+firstWords(c.args), func(t *testing.T) {
			args := strings.Fields(c.args)
			if c.tool == "kafka-cluster" || c.tool == "kafka-features" || c.tool == "kafka-metadata-quorum" {
				// These want it before or after their verb.
				if c.tool == "kafka-cluster" {
					args = append(args, "--bootstrap-server", bootstrap)
				} else {
					args = append([]string{"--bootstrap-server", bootstrap}, args...)
				}
			} else {
				args = append([]string{"--bootstrap-server", bootstrap}, args...)
			}
			out, code := java.Run(c.tool, args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !regexp.MustCompile(want).MatchString(out) {
					t.Errorf("output has no %q", want)
				}
			}
			if t.Failed() {
				t.Logf("%s %s\n%s", c.tool, c.args, out)
			}
		})
	}
	if !testing.Short() {
		t.Run("of a tenant", func(t *testing.T) { toolsOfATenant(t, up, java, file) })
	}
}

func firstWords(s string) string {
	w := strings.Fields(s)
	return strings.Join(w[:min(len(w), 3)], " ")
}

// nodeID is the broker id behind an address.
func (r *running) nodeID(t testing.TB, addr string) int32 {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	brokers, err := kadm.NewClient(cl).ListBrokers(t.Context())
	if err != nil || len(brokers) != 1 {
		t.Fatal(brokers, err)
	}
	return brokers[0].NodeID
}
