// Command franz is the Go program of the client families. The contract of all of them is in package
// clients.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type options struct {
	bootstrap, topic, group     string
	protocol                    string
	partitions, count, producer int
	rate                        int
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: produce|consume --flag value")
	}
	var o options
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.StringVar(&o.bootstrap, "bootstrap", "", "HOST:PORT,...")
	f.StringVar(&o.topic, "topic", "", "topic")
	f.StringVar(&o.group, "group", "", "group")
	f.StringVar(&o.protocol, "protocol", "", "of the group: consumer, or nothing for the classic one")
	f.IntVar(&o.partitions, "partitions", 1, "of the topic")
	f.IntVar(&o.count, "count", 0, "records")
	f.IntVar(&o.producer, "producer", 0, "number in the values")
	f.IntVar(&o.rate, "rate", 0, "records a second")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch args[0] {
	case "produce":
		return produce(ctx, o)
	case "consume":
		return consume(ctx, o)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

var printing sync.Mutex

func say(line any) {
	b, err := json.Marshal(line)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	printing.Lock()
	defer printing.Unlock()
	// Nobody is left to tell when the driver has gone.
	_, _ = os.Stdout.Write(append(b, '\n'))
}

type record struct {
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Value     string `json:"value"`
}

func produce(ctx context.Context, o options) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(o.bootstrap, ",")...), kgo.DefaultProduceTopic(o.topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var mu sync.Mutex
	var failed error
	start := time.Now()
	for i := range o.count {
		if o.rate > 0 {
			select {
			case <-time.After(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(o.rate)))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		p := i % o.partitions
		r := &kgo.Record{Partition: int32(p), Value: fmt.Appendf(nil, "%d/%d/%d", o.producer, p, i/o.partitions)}
		cl.Produce(ctx, r, func(r *kgo.Record, err error) {
			if err == nil {
				say(record{r.Partition, r.Offset, string(r.Value)})
				return
			}
			mu.Lock()
			defer mu.Unlock()
			failed = fmt.Errorf("%s: %w", r.Value, err)
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

func consume(ctx context.Context, o options) error {
	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(o.bootstrap, ",")...), kgo.ConsumerGroup(o.group),
		kgo.ConsumeTopics(o.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			say(map[string][]int32{"assigned": assigned[o.topic]})
		}),
	}
	if o.protocol == "consumer" {
		opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.CloseAllowingRebalance()
	for {
		fetches := cl.PollFetches(ctx)
		fetches.EachRecord(func(r *kgo.Record) { say(record{r.Partition, r.Offset, string(r.Value)}) })
		fetches.EachError(func(_ string, p int32, err error) {
			if ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "partition %d: %v\n", p, err)
			}
		})
		cl.AllowRebalance()
		if ctx.Err() != nil {
			return nil
		}
	}
}
