package controller

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func wantProblem(t *testing.T, err error, p Problem, text string) {
	t.Helper()
	var req *RequestError
	if !errors.As(err, &req) || req.Problem != p || !strings.Contains(req.Error(), text) {
		t.Errorf("error %v, want %s with %q", err, p, text)
	}
}

func wantCode(t *testing.T, err error, code wire.Code, text string) {
	t.Helper()
	var r *span.RejectedError
	if !errors.As(err, &r) || r.Code != code || !strings.Contains(r.Detail, text) {
		t.Errorf("error %v, want %v with %q", err, code, text)
	}
}

func TestTopicsAreCreatedConfiguredGrownAndDeleted(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	c := f.controller(func(o *Options) { o.SweepEvery, o.OrphanAge = 20*time.Millisecond, 50*time.Millisecond })
	topic := f.topic("orders", 2, "", map[string]string{"max.message.bytes": "1000000", ConfigDurability: "os"})
	open := chain.OpenSpan(f.chain(topic, 1)).Copies[0]
	if open.Cluster != "a" || open.Partition != 1 || !strings.HasPrefix(open.Topic, "braid."+f.cat.Fleet()+".default.orders.") {
		t.Errorf("copy: %+v", open)
	}
	physical := func(key string) (v string) {
		f.doubles["a"].set(func() { v = f.doubles["a"].topics[open.Topic].config[key] })
		return v
	}
	for k, want := range map[string]string{"max.message.bytes": "1065536", "retention.ms": "-1", "retention.bytes": "-1", ConfigDurability: "os",
		"message.timestamp.type": "CreateTime", "unclean.leader.election.enable": "false", "compression.type": "producer", "cleanup.policy": "delete"} {
		if got := physical(k); got != want {
			t.Errorf("%s is %q, want %q", k, got, want)
		}
	}
	if other := f.topic("others", 2, "", nil); chain.OpenSpan(f.chain(other, 0)).Copies[0].Cluster != "b" {
		t.Error("the second topic is not on the cluster with fewer partitions")
	}

	create := func(spec gateway.TopicSpec) error {
		spec.Tenant = catalog.DefaultTenant
		_, err := f.admin.CreateTopic(f.ctx, spec)
		return err
	}
	wantCode(t, create(gateway.TopicSpec{Name: "orders", Partitions: 1}), wire.TopicAlreadyExists, "exists")
	wantCode(t, create(gateway.TopicSpec{Name: "x", Partitions: 0}), wire.InvalidPartitions, "partitions")
	wantCode(t, create(gateway.TopicSpec{Name: "x", Partitions: 1, Config: map[string]string{"retention.mss": "1"}}), wire.InvalidConfig, "retention.ms?")
	wantCode(t, create(gateway.TopicSpec{Name: "x", Partitions: 1, Config: map[string]string{"cleanup.policy": "shred"}}), wire.InvalidConfig, "list of")
	f.check(create(gateway.TopicSpec{Name: "validated", Partitions: 1, ValidateOnly: true}))
	if f.watch.Snapshot().TopicByName(catalog.DefaultTenant, "validated") != nil {
		t.Error("validation made a topic")
	}
	_, err := f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: catalog.DefaultTenant, Name: "x", Partitions: 1}, "aa")
	wantProblem(t, err, Unknown, "did you mean a?")

	f.check(f.admin.SetConfig(f.ctx, catalog.DefaultTenant, "orders", map[string]string{"max.message.bytes": "2000000", "retention.ms": "1000"}))
	if physical("max.message.bytes") != "2065536" || physical("retention.ms") != "-1" {
		t.Error("physical configs did not follow")
	}
	alter := func(ch ...gateway.ConfigChange) error {
		return f.admin.AlterConfig(f.ctx, gateway.ConfigAlter{Tenant: catalog.DefaultTenant, Name: "orders", Changes: ch})
	}
	f.check(alter(gateway.ConfigChange{Key: "cleanup.policy", Op: gateway.ConfigAppend, Value: "compact"}, gateway.ConfigChange{Key: "retention.ms", Op: gateway.ConfigDelete}))
	now := f.watch.Snapshot().TopicByName(catalog.DefaultTenant, "orders")
	if now.Config["cleanup.policy"] != "delete,compact" || now.Config["retention.ms"] != "" || now.Config["max.message.bytes"] != "2000000" {
		t.Errorf("configs: %v", now.Config)
	}
	for _, policy := range []struct{ change, kept, there string }{{"delete,compact", "", "delete"}, {"compact", "compact", "compact"}, {"compact", "", "delete"}, {"delete", "delete", "delete"}} {
		op := gateway.ConfigSubtract
		if policy.kept != "" {
			op = gateway.ConfigAppend
		}
		f.check(alter(gateway.ConfigChange{Key: "cleanup.policy", Op: op, Value: policy.change}))
		if got := f.watch.Snapshot().TopicByName(catalog.DefaultTenant, "orders").Config["cleanup.policy"]; got != policy.kept || physical("cleanup.policy") != policy.there {
			t.Errorf("after %d %s: %q, physically %q, want %q and %q", op, policy.change, got, physical("cleanup.policy"), policy.kept, policy.there)
		}
	}
	wantCode(t, create(gateway.TopicSpec{Name: "x", Partitions: 1, Config: map[string]string{"cleanup.policy": "compact,"}}), wire.InvalidConfig, "list of")
	wantCode(t, alter(gateway.ConfigChange{Key: "retention.ms", Op: gateway.ConfigAppend, Value: "1"}), wire.InvalidConfig, "not a list")

	grow := func(n int32) error {
		return f.admin.GrowTopic(f.ctx, gateway.GrowSpec{Tenant: catalog.DefaultTenant, Name: "orders", Total: n})
	}
	f.check(grow(5))
	w := f.writer(topic, 4, 100)
	w.append(3)
	w.verify()
	wantCode(t, grow(5), wire.InvalidPartitions, "5")
	if op := f.done(f.move("b", "orders")); op.State != catalog.OpDone {
		t.Errorf("move after growth: %+v", op)
	}
	w.append(1)
	w.verify()

	f.check(f.admin.DeleteTopic(f.ctx, catalog.DefaultTenant, topic.ID))
	again := f.topic("orders", 1, "b", nil)
	f.until("the physical topics to be deleted", func() bool {
		left := 0
		for _, d := range f.doubles {
			d.set(func() {
				for n := range d.topics {
					if strings.Contains(n, ".orders.") {
						left++
					}
				}
			})
		}
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		return left == 1 && s.TopicByID(topic.ID) == nil
	})
	if got := f.watch.Snapshot().TopicByName(catalog.DefaultTenant, "orders"); got == nil || got.ID != again.ID {
		t.Error("the new topic of the same name is gone")
	}
	// An orphan, and a topic of another fleet that is none of our business.
	for _, n := range []string{physicalName(f.cat.Fleet(), "default", "orphan"), physicalName("other1", "default", "theirs"), "native"} {
		if _, err := f.doubles["a"].Create(f.ctx, span.Spec{Name: n, Partitions: 1, Config: map[string]string{}}); err != nil {
			t.Fatal(err)
		}
	}
	f.until("the orphan to be swept", func() (gone bool) {
		f.doubles["a"].set(func() {
			gone = true
			for n := range f.doubles["a"].topics {
				gone = gone && !strings.Contains(n, ".orphan.")
			}
		})
		return gone
	})
	f.doubles["a"].set(func() {
		if len(f.doubles["a"].topics) != 2 {
			t.Errorf("left on a: %v", f.doubles["a"].topics)
		}
	})
	_ = c
}

// A cluster of an older release refuses configs that it does not know.
func TestCreateOnOlderRelease(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a")
	f.doubles["a"].unknown = newer
	topic := f.topic("t", 1, "a", nil)
	f.doubles["a"].set(func() {
		for _, x := range f.doubles["a"].topics {
			if x.config[difference] != forever {
				t.Errorf("configs: %v", x.config)
			}
		}
	})
	if topic.Partitions != 1 {
		t.Error(topic)
	}
}

func TestClusters(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.doubles["c"] = f.doubles["a"] // before the controller reads the map
	f.doubles["d"] = newDouble("d")
	f.doubles["d"].full = true
	f.doubles["e"], f.doubles["mute"] = newDouble("e"), newDouble("mute")
	f.doubles["e"].unasked, f.doubles["mute"].unasked = 2, 1<<30
	f.controller()
	topic := f.topic("t", 1, "a", map[string]string{"retention.ms": "3600000"})
	w := f.writer(topic, 0, 1)
	w.append(1)
	add := func(name string, spec ClusterSpec) error {
		spec.Name, spec.Kind = name, catalog.KindLocal
		_, err := f.admin.AddCluster(f.ctx, spec)
		return err
	}
	wantProblem(t, add("c", ClusterSpec{}), Exists, "as a")
	wantProblem(t, add("a", ClusterSpec{}), Exists, "cluster a exists")
	wantProblem(t, add("A B", ClusterSpec{}), Invalid, "no name")
	wantProblem(t, add("none", ClusterSpec{}), Unavailable, "none")
	wantProblem(t, add("d", ClusterSpec{}), Refused, "disk is full")
	// One that is too busy to say at once whether it grants a seal is asked again.
	f.check(add("e", ClusterSpec{}))
	if s, err := f.watch.Refresh(f.ctx); err != nil || !s.Cluster("e").CanSeal {
		t.Errorf("it grants a seal: %v", err)
	}
	short, cancel := context.WithTimeout(f.ctx, 200*time.Millisecond)
	defer cancel()
	_, err := f.admin.AddCluster(short, ClusterSpec{Name: "mute", Kind: catalog.KindLocal})
	wantProblem(t, err, Unavailable, "ALTER_CONFIGS")
	_, err = f.admin.AddCluster(f.ctx, ClusterSpec{Name: "k"})
	wantProblem(t, err, Invalid, "bootstrap")
	wantProblem(t, f.admin.RemoveCluster(f.ctx, "a"), Refused, "topic t")
	wantProblem(t, f.admin.RemoveCluster(f.ctx, "a"), Refused, "braid cluster drain a")
	wantProblem(t, f.admin.RemoveCluster(f.ctx, "zzz"), Unknown, "zzz")
	if h, err := f.admin.ClusterHealth(f.ctx, "a"); err != nil || h.ClusterID != "id-a" {
		t.Errorf("health: %+v, %v", h, err)
	}

	op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpDrain, Cluster: "a"})
	f.check(err)
	if op = f.done(op); op.State != catalog.OpDone {
		t.Fatalf("drain: %+v", op)
	}
	if c := f.watch.Snapshot().Cluster("a"); c.State != catalog.ClusterDraining {
		t.Errorf("state after the drain: %s", c.State)
	}
	_, err = f.admin.CreateTopicOn(f.ctx, gateway.TopicSpec{Tenant: catalog.DefaultTenant, Name: "u", Partitions: 1}, "a")
	wantProblem(t, err, Refused, "draining")
	_, err = f.admin.CreateTopic(f.ctx, gateway.TopicSpec{Tenant: catalog.DefaultTenant, Name: "u", Partitions: 1, Config: map[string]string{ConfigCluster: "a"}})
	var rejected *span.RejectedError
	if !errors.As(err, &rejected) || rejected.Code != wire.PolicyViolation || !strings.Contains(rejected.Detail, "draining") {
		t.Errorf("a client that names the cluster is told %v", err)
	}
	kept, err := f.admin.Kept(f.ctx, "a")
	f.check(err)
	if len(kept) != 1 || kept[0].Spans != 1 || time.Until(kept[0].Until) > time.Hour || time.Until(kept[0].Until) < 50*time.Minute {
		t.Errorf("kept: %+v", kept)
	}
	// It is drained: what is left to do is to wait, and for how long is said.
	err = f.admin.RemoveCluster(f.ctx, "a")
	wantProblem(t, err, Refused, "holds records of topic t, partition 0, in sealed spans: retention lets the last of them go at "+kept[0].Until.Format("2006-01-02 15:04"))
	if strings.Contains(err.Error(), "cluster drain") || !strings.Contains(err.Error(), "braid cluster describe a") {
		t.Errorf("what to do is: %v", err)
	}
	f.check(f.admin.SetConfig(f.ctx, catalog.DefaultTenant, "t", map[string]string{"retention.ms": "-1"}))
	wantProblem(t, f.admin.RemoveCluster(f.ctx, "a"), Refused, "1 topic is kept until deleted")
	f.check(f.admin.DeleteTopic(f.ctx, catalog.DefaultTenant, topic.ID))
	f.until("the topic to be gone", func() bool {
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		return s.TopicByID(topic.ID) == nil
	})
	f.check(f.admin.RemoveCluster(f.ctx, "a"))
}

func TestOperationsAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c")
	f.controller()
	topic := f.topic("orders", 1, "a", map[string]string{ConfigMaxSpans: "2"})
	w := f.writer(topic, 0, 100)
	submit := func(r OpRequest) error {
		_, err := f.admin.Submit(f.ctx, r)
		return err
	}
	wantProblem(t, submit(OpRequest{Kind: catalog.OpMove, Topics: []string{"order"}, To: "b"}), Unknown, "did you mean orders?")
	wantProblem(t, submit(OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "bb"}), Unknown, "did you mean b?")
	wantProblem(t, submit(OpRequest{Kind: catalog.OpMove, To: "b"}), Invalid, "no topics")
	wantProblem(t, submit(OpRequest{Kind: "paint"}), Invalid, "paint")
	wantProblem(t, submit(OpRequest{Kind: catalog.OpDrain, Cluster: "a", To: "a"}), Invalid, "itself")
	wantProblem(t, submit(OpRequest{Kind: catalog.OpDrain, Cluster: "nowhere"}), Unknown, "nowhere")

	// A target that is down, full, or denies: refused in prepare, the topic untouched.
	for _, breakIt := range []func(d *double){func(d *double) { d.away = true }, func(d *double) { d.full = true }} {
		f.doubles["b"].set(func() { breakIt(f.doubles["b"]) })
		w.append(1)
		op := f.done(f.move("b", "orders"))
		if op.State != catalog.OpFailed || !strings.Contains(op.Message, "b") {
			t.Errorf("move to a broken target: %+v", op)
		}
		if n := len(f.chain(topic, 0).Spans); n != 1 || f.doubles["a"].seals != 0 {
			t.Errorf("%d spans, %d seals", n, f.doubles["a"].seals)
		}
		f.doubles["b"].set(func() { f.doubles["b"].away, f.doubles["b"].full = false, false })
	}

	// Two moves at once: the second is refused with the first's id.
	f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].openTxn = true })
	first := f.move("b", "orders")
	wantProblem(t, submit(OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "c"}), Busy, first.ID)
	f.until("the extend", func() bool { return f.watch.Snapshot().Extend(topic.ID) != nil })
	// It waits for the move, for as long as its caller does: long enough at least to find it.
	for wait := 150 * time.Millisecond; ; wait *= 2 {
		ctx, cancel := context.WithTimeout(f.ctx, wait)
		err := f.admin.GrowTopic(ctx, gateway.GrowSpec{Tenant: catalog.DefaultTenant, Name: "orders", Total: 2})
		cancel()
		if errors.Is(err, catalog.ErrUnavailable) && wait < patience {
			continue
		}
		wantProblem(t, err, Busy, first.ID)
		break
	}
	f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].openTxn = false })
	if first = f.done(first); first.State != catalog.OpDone {
		t.Fatalf("%+v", first)
	}
	w.append(1)
	w.verify()
	if _, err := f.admin.Cancel(f.ctx, first.ID); err == nil {
		t.Error("a finished operation was cancelled")
	}
	wantProblem(t, submit(OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "c"}), Refused, "2 spans")
}

// Deleting a topic while it is being moved undoes the move and deletes both
// physical topics.
func TestDeleteDuringMove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b")
	f.controller()
	topic := f.topic("orders", 1, "a", nil)
	w := f.writer(topic, 0, 100)
	w.append(1)
	f.doubles["a"].set(func() { f.doubles["a"].topics[physicalNameOf(f.chain(topic, 0))].parts[0].openTxn = true })
	op := f.move("b", "orders")
	f.until("the fresh topic", func() (made bool) {
		f.doubles["b"].set(func() { made = len(f.doubles["b"].topics) == 1 })
		return made
	})
	f.check(f.admin.DeleteTopic(f.ctx, catalog.DefaultTenant, topic.ID))
	if op = f.done(op); op.State != catalog.OpFailed {
		t.Errorf("%+v", op)
	}
	f.until("everything to be gone", func() bool {
		n := 0
		for _, d := range f.doubles {
			d.set(func() { n += len(d.topics) })
		}
		s, err := f.watch.Refresh(f.ctx)
		f.check(err)
		return n == 0 && s.TopicByID(topic.ID) == nil && s.Extend(topic.ID) == nil
	})
}

// Of moves of one topic that are asked for at the same moment one is taken up; the
// others are told by which operation they are too late, also where it is now.
func TestOneOfManyMovesIsTaken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c") // no controller: what is taken stays
	f.topic("orders", 1, "a", nil)
	const askers = 12
	taken, late := make([]string, askers), make([]error, askers)
	var all sync.WaitGroup
	for i := range askers {
		all.Go(func() {
			op, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: []string{"b", "c"}[i%2]})
			if taken[i], late[i] = op.ID, err; err != nil {
				taken[i] = ""
			}
		})
	}
	all.Wait()
	taken = slices.DeleteFunc(taken, func(id string) bool { return id == "" })
	if len(taken) != 1 {
		t.Fatalf("%d moves were taken: %v", len(taken), late)
	}
	for _, err := range late {
		if err != nil {
			wantProblem(t, err, Busy, taken[0])
		}
	}
	_, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpMove, Topics: []string{"orders"}, To: "a"})
	wantProblem(t, err, Busy, taken[0])
}
