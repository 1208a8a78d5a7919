package main

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/testkit"
)

// TestGatewaysThatMissAMove: of three gateways one is stopped for longer than its lease
// while the topic moves, another has lost the catalog. The stopped one does no harm when
// it wakes, whatever it still sends; the one without the catalog goes on with chains that
// did not change, and follows the move when the catalog is back.
func TestGatewaysThatMissAMove(t *testing.T) {
	t.Parallel()
	east := testkit.Shared(t)
	up := startUp(t)
	up.addCluster("east", east)
	proxy := testkit.NewProxy(t, strings.TrimPrefix(up.ready.Catalog[0], "http://"))
	stopped := startBraid(t, "gateway", "--catalog-endpoints", up.ready.Catalog[0], "--listen", "127.0.0.1:0")
	blind := startBraid(t, "gateway", "--catalog-endpoints", "http://"+proxy.Addr(), "--listen", "127.0.0.1:0")
	up.must("topic", "create", "missed", "--partitions", "3", "--cluster", "east")
	up.must("topic", "create", "still", "--partitions", "2", "--cluster", "east")
	l := startLoad(t, []string{up.ready.Kafka[0], stopped.ready.Kafka[0], blind.ready.Kafka[0]}, 5*time.Millisecond, 3, "missed")
	x := l.topic("missed")
	x.goesOn(t, "at first", patience)
	alone := blind.alone("still")
	alone("while all is well")
	for _, to := range []string{"a", "east"} {
		proxy.Stall(testkit.Both)
		stopped.signal(syscall.SIGSTOP)
		// The lease is 6 s.
		woken := time.AfterFunc(8*time.Second, func() { stopped.signal(syscall.SIGCONT) })
		if op, err := up.move(t.Context(), to, "missed"); err != nil || op.State != "done" {
			t.Fatalf("move to %s: %v: %s %s", to, err, op.State, op.Message)
		}
		alone("while the catalog does not answer")
		proxy.Cut()
		alone("while the catalog cannot be reached")
		if woken.Stop() {
			// What comes before went quickly: wait for the rest of the 8 s all the same.
			woken.Reset(6 * time.Second)
		}
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
		x.goesOn(t, "after the move to "+to, patience)
	}
	up.noStrays(t.Context(), "missed", map[string]*testkit.Cluster{"east": east})
	r := l.end(2 * time.Minute)["missed"]
	t.Logf("\n%s", r)
	if !r.OK() || !r.Complete() {
		t.Error("the history is not clean")
	}
}

// alone opens clients of this gateway alone: whichever broker they are told of, they are
// connected to this one, which must do for all partitions. What it returns appends to a
// topic and reads that back.
func (r *running) alone(topic string) func(when string) {
	r.t.Helper()
	client := func(opts ...kgo.Opt) *kgo.Client {
		r.t.Helper()
		cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(r.ready.Kafka[0]), kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, r.ready.Kafka[0])
		})}, opts...)...)
		if err != nil {
			r.t.Fatal(err)
		}
		return cl
	}
	writer := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	r.t.Cleanup(writer.Close)
	return func(when string) {
		r.t.Helper()
		ctx, cancel := context.WithTimeout(r.t.Context(), patience)
		defer cancel()
		rec := &kgo.Record{Topic: topic, Partition: 1, Value: []byte(when)}
		if err := writer.ProduceSync(ctx, rec).FirstErr(); err != nil {
			r.t.Fatalf("append %s: %v", when, err)
		}
		reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {1: kgo.NewOffset().At(rec.Offset)}}))
		defer reader.Close()
		records := reader.PollFetches(ctx).Records()
		if len(records) == 0 || records[0].Offset != rec.Offset || string(records[0].Value) != when {
			r.t.Fatalf("read %s: %d records, appended at %d (%v)", when, len(records), rec.Offset, ctx.Err())
		}
	}
}
