package gateway

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestDrainAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("t", 1)
	idle, polling, busy := f.raw(), f.raw(), f.raw()
	do[*kmsg.ApiVersionsResponse](idle, 0, kmsg.NewPtrApiVersionsRequest())
	put(busy, "t", 0, "v")
	poll := fetchRequest("t", [16]byte{}, map[int32]int64{0: 1})
	poll.MaxWaitMillis = int32(2 * patience / time.Millisecond) // longer than the drain may take
	poll.SetVersion(11)
	corr := polling.send(poll)
	// The poll is under way once the request was counted as received.
	waitForRequests(t, f.gateways[0], 3)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.gateways[0].Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if resp := polling.receive(poll, corr).(*kmsg.FetchResponse); resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("%+v", resp)
	}
	for _, r := range []*raw{idle, polling, busy} {
		r.closed()
	}
	if nc, err := net.Dial("tcp", f.gateways[0].Addrs()[0].Bound); err == nil {
		_ = nc.Close()
		t.Error("a drained gateway takes connections")
	}
}

// waitForRequests waits until every connection's bytes were taken off the network.
func waitForRequests(t *testing.T, g *Gateway, conns int) {
	t.Helper()
	eventually(t, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.conns) != conns {
			return fmt.Errorf("%d connections", len(g.conns))
		}
		for c := range g.conns {
			if c.fetching.Load() {
				return nil
			}
		}
		return fmt.Errorf("nobody fetches")
	})
}

// Clients of a gateway that goes away go on at another; nothing is lost or doubled.
func TestGatewayLeavesUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(3))
	f.topic("load", 6)
	const n = 3000
	cl := f.client(kgo.DefaultProduceTopic("load"), kgo.ProducerLinger(time.Millisecond))
	group := f.client(kgo.ConsumerGroup("load-group"), kgo.ConsumeTopics("load"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for i := range n {
		if i == n/3 {
			drain, cancel := context.WithTimeout(ctx, patience)
			f.leave(drain, 2)
			cancel()
		}
		cl.Produce(ctx, &kgo.Record{Value: fmt.Appendf(nil, "%d", i)}, func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("record %s: %v", r.Value, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	seen := consumeN(t, group, n)
	for i := range n {
		if seen[fmt.Sprint(i)] != 1 {
			t.Fatalf("record %d was seen %d times", i, seen[fmt.Sprint(i)])
		}
	}
}

// A connection that was just made is answered its first request before it ends:
// clients take an end without a word for a broker that wants TLS, and give up.
func TestDrainAnswersAFreshConnection(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	fresh := f.raw()
	waitForConnections(t, f.gateways[0], 1)
	drained := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { drained <- f.gateways[0].Drain(ctx) }()
	<-f.gateways[0].drained
	if resp := do[*kmsg.ApiVersionsResponse](fresh, 0, kmsg.NewPtrApiVersionsRequest()); resp.ErrorCode != 0 || len(resp.ApiKeys) == 0 {
		t.Errorf("%+v", resp)
	}
	fresh.closed()
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func waitForConnections(t *testing.T, g *Gateway, n int) {
	t.Helper()
	eventually(t, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.conns) != n {
			return fmt.Errorf("%d connections", len(g.conns))
		}
		return nil
	})
}
