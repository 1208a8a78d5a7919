package verify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say what Run does. The zero value of each field but Bootstrap means its default.
type Options struct {
	Bootstrap []string // HOST:PORT of the endpoint; required

	// Topic is created unless it exists; what lies in it before the run is left out of account. With
	// no name the run takes a topic of its own, and deletes it when the report is clean.
	Topic      string
	Partitions int               // of a topic that is created: 6
	Config     map[string]string // of a topic that is created

	Producers     int             // 2, each a client of its own
	Rate          int             // records a second of all producers together: 1000
	Duration      time.Duration   // of the workload: 10 s
	Until         <-chan struct{} // ends the workload before Duration when it is closed. nil: nothing does
	RecordSize    int             // bytes of a value: 200; at least 92
	NonIdempotent bool            // acks=all without producer ids, one request in flight; else five. Repeats are then allowed
	Linger        time.Duration   // how long producers gather a batch: 5 ms; negative: not at all
	Outstanding   int             // records without an answer by producer and partition: 1000

	Consumers      int // direct ones, each reads everything: 1; negative: none
	GroupConsumers int // members of one group: 2; negative: none

	// Settle bounds each step after the workload: outstanding answers, readers that catch up, the
	// final read. 60 s.
	Settle time.Duration

	Dialer func(ctx context.Context, network, host string) (net.Conn, error)
	Client []kgo.Opt // further options of every client, as for TLS and SASL

	Progress      func(Progress) // called every ProgressEvery, from one goroutine
	ProgressEvery time.Duration  // 500 ms
}

// Progress is where a run stands.
type Progress struct {
	Phase        string        // "workload", "settling" or "final read"
	Elapsed      time.Duration // since the run began
	Total        time.Duration // of the workload
	Sent         int64
	Acknowledged int64
	Committed    int64 // transactions, of [RunTxns]
	Polled       int64
	Final        int64         // records that the final read met
	LongestPause time.Duration // of acknowledgements, on any partition
}

// Limits of Options; a history of more would not fit a usual machine's memory.
const (
	maxPartitions = 10_000
	maxClients    = 1_000
	maxRecordSize = 64 << 20
)

func (o *Options) complete() error {
	if len(o.Bootstrap) == 0 {
		return errors.New("verify: no bootstrap address")
	}
	setDefault(&o.Partitions, 6)
	setDefault(&o.Producers, 2)
	setDefault(&o.Rate, 1000)
	setDefault(&o.Duration, 10*time.Second)
	setDefault(&o.RecordSize, 200)
	setDefault(&o.Outstanding, 1000)
	setDefault(&o.Consumers, 1)
	setDefault(&o.GroupConsumers, 2)
	setDefault(&o.Settle, time.Minute)
	setDefault(&o.ProgressEvery, 500*time.Millisecond)
	setDefault(&o.Linger, 5*time.Millisecond)
	o.Linger = max(o.Linger, 0)
	o.Consumers, o.GroupConsumers = max(o.Consumers, 0), max(o.GroupConsumers, 0)
	for _, l := range []struct {
		name       string
		is         int
		least, top int
	}{
		{"partitions", o.Partitions, 1, maxPartitions},
		{"producers", o.Producers, 1, maxClients},
		{"rate", o.Rate, 1, 10_000_000},
		{"record size", o.RecordSize, 1, maxRecordSize},
		{"outstanding records", o.Outstanding, 1, 1_000_000},
		{"consumers", o.Consumers, 0, maxClients},
		{"group consumers", o.GroupConsumers, 0, maxClients},
	} {
		if l.is < l.least || l.is > l.top {
			return fmt.Errorf("verify: %s is %d: it must be %d to %d", l.name, l.is, l.least, l.top)
		}
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{{"duration", o.Duration}, {"settle", o.Settle}, {"progress interval", o.ProgressEvery}} {
		if d.is < 0 {
			return fmt.Errorf("verify: %s is %s: it must not be negative", d.name, d.is)
		}
	}
	// A shorter one has no room for its own name.
	o.RecordSize = max(o.RecordSize, minPayload)
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// clientOptions puts the run's own options first, so that the caller's win.
func (o *Options) clientOptions(opts ...kgo.Opt) []kgo.Opt {
	all := []kgo.Opt{
		kgo.SeedBrokers(o.Bootstrap...), kgo.ClientID("braid-verify"),
		// A move or failover changes leaders: the default of 5 minutes would hide its end, and 2.5 s
		// between refreshes would be measured as the endpoint's pause.
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(time.Duration(tries)*20*time.Millisecond, 250*time.Millisecond)
		}),
	}
	if o.Dialer != nil {
		all = append(all, kgo.Dialer(o.Dialer))
	}
	return append(append(all, opts...), o.Client...)
}

func (o *Options) client(opts ...kgo.Opt) (*kgo.Client, error) {
	cl, err := kgo.NewClient(o.clientOptions(opts...)...)
	if err != nil {
		return nil, fmt.Errorf("verify: open a client: %w", err)
	}
	return cl, nil
}
