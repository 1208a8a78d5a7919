package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func produceN(tb testing.TB, cl *kgo.Client, topic string, n int) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for i := range n {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)}, func(r *kgo.Record, err error) {
			if err != nil {
				tb.Errorf("record %s: %v", r.Value, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		tb.Fatal(err)
	}
}

// consumeN polls until n records came, and returns how often each value was seen.
// A kgo.ErrGroupSession is a notice, not an end: the client met a gateway that is gone
// and joins again by itself.
func consumeN(tb testing.TB, cl *kgo.Client, n int) map[string]int {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	seen := map[string]int{}
	for got := 0; got < n; {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			tb.Fatalf("got %d of %d records: %v", got, n, err)
		}
		fs.EachError(func(t string, p int32, err error) {
			var session *kgo.ErrGroupSession
			if !errors.As(err, &session) {
				tb.Fatalf("%s-%d: %v", t, p, err)
			}
		})
		fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++; got++ })
	}
	return seen
}

func TestIdempotentProducerAndGroup(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	f.topic("orders", 6)
	const n = 2000
	produceN(t, f.client(), "orders", n)
	group := f.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen := consumeN(t, group, n)
	if len(seen) != n {
		t.Errorf("%d different records, want %d", len(seen), n)
	}
	if err := group.CommitUncommittedOffsets(context.Background()); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(f.client())
	lags, err := adm.Lag(context.Background(), "g")
	if err != nil {
		t.Fatal(err)
	}
	l := lags["g"]
	if l.Error() != nil || l.Lag.Total() != 0 || l.State != "Stable" {
		t.Errorf("lag %d, state %s: %v", l.Lag.Total(), l.State, l.Error())
	}
	group.Close()
	// A new member goes on where the former one stopped.
	produceN(t, f.client(), "orders", 10)
	again := f.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("orders"))
	if seen := consumeN(t, again, 10); len(seen) != 10 {
		t.Errorf("%d records after the commit, want 10", len(seen))
	}
}
