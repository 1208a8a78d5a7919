package main

import (
	"context"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/verify"
)

// load is one idempotent client that appends unique values to several topics, and one
// that reads them, until the test says stop; so a test may wait for what it waits for.
type load struct {
	t         testing.TB
	bootstrap []string
	topics    []*loaded
	writer    *kgo.Client
	drops     atomic.Int64 // connections to gateways that ended while the load ran

	once    bool // each value is sent once: what has no acknowledgement is given up
	paused  atomic.Bool
	stop    context.CancelFunc // of the senders
	senders sync.WaitGroup
	finish  context.CancelFunc // of all
	reader  sync.WaitGroup
}

// loaded is one topic of a load.
type loaded struct {
	name       string
	partitions int32
	history    *verify.History
	next       atomic.Int64 // sequence that is sent next to every partition

	mu     sync.Mutex
	acks   [][]time.Time // by partition
	read   int64
	failed []error
}

const loadProducer = 1

// startLoad appends to every partition of the topics, every so often.
func startLoad(t testing.TB, bootstrap []string, every time.Duration, partitions int32, topics ...string) *load {
	t.Helper()
	l := &load{t: t, bootstrap: bootstrap}
	l.begin(every, partitions, topics)
	return l
}

// startPlainLoad is startLoad without producer ids, so that nobody may send a record again.
func startPlainLoad(t testing.TB, bootstrap []string, every time.Duration, partitions int32, topics ...string) *load {
	t.Helper()
	l := &load{t: t, bootstrap: bootstrap, once: true}
	l.begin(every, partitions, topics)
	return l
}

func (l *load) begin(every time.Duration, partitions int32, topics []string) {
	t := l.t
	t.Helper()
	starts := map[string]map[int32]kgo.Offset{}
	for _, name := range topics {
		l.topics = append(l.topics, &loaded{name: name, partitions: partitions,
			history: verify.NewHistory(int(partitions)), acks: make([][]time.Time, partitions)})
		starts[name] = map[int32]kgo.Offset{}
		for p := range partitions {
			starts[name][p] = kgo.NewOffset().AtStart()
		}
	}
	opts := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(1_000_000), kgo.WithHooks(l)}
	if l.once {
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0))
	}
	l.writer = l.client(opts...)
	consumer := l.client(kgo.ConsumePartitions(starts))
	all, finish := context.WithCancel(t.Context())
	sending, stop := context.WithCancel(all)
	l.finish, l.stop = finish, stop
	for _, x := range l.topics {
		l.senders.Go(func() { l.send(sending, x, every) })
	}
	l.reader.Go(func() {
		defer consumer.Close()
		l.consume(all, consumer)
	})
	t.Cleanup(func() {
		finish()
		l.senders.Wait()
		l.writer.Close()
		l.reader.Wait()
	})
}

func (l *load) client(opts ...kgo.Opt) *kgo.Client {
	l.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(l.bootstrap...), kgo.MetadataMinAge(100 * time.Millisecond), kgo.ConnIdleTimeout(10 * time.Minute),
		kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(time.Duration(tries)*20*time.Millisecond, 250*time.Millisecond)
		}),
	}, opts...)...)
	if err != nil {
		l.t.Fatal(err)
	}
	return cl
}

// OnBrokerDisconnect counts: it is a hook of the client.
func (l *load) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { l.drops.Add(1) }

func (l *load) send(ctx context.Context, x *loaded, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for seq := int64(0); ; {
		if l.paused.Load() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			continue
		}
		for p := range x.partitions {
			v := verify.Value{Producer: loadProducer, Partition: p, Sequence: seq}
			if err := x.history.Sent(v); err != nil {
				x.fail(err)
				return
			}
			sent := time.Now()
			rec := &kgo.Record{Topic: x.name, Partition: p, Value: []byte(v.String())}
			// Not the senders' context: what was sent is waited for.
			l.writer.Produce(context.WithoutCancel(ctx), rec, func(r *kgo.Record, err error) {
				now := time.Now()
				if err != nil && l.once {
					return // the history has it as sent, and unknown
				}
				if err == nil {
					err = x.history.Acked(v, r.Offset, sent, now)
				}
				if err != nil {
					x.fail(fmt.Errorf("%s: %w", v, err))
					return
				}
				x.mu.Lock()
				x.acks[v.Partition] = append(x.acks[v.Partition], now)
				x.mu.Unlock()
			})
		}
		seq++
		x.next.Store(seq)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (x *loaded) fail(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.failed = append(x.failed, err)
}

func (l *load) consume(ctx context.Context, cl *kgo.Client) {
	byName := map[string]*loaded{}
	for _, x := range l.topics {
		byName[x.name] = x
	}
	for ctx.Err() == nil {
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			x := byName[r.Topic]
			v, err := verify.ParseValue(string(r.Value))
			if err != nil || v.Producer != loadProducer {
				x.history.Foreign(r.Partition)
			} else {
				x.history.Polled(verify.Reader{Name: "reader"}, r.Partition, r.Offset, v)
			}
			x.mu.Lock()
			x.read++
			x.mu.Unlock()
		})
	}
}

// pause stops sending and waits until everything sent has its answer.
func (l *load) pause() {
	l.t.Helper()
	l.paused.Store(true)
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	if err := l.writer.Flush(ctx); err != nil {
		l.t.Fatalf("%d records have no answer: %v", l.writer.BufferedProduceRecords(), err)
	}
}

// resume ends pause.
func (l *load) resume() { l.paused.Store(false) }

// sent is how many records went to each partition.
func (x *loaded) sent() int64 { return x.next.Load() }

// topic returns the load of one topic.
func (l *load) topic(name string) *loaded {
	for _, x := range l.topics {
		if x.name == name {
			return x
		}
	}
	l.t.Fatalf("the load has no topic %s", name)
	return nil
}

// counts are the acknowledgements of the partition that has fewest, and the records read.
func (x *loaded) counts() (acked int, read int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	acked = math.MaxInt
	for _, a := range x.acks {
		acked = min(acked, len(a))
	}
	return acked, x.read
}

// gap is the longest time between two acknowledgements of a partition of which the
// second is later than a moment.
func (x *loaded) gap(after time.Time) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	var longest time.Duration
	for _, acks := range x.acks {
		for i := 1; i < len(acks); i++ {
			if acks[i].After(after) {
				longest = max(longest, acks[i].Sub(acks[i-1]))
			}
		}
	}
	return longest
}

// goesOn waits until every partition of the topic has acknowledged some more, and some more was read.
func (x *loaded) goesOn(t testing.TB, what string, most time.Duration) {
	t.Helper()
	acked, read := x.counts()
	eventually(t, most, "topic "+x.name+" goes on "+what, func() bool {
		a, r := x.counts()
		return a >= acked+3 && r >= read+3
	})
}

// end stops the senders, waits for every answer, reads all topics from their starts and judges.
func (l *load) end(most time.Duration) map[string]*verify.Report {
	l.t.Helper()
	l.stop()
	l.senders.Wait()
	ctx, cancel := context.WithTimeout(l.t.Context(), most)
	defer cancel()
	if err := l.writer.Flush(ctx); err != nil {
		l.t.Fatalf("%d records have no answer: %v", l.writer.BufferedProduceRecords(), err)
	}
	reports := map[string]*verify.Report{}
	for _, x := range l.topics {
		l.finalRead(ctx, x)
		x.mu.Lock()
		for _, err := range x.failed {
			l.t.Errorf("topic %s: %v", x.name, err)
		}
		x.mu.Unlock()
		r := verify.Check(x.history)
		r.Topic = x.name
		reports[x.name] = &r
	}
	l.finish()
	l.reader.Wait()
	return reports
}

// finalRead reads each partition up to a marker that it appends first.
func (l *load) finalRead(ctx context.Context, x *loaded) {
	l.t.Helper()
	starts := map[int32]kgo.Offset{}
	var markers []*kgo.Record
	for p := range x.partitions {
		starts[p] = kgo.NewOffset().AtStart()
		v := verify.Value{Producer: loadProducer + 1, Partition: p}
		markers = append(markers, &kgo.Record{Topic: x.name, Partition: p, Value: []byte(v.String())})
	}
	last := l.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer last.Close()
	if err := last.ProduceSync(ctx, markers...).FirstErr(); err != nil {
		l.t.Fatalf("topic %s: append the last records: %v", x.name, err)
	}
	cl := l.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{x.name: starts}))
	defer cl.Close()
	done := map[int32]bool{}
	for len(done) < int(x.partitions) {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			l.t.Fatalf("topic %s: %d of %d partitions were read to the end: %v", x.name, len(done), x.partitions, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			v, err := verify.ParseValue(string(r.Value))
			switch {
			case err == nil && v.Producer == loadProducer:
				x.history.Final(r.Partition, r.Offset, v)
			case err == nil && v.Producer == loadProducer+1:
				done[r.Partition] = true
				x.history.FinalDone(r.Partition)
			default:
				x.history.Foreign(r.Partition)
			}
		})
	}
}
