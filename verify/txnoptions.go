package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TxnOptions say what RunTxns does. The zero value of each field but Bootstrap means its default.
type TxnOptions struct {
	Bootstrap []string // HOST:PORT of the endpoint; required

	// Topics are written to in every transaction; the first one is also what the pipelines consume.
	// They are created unless they exist; what lies in them before the run is left out of account. With no
	// names the run takes topics of its own, one for each of Configs, and deletes them when the report is clean.
	Topics     []string
	Configs    []map[string]string // of the topics that are created, in their order; two without any
	Partitions int                 // of a topic that is created: 3

	Producers  int           // 2, each with a transactional id of its own
	Pipelines  int           // members of one group that consume the first topic and write to the others, exactly once: 2; negative: none
	Rate       int           // records a second of all producers together: 1000
	Records    int           // of one transaction of a producer: 10
	Aborts     int           // of a hundred transactions, so many are aborted on purpose: 15; negative: none
	Kills      int           // and so many given up in the middle, before their commit or during it; another instance goes on: 5; negative: none
	Timeout    time.Duration // transaction.timeout.ms: 30 s
	Duration   time.Duration // of the workload: 10 s
	RecordSize int           // bytes of a value: 200; at least 92

	// Until ends the workload before Duration when it is closed. nil: nothing does.
	Until <-chan struct{}

	Consumers int // of committed records, each reads everything: 1; negative: none

	// Settle bounds each step after the workload: open transactions, pipelines and readers that catch up, the final
	// read. 60 s.
	Settle time.Duration

	Dialer func(ctx context.Context, network, host string) (net.Conn, error)
	Client []kgo.Opt // further options of every client, as for TLS and SASL

	Progress      func(Progress) // called every ProgressEvery, from one goroutine
	ProgressEvery time.Duration  // 500 ms
}

// maxTopics bounds TxnOptions.Topics.
const maxTopics = 100

func (o *TxnOptions) complete() error {
	if len(o.Bootstrap) == 0 {
		return errors.New("verify: no bootstrap address")
	}
	if len(o.Topics) == 0 && len(o.Configs) == 0 {
		o.Configs = make([]map[string]string, 2)
	}
	setDefault(&o.Partitions, 3)
	setDefault(&o.Producers, 2)
	setDefault(&o.Pipelines, 2)
	setDefault(&o.Rate, 1000)
	setDefault(&o.Records, 10)
	setDefault(&o.Aborts, 15)
	setDefault(&o.Kills, 5)
	setDefault(&o.Timeout, 30*time.Second)
	setDefault(&o.Duration, 10*time.Second)
	setDefault(&o.RecordSize, 200)
	setDefault(&o.Consumers, 1)
	setDefault(&o.Settle, time.Minute)
	setDefault(&o.ProgressEvery, 500*time.Millisecond)
	o.Pipelines, o.Aborts, o.Kills, o.Consumers = max(o.Pipelines, 0), max(o.Aborts, 0), max(o.Kills, 0), max(o.Consumers, 0)
	topics := max(len(o.Topics), len(o.Configs))
	for _, l := range []struct {
		name       string
		is         int
		least, top int
	}{
		{"topics", topics, 1, maxTopics},
		{"partitions", o.Partitions, 1, maxPartitions},
		{"producers", o.Producers, 1, maxClients},
		{"pipelines", o.Pipelines, 0, maxClients},
		{"rate", o.Rate, 1, 10_000_000},
		{"records of a transaction", o.Records, 1, 100_000},
		{"aborts of a hundred transactions", o.Aborts, 0, 100},
		{"aborts and kills of a hundred transactions", o.Aborts + o.Kills, 0, 100},
		{"record size", o.RecordSize, 1, maxRecordSize},
		{"consumers", o.Consumers, 0, maxClients},
	} {
		if l.is < l.least || l.is > l.top {
			return fmt.Errorf("verify: %s: %d, must be %d to %d", l.name, l.is, l.least, l.top)
		}
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"duration", o.Duration}, {"settle", o.Settle}, {"progress interval", o.ProgressEvery}, {"transaction timeout", o.Timeout}} {
		if d.is < 0 {
			return fmt.Errorf("verify: %s is %s: it must not be negative", d.name, d.is)
		}
	}
	if len(o.Topics) > 0 && len(o.Configs) > len(o.Topics) {
		return fmt.Errorf("verify: configs of %d topics, but %d topics", len(o.Configs), len(o.Topics))
	}
	if topics < 2 {
		o.Pipelines = 0 // nothing to write to
	}
	o.RecordSize = max(o.RecordSize, minPayload)
	return nil
}

// topic gives the options of one topic's run.
func (o *TxnOptions) topic(i int, id string) Options {
	one := Options{Bootstrap: o.Bootstrap, Partitions: o.Partitions, Producers: o.Producers, Rate: o.Rate, RecordSize: o.RecordSize,
		Duration: o.Duration, Outstanding: 1000, Consumers: o.Consumers, Settle: o.Settle, Dialer: o.Dialer, Client: o.Client,
		Linger: time.Millisecond, ProgressEvery: o.ProgressEvery, Topic: fmt.Sprintf("braid-verify-%s-%d", id, i)}
	if len(o.Topics) > 0 {
		one.Topic = o.Topics[i]
	}
	if i < len(o.Configs) {
		one.Config = o.Configs[i]
	}
	return one
}
