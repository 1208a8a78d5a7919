package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// watchCatalog follows the catalog of a process.
func (r *running) watchCatalog() (*catalog.Catalog, *catalog.Watcher) {
	r.t.Helper()
	cat, err := catalog.Connect(r.t.Context(), catalog.Config{Endpoints: r.ready.Catalog, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	w, err := cat.Watch(r.t.Context(), catalog.Scope{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		w.Close()
		if err := cat.Close(); err != nil {
			r.t.Log(err)
		}
	})
	return cat, w
}

// byName has requests name topics by their names, as produceAt does.
func byName() kgo.Opt { return kgo.MaxVersions(kversion.V3_7_0()) }

// produceAt sends one batch of a record of size bytes to one gateway.
func produceAt(ctx context.Context, b *kgo.Broker, topic string, size int) error {
	records, err := batch.NewBuilder().Add(batch.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, size)}).Build()
	if err != nil {
		return err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 60_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	req.SetVersion(11)
	resp, err := b.Request(ctx, req)
	if err != nil {
		return err
	}
	for _, t := range resp.(*kmsg.ProduceResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return wire.Code(p.ErrorCode)
			}
		}
	}
	return nil
}

// TestABudgetFollowsItsLoad: a tenant whose whole load is on one of three gateways has nearly
// all of its budget there within a few rounds, and when the load moves, the budget does.
func TestABudgetFollowsItsLoad(t *testing.T) {
	t.Parallel()
	up := startUp(t, "--gateways", "3")
	const budget = 100_000.0
	up.must("topic", "create", "orders", "--partitions", "1")
	up.must("tenant", "set", "default", "--budget", "producer_byte_rate=100000")
	_, w := up.watchCatalog()
	failed := make(chan error, 8) // one of each client at most
	load := func(i int) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 4 {
			cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka[i]), byName())
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer cl.Close()
				for ctx.Err() == nil {
					if err := produceAt(ctx, cl.SeedBrokers()[0], "orders", 50_000); err != nil && ctx.Err() == nil {
						failed <- fmt.Errorf("produce at %s: %w", up.ready.Kafka[i], err)
						return
					}
				}
			})
		}
		return func() {
			cancel()
			wg.Wait()
		}
	}
	until := func(what string, ok func(shares map[int32]float64) bool) {
		t.Helper()
		changed := make(chan struct{}, 1)
		stop := w.OnChange(func(catalog.Change) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		defer stop()
		deadline := time.After(patience)
		for {
			var shares map[int32]float64
			if s := w.Snapshot().Share(catalog.DefaultTenant); s != nil {
				shares = s.Rates["producer_byte_rate"]
			}
			total := 0.0
			for _, v := range shares {
				total += v
			}
			if total > budget*1.000001 {
				t.Fatalf("shares sum to %v: %v", total, shares)
			}
			if len(shares) == 3 && ok(shares) {
				return
			}
			select {
			case <-changed:
			case err := <-failed:
				t.Fatal(err)
			case <-deadline:
				t.Fatalf("%s: shares are %v", what, shares)
			}
		}
	}
	first, second := up.ready.Nodes[0].Node, up.ready.Nodes[2].Node
	stop := load(0)
	until("load on the first", func(s map[int32]float64) bool { return s[first] > 0.9*budget })
	stop()
	stop = load(2)
	defer stop()
	until("load on the third", func(s map[int32]float64) bool { return s[second] > 0.9*budget })
}

// TestUsageSurvivesKill: what was counted and written down is there after kill -9, and is
// not there twice.
func TestUsageSurvivesKill(t *testing.T) {
	t.Parallel()
	up := startUpThere(t)
	up.must("topic", "create", "orders", "--partitions", "3")
	cl, err := kgo.NewClient(kgo.SeedBrokers(up.ready.Kafka...), byName())
	if err != nil {
		t.Fatal(err)
	}
	const size, count = 100_000, 20
	for range count {
		if err := produceAt(t.Context(), cl.SeedBrokers()[0], "orders", size); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()
	used := func() (received int64, partitionHours float64, err error) {
		u, err := up.admin.Of(catalog.DefaultTenant).Usage(t.Context(), time.Time{})
		if err == nil && len(u.Tenants) != 1 {
			err = fmt.Errorf("%+v", u)
		}
		if err != nil {
			return 0, 0, err
		}
		return u.Tenants[0].ReceivedBytes, u.Tenants[0].PartitionHours, nil
	}
	var before int64
	wait := func(ok func() error) {
		t.Helper()
		deadline, tick := time.Now().Add(patience), time.NewTicker(50*time.Millisecond)
		defer tick.Stop()
		for err := ok(); err != nil; err = ok() {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			<-tick.C
		}
	}
	wait(func() (err error) {
		var hours float64
		if before, hours, err = used(); err == nil && (before < size*count || hours <= 0) {
			err = errors.New("not written down yet")
		}
		return err
	})
	up.kill()
	up.start()
	after := int64(0)
	wait(func() (err error) {
		after, _, err = used()
		return err
	})
	if after < before || after >= before+size {
		t.Errorf("%d bytes after the restart, %d before", after, before)
	}
}
