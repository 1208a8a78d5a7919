package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/clients"
	"github.com/braidstream/braid/internal/testkit"
)

// exactlyOnce is a pipeline that reads values of one topic and writes each to
// several others, with its place in the same transaction; every now and then a
// transaction is aborted.
type exactlyOnce struct {
	t         *testing.T
	bootstrap []string
	in        string
	outs      []string
	values    int

	stop context.CancelFunc
	wg   sync.WaitGroup
	done atomic.Int64 // transactions that were committed
	undo atomic.Int64 // and aborted
}

func (x *exactlyOnce) client(opts ...kgo.Opt) *kgo.Client {
	x.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(x.bootstrap...), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond })}, opts...)...)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(cl.Close)
	return cl
}

// fill writes the values 0 to n-1.
func (x *exactlyOnce) fill() {
	x.t.Helper()
	cl := x.client(kgo.DefaultProduceTopic(x.in))
	var failed atomic.Value
	for i := range x.values {
		cl.Produce(x.t.Context(), kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(err)
			}
		})
	}
	if err := cl.Flush(x.t.Context()); err != nil {
		x.t.Fatal(err)
	}
	if err := failed.Load(); err != nil {
		x.t.Fatal(err)
	}
}

// start runs n workers of one group.
func (x *exactlyOnce) start(n int) {
	ctx, stop := context.WithCancel(x.t.Context())
	x.stop = stop
	for i := range n {
		x.wg.Go(func() { x.work(ctx, fmt.Sprintf("%s-worker-%d", x.in, i), rand.New(rand.NewPCG(1, uint64(i)))) })
	}
}

func (x *exactlyOnce) work(ctx context.Context, id string, r *rand.Rand) {
	for ctx.Err() == nil {
		s, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(x.bootstrap...), kgo.TransactionalID(id), kgo.ConsumerGroup("group-"+x.in),
			kgo.ConsumeTopics(x.in), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.TransactionTimeout(20*time.Second), kgo.MetadataMinAge(50*time.Millisecond),
			kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.FetchMaxWait(250*time.Millisecond),
			kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }))
		if err != nil {
			x.t.Error(err)
			return
		}
		if err := x.transact(ctx, s, r); err != nil && ctx.Err() == nil {
			x.t.Logf("%s begins anew: %v", id, err)
		}
		s.Close()
	}
}

// transact runs transactions until one fails in a way that wants another session.
func (x *exactlyOnce) transact(ctx context.Context, s *kgo.GroupTransactSession, r *rand.Rand) error {
	for ctx.Err() == nil {
		pollCtx, cancel := context.WithTimeout(ctx, time.Second)
		fetches := s.PollRecords(pollCtx, 50)
		cancel()
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := s.Begin(); err != nil {
			return err
		}
		var failed atomic.Bool
		fetches.EachRecord(func(rec *kgo.Record) {
			for _, out := range x.outs {
				s.Produce(ctx, &kgo.Record{Topic: out, Key: rec.Value, Value: rec.Value}, func(_ *kgo.Record, err error) {
					if err != nil {
						failed.Store(true)
					}
				})
			}
		})
		end := kgo.TryCommit
		if r.IntN(5) == 0 {
			end = kgo.TryAbort
		}
		endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		committed, err := s.End(endCtx, end)
		cancel()
		switch {
		case err != nil:
			return err
		case committed:
			x.done.Add(1)
		default:
			x.undo.Add(1)
		}
		if failed.Load() && committed {
			return errors.New("a transaction was committed although a record had failed")
		}
	}
	return nil
}

// counts reads a topic from its start to its last stable offset with committed
// isolation, and tells how often it holds each value. What is last is a record that was
// committed or a marker, and both are shown.
func (x *exactlyOnce) counts(topic string) map[string]int {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	cl := x.client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.KeepControlRecords())
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		x.t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset - 1
		}
	})
	got := map[string]int{}
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			x.t.Fatalf("%s was not read up to %v", topic, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				got[string(r.Value)]++
			}
			if last, ok := left[r.Partition]; ok && r.Offset >= last {
				delete(left, r.Partition)
			}
		})
	}
	return got
}

// finish waits until every value has arrived, and checks that each has once.
func (x *exactlyOnce) finish(most time.Duration) {
	x.t.Helper()
	cl := x.client(kgo.ConsumeTopics(x.outs[0]), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(250*time.Millisecond))
	seen := map[string]bool{}
	eventually(x.t, most, fmt.Sprintf("%d values of %s have arrived in %s", x.values, x.in, x.outs[0]), func() bool {
		ctx, cancel := context.WithTimeout(x.t.Context(), 200*time.Millisecond)
		defer cancel()
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
		return len(seen) >= x.values
	})
	x.stop()
	x.wg.Wait()
	for _, out := range x.outs {
		got := x.counts(out)
		missing, twice := 0, 0
		for i := range x.values {
			switch n := got[fmt.Sprint(i)]; {
			case n == 0:
				missing++
			case n > 1:
				twice++
			}
		}
		if missing+twice > 0 || len(got) != x.values {
			x.t.Errorf("%s: %d of %d values are missing, %d there more than once", out, missing, x.values, twice)
		}
	}
	x.t.Logf("%s: %d transactions committed, %d aborted", x.in, x.done.Load(), x.undo.Load())
}

// TestTransactionsOnLocalClusters: read, write to topics of two clusters and commit the
// place, all in one transaction each, while gateways are killed.
func TestTransactionsOnLocalClusters(t *testing.T) {
	t.Parallel()
	up := startUp(t, "--set", "group.initial.rebalance.delay.ms=0")
	second := up.gateway("--set", "group.initial.rebalance.delay.ms=0")
	for name, on := range map[string]string{"txn-in": "a", "txn-a": "a", "txn-b": "b"} {
		up.must("topic", "create", name, "--partitions", "3", "--cluster", on)
	}
	x := &exactlyOnce{t: t, bootstrap: []string{up.ready.Kafka[0], second.ready.Kafka[0]}, in: "txn-in", outs: []string{"txn-a", "txn-b"}, values: 2000}
	x.fill()
	x.start(2)
	eventually(t, patience, "transactions are committed", func() bool { return x.done.Load() > 5 })
	second.kill()
	second.start()
	x.finish(3 * time.Minute)
}

// TestTransactionsAcrossKafka: the same over the embedded engine and two real Kafkas, and
// topics move between them meanwhile.
func TestTransactionsAcrossKafka(t *testing.T) {
	up := startUp(t, "--set", "group.initial.rebalance.delay.ms=0")
	up.addCluster("east", testkit.Shared(t))
	up.addCluster("west", testkit.Kafka(t))
	second := up.gateway("--set", "group.initial.rebalance.delay.ms=0")
	for name, on := range map[string]string{"eos-in": "a", "eos-local": "a", "eos-east": "east", "eos-west": "west"} {
		up.must("topic", "create", name, "--partitions", "3", "--cluster", on)
	}
	x := &exactlyOnce{t: t, bootstrap: []string{up.ready.Kafka[0], second.ready.Kafka[0]}, in: "eos-in", outs: []string{"eos-local", "eos-east", "eos-west"}, values: 2000}
	x.fill()
	x.start(2)
	more := func(what string) {
		t.Helper()
		before := x.done.Load()
		eventually(t, patience, "transactions are committed "+what, func() bool { return x.done.Load() > before+3 })
	}
	more("at first")
	for i, to := range []string{"east", "b"} {
		topic := "eos-local"
		if i == 1 {
			topic = "eos-east"
		}
		op, err := up.move(t.Context(), to, topic)
		if err != nil {
			t.Fatal(err)
		}
		if op.State != "done" {
			t.Errorf("move of %s to %s: %s: %s", topic, to, op.State, op.Message)
		}
	}
	second.kill()
	second.start()
	x.finish(3 * time.Minute)
}

// TestTransactionsOfOtherClients: the Java producer, with the transactions of KIP-890, and
// librdkafka's, with those before it, over the embedded engine and a real Kafka.
func TestTransactionsOfOtherClients(t *testing.T) {
	east := testkit.Shared(t)
	up := startUp(t)
	up.addCluster("east", east)
	up.must("topic", "create", "others-a", "--partitions", "2", "--cluster", "a")
	up.must("topic", "create", "others-east", "--partitions", "2", "--cluster", "east")
	x := &exactlyOnce{t: t, bootstrap: up.ready.Kafka}
	topics := []string{"others-a", "others-east"}
	const count = 20
	want := map[string]int{}
	for _, f := range []clients.Family{clients.Java, clients.Confluent} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := clients.Transact(ctx, f, up.ready.Kafka, string(f), topics, count); err != nil {
			t.Fatal(err)
		}
		for i := range count {
			for k := range 3 {
				if i%4 != 3 {
					want[fmt.Sprintf("%s/%d/%d", f, i, k)] = 1
				}
			}
		}
	}
	for _, topic := range topics {
		if got := x.counts(topic); !maps.Equal(got, want) {
			t.Errorf("%s holds %d values, %d were committed: %v", topic, len(got), len(want), got)
		}
	}
}
