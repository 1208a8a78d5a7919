package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/internal/testkit"
)

// TestTornTransactionIsMended: a commit is decided, and the real Kafka that has a part of it
// stays away past the timeout of its own transaction, which it aborts. The part's records
// are appended anew; whoever does that is killed before and after its commit. All records are
// there once and in order, in both parts, and operators are told.
func TestTornTransactionIsMended(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BRAID_FAULTS_DIR", dir)
	proxy, err := testkit.StartProxy("127.0.0.1:1") // the target follows: each must know the other's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	east := testkit.Kafka(t, testkit.Advertise(1, proxy.Addr()), testkit.Property("transaction.max.timeout.ms", "20000"),
		testkit.Property("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"))
	proxy.SetTarget(east.Addrs()[0])
	up := startUpThere(t, "--set", "braid.failure.detection.ms=60000", "--set", "braid.lease.ms=4000")
	up.must("cluster", "add", "east", "--bootstrap", proxy.Addr())
	topics := []string{"torn-a", "torn-east"}
	up.must("topic", "create", "torn-a", "--partitions", "1", "--cluster", "a")
	up.must("topic", "create", "torn-east", "--partitions", "1", "--cluster", "east")

	producer := func() *kgo.Client {
		t.Helper()
		cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...), kgo.TransactionalID("torn"), kgo.TransactionTimeout(5*time.Minute),
			kgo.ProducerLinger(0), kgo.MetadataMinAge(50*time.Millisecond),
			kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }), kgo.RetryTimeout(3*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	cl := producer()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var want []string
	produce := func(transaction, records int) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for i := range records {
			v := fmt.Sprintf("%d/%d", transaction, i)
			want = append(want, v)
			for _, topic := range topics {
				// One by one, so that there are several batches.
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(v)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	point := func(name string) string { return filepath.Join(dir, name) }
	arm := func(name string) {
		t.Helper()
		if err := os.WriteFile(point(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reached := func(name string) {
		t.Helper()
		eventually(t, 2*time.Minute, name+" is reached", func() bool { _, err := os.Stat(point(name) + ".reached"); return err == nil })
	}
	gone := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Remove(point(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}

	produce(0, 3)
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	produce(1, 4)
	arm(coordinator.FaultTxnDecided)
	ended := make(chan error, 1)
	go func() { ended <- cl.EndTransaction(ctx, kgo.TryCommit) }()
	reached(coordinator.FaultTxnDecided)
	// It is away for Braid and well by itself: a broker that was stopped may leave its transactions hanging.
	proxy.Stall(testkit.Both)
	direct := east.Client(t, kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, east.Addrs()[0]) // whatever address the broker tells
	}))
	// What is asked for is halved until the cluster allows it: 14 s.
	eventually(t, time.Minute, "the cluster has aborted its part", func() bool { return aborted(ctx, direct) })
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	kills := []string{coordinator.FaultRedoAppended, coordinator.FaultRedoDone}
	for _, name := range kills {
		arm(name)
	}
	gone(coordinator.FaultTxnDecided)
	for _, name := range kills {
		reached(name)
		up.kill()
		gone(name, name+".reached")
		up.start()
	}
	if err := <-ended; err != nil {
		t.Logf("the client's commit: %v", err)
	}

	// The next incarnation of the id goes on behind what was appended anew.
	cl = producer()
	produce(2, 3)
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics {
		if got := up.committed(topic, "2/2"); !slices.Equal(got, want) {
			t.Errorf("%s holds %q, want %q", topic, got, want)
		}
	}
	status, err := up.admin.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(status.Warnings, func(w string) bool {
		return strings.Contains(w, `of "torn"`) && strings.Contains(w, "4 records were appended anew")
	}) {
		t.Errorf("warnings: %q", status.Warnings)
	}
}

// aborted tells whether a cluster has aborted one of the gateways' transactions. They have more than
// one id there, as the next is made ready ahead.
func aborted(ctx context.Context, direct *kgo.Client) bool {
	list, err := kmsg.NewPtrListTransactionsRequest().RequestWith(ctx, direct)
	if err != nil {
		return false
	}
	found := false
	for _, x := range list.TransactionStates {
		if !strings.HasPrefix(x.TransactionalID, "__braid-") {
			continue
		}
		switch x.TransactionState {
		case "CompleteAbort":
			found = true
		case "Ongoing", "PrepareAbort", "PrepareEpochFence":
			return false
		}
	}
	return found
}

// committed reads the values of a topic of one partition with committed isolation, up to one.
func (r *running) committed(topic, last string) []string {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.ready.Kafka...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(250*time.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	var values []string
	eventually(r.t, time.Minute, last+" is read from "+topic, func() bool {
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		cl.PollFetches(ctx).EachRecord(func(rec *kgo.Record) { values = append(values, string(rec.Value)) })
		return slices.Contains(values, last)
	})
	return values
}
