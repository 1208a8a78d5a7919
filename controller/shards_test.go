package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/gateway"
)

func (f *fleet) shards(partitions int32, cluster string) catalog.Topic {
	f.t.Helper()
	t, err := f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: catalog.SystemTenant, Name: coordinator.TopicName, Partitions: partitions,
		Config: coordinator.TopicConfig()}, cluster)
	f.check(err)
	return t
}

// Shards whose logs were lost in part say so, with what an operator can do; that gives up what they wait for, and nothing of shards
// that answer.
func TestShardsThatWaitAreGivenUpByForce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	topic := f.shards(4, "a")
	for p := range 4 {
		f.writer(topic, p, 100+int64(p)).append(2)
	}
	g, err := f.cat.Register(f.ctx, catalog.Gateway{Node: 7}, patience)
	f.check(err)
	defer func() { f.check(g.Close(f.ctx)) }()
	// 0 and 1 hold something and are being loaded, 2 answers, 3 is empty.
	for n := range int32(4) {
		s, err := f.cat.ClaimShard(f.ctx, g, n)
		f.check(err)
		if n == 3 {
			break
		}
		f.check(f.cat.SetShardHolds(f.ctx, s))
		f.check(f.cat.ReleaseShard(f.ctx, s))
		s, err = f.cat.ClaimShard(f.ctx, g, n)
		f.check(err)
		if n == 2 {
			_, err = f.cat.SetShardReady(f.ctx, s, true)
			f.check(err)
		}
	}
	snapshot := func() *catalog.Snapshot {
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		return s
	}
	if text := ShardsText(snapshot(), "a"); text != "" {
		t.Errorf("while all is well: %s", text)
	}
	f.gateway(1)
	f.doubles["a"].set(func() { f.doubles["a"].away = true })
	f.until("the failover", func() bool {
		return chain.Missing(f.chain(topic, 0), "") > 0 && chain.Missing(f.chain(topic, 3), "") > 0
	})
	s := snapshot()
	for _, want := range []string{"2 of 4 coordinator shards wait for cluster a", "braid failover a --force", "--dry-run"} {
		if text := ShardsText(s, "a"); !strings.Contains(text, want) {
			t.Errorf("%q is not in %q", want, text)
		}
	}
	if text := ShardsText(s, "b"); text != "" {
		t.Errorf("of the cluster that is well: %s", text)
	}
	for force, want := range map[bool]string{false: "--force gives it up for good", true: "are lost for good"} {
		p, err := f.admin.Plan(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", Force: force})
		f.check(err)
		if costs := strings.Join(p.Costs, "; "); !strings.Contains(costs, "2 of 4 coordinator shards") || !strings.Contains(costs, want) {
			t.Errorf("costs, force %v: %s", force, costs)
		}
	}
	failover := func(force bool) {
		op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailover, Cluster: "a", Force: force})
		f.check(err)
		if op = f.done(op); op.State != catalog.OpDone {
			t.Fatalf("%+v", op)
		}
	}
	failover(false)
	if chain.Missing(f.chain(topic, 0), "a") == 0 {
		t.Error("given up without force")
	}
	failover(true)
	for p, kept := range []bool{false, false, true, true} {
		if missing := chain.Missing(f.chain(topic, p), "a"); missing > 0 != kept {
			t.Errorf("shard %d: missing up to %d, kept %v", p, missing, kept)
		}
	}
	if text := ShardsText(snapshot(), "a"); text != "" {
		t.Errorf("when it is given up: %s", text)
	}
}

// What comes back of a state log is read where it is: behind what was written since it would undo that.
func TestShardLogsComeBackInPlace(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	topic := f.shards(1, "a")
	w := f.writer(topic, 0, 100)
	w.append(5)
	f.gateway(1, w)
	h := &doubleHandle{d: f.doubles["a"], topic: topicOf(chain.OpenSpan(f.chain(topic, 0))), partition: 0}
	f.doubles["a"].set(func() {
		if _, err := h.append(oneBatch(999, 0, 0, 3, time.Now(), "lonely")); err != nil {
			t.Error(err)
		}
		f.doubles["a"].away = true
	})
	f.until("the failover", func() bool { return chain.OpenSpan(f.chain(topic, 0)).Copies[0].Cluster == "b" })
	w.append(1)
	f.doubles["a"].set(func() { f.doubles["a"].away = false })
	f.until("the return", func() bool {
		return !sealedOn(f.chain(topic, 0), "a", true) && f.watch.Snapshot().Extend(topic.ID) == nil
	})
	have := f.records(topic, 0)
	for at := int64(5); at < 8; at++ {
		if !strings.HasPrefix(have[at], "lonely") {
			t.Errorf("offset %d: %q", at, have[at])
		}
	}
	if len(have) != len(w.acked)+3 {
		t.Errorf("%d records, want %d: %v", len(have), len(w.acked)+3, have)
	}
}
