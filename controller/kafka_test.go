package controller

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/controller/vote"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
)

// A real Kafka cluster takes the physical configs, is moved onto and off, is
// killed, failed over by the votes, comes back and gets its topic back, while an
// idempotent producer appends through a gateway's logs.
func TestRealKafkaMovesFailsOverAndReturns(t *testing.T) {
	t.Parallel()
	east := testkit.Kafka(t)
	f, es := localFleet(t, "a")
	f.admin.Dial = func(_ context.Context, c catalog.Cluster) (span.Store, error) {
		return kafka.Open(kafka.Options{Name: c.Name, Bootstrap: c.Bootstrap, Config: c.Config, ClusterID: c.ClusterID, Logger: logger()})
	}
	st, err := kafka.Open(kafka.Options{Name: "east", Bootstrap: east.Addrs(), Logger: logger()})
	f.check(err)
	t.Cleanup(func() { f.check(st.Close()) })
	es["east"] = st
	c, err := f.admin.AddCluster(f.ctx, ClusterSpec{Name: "east", Bootstrap: east.Addrs()})
	f.check(err)
	if c.ClusterID == "" || !c.CanSeal {
		t.Errorf("cluster: %+v", c)
	}
	f.controller(reported, func(o *Options) { o.Stores, o.Damping = es, 500*time.Millisecond })
	topic, err := f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: catalog.DefaultTenant, Name: "orders", Partitions: 2,
		Config: map[string]string{ConfigGuarantee: guaranteeAvailable}}, "east")
	f.check(err)

	s, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 1}, 2*time.Second)
	f.check(err)
	t.Cleanup(func() { f.check(s.Close(context.Background())) })
	v := vote.Start(f.cat, f.watch, s, es, logger())
	t.Cleanup(v.Close)
	logs := chain.NewLogs(chain.Options{Watcher: f.watch, Catalog: f.cat, Stores: es, Node: 1, Alive: s.Alive, Logger: logger()})
	t.Cleanup(logs.Close)
	part, err := logs.Partition(topic.ID, 0)
	f.check(err)
	x := &producer{id: catalog.ProducerIDBase, part: part, acked: map[int64]int32{}}
	ctx, stop := context.WithCancel(f.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { x.run(ctx) })
	more := func(n int) {
		x.mu.Lock()
		was := len(x.acked)
		x.mu.Unlock()
		f.until("appends", func() bool {
			x.mu.Lock()
			defer x.mu.Unlock()
			return len(x.acked) >= was+n
		})
	}
	more(20)
	for _, to := range []string{"a", "east"} {
		op := f.done(f.move(to, "orders"))
		if op.State != catalog.OpDone {
			t.Fatalf("move to %s: %+v", to, op)
		}
		for _, p := range f.certificate(topic, op.ID).Partitions {
			if p.Verdict != catalog.VerdictVerified {
				t.Errorf("move to %s: %+v", to, p)
			}
		}
		more(20)
	}
	t.Logf("longest time without an acknowledgement over two moves: %v", x.longest)
	cl, err := kgo.NewClient(kgo.SeedBrokers(east.Addrs()...))
	f.check(err)
	defer cl.Close()
	fresh, full := chain.OpenSpan(f.chain(topic, 0)).Copies[0].Topic, strconv.FormatInt(indexBytes(nil), 10)
	f.until("indexes of full size on the fresh topic", func() bool {
		cs, err := kadm.NewClient(cl).DescribeTopicConfigs(f.ctx, fresh)
		f.check(err)
		return slices.ContainsFunc(cs[0].Configs, func(c kadm.Config) bool { return c.Key == indexSize && c.MaybeValue() == full })
	})

	x.mu.Lock()
	x.longest = 0
	x.mu.Unlock()
	f.check(east.Kill())
	f.until("the failover", func() bool { return chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster == "a" })
	more(20)
	x.mu.Lock()
	t.Logf("longest time without an acknowledgement over the failover: %v", x.longest)
	x.mu.Unlock()
	f.check(east.Start(f.ctx))
	f.until("the return", func() bool {
		return !sealedOn(f.chain(topic, 0), "east", true) && f.watch.Snapshot().Extend(topic.ID) == nil
	})
	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "east"})
	f.check(err)
	if op = f.done(op); op.State != catalog.OpDone {
		t.Errorf("failback: %+v", op)
	}
	more(20)
	stop()
	wg.Wait()
	if len(x.errs) > 0 {
		t.Errorf("%d appends failed, the first: %v", len(x.errs), x.errs[0])
	}
	var have map[int64]string
	storesOf(f, es, func() { have = f.records(topic, 0) })
	for at, seq := range x.acked {
		if have[at] != value(seq) {
			t.Errorf("offset %d: acknowledged %s, read %s", at, value(seq), have[at])
		}
	}
	t.Logf("%d acknowledged, %d in the chain", len(x.acked), len(have))
}
