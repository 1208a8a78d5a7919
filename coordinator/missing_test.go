package coordinator

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// die is a kill of the gateway, and the end of its lease.
func (g *fleetMember) die() {
	g.freeze()
	g.expire()
}

// trimmedPast tells whether nothing of the log is missing any more since it was written again.
func (l *memLog) trimmedPast() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missing > 0 && l.start >= l.missing
}

func hasCommit(t *testing.T, g *fleetMember, group string, want int64) {
	t.Helper()
	if o, code := fetchOffset(g.c, group, "topic", 0); code != wire.None || o != want {
		t.Errorf("group %s: %d, %v; want %d", group, o, code, want)
	}
}

// waits tells whether the gateway has the only shard, and has looked a few times at what is missing of its log: a shard
// that would answer answers by then.
func waits(g *fleetMember, log *memLog) bool {
	_, code := fetchOffset(g.c, "g", "topic", 0)
	return code != wire.NotCoordinator && log.lookedAt()
}

// A part of a shard's log is lost with its cluster while a gateway has the shard: the state is written again though
// nothing happens in its groups, so the next owner has it without that cluster.
func TestWhatIsLostIsWrittenAgainAtOnce(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	if code := commitOffset(a.c, "g", "topic", 0, 300); code != wire.None {
		t.Fatal(code)
	}
	f.logs[0].goAway(0)
	eventually(t, "the log begins behind what is lost", f.logs[0].trimmedPast)
	a.die()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	hasCommit(t, b, "g", 300)
}

// So it is by an owner that gives the shard back before it came to that.
func TestWhatIsLostIsWrittenAgainBeforeAHandover(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	if code := commitOffset(a.c, "g", "topic", 0, 300); code != wire.None {
		t.Fatal(code)
	}
	f.logs[0].goAway(0)
	a.stop()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	hasCommit(t, b, "g", 300)
}

// No gateway lived that knew what is lost: the shard answers neither that there is nothing nor takes anything, until
// what is lost is back, and then all of it is there; or until it is given up.
func TestShardsWaitForWhatTheyLack(t *testing.T) {
	for _, back := range []bool{true, false} {
		f := newFleet(t, 1, Config{})
		log := f.logs[0]
		a := f.join(1)
		eventually(t, "served", func() bool { return f.ready(1) })
		first := initTxn(a)
		if code := commitOffset(a.c, "g", "topic", 0, 300); code != wire.None || first.ErrorCode != 0 {
			t.Fatal(code, first.ErrorCode)
		}
		a.die()
		log.goAway(0)
		b := f.join(2)
		eventually(t, "the shard has been looked at", func() bool { return waits(b, log) })
		if o, code := fetchOffset(b.c, "g", "topic", 0); code != wire.CoordinatorLoadInProgress {
			t.Errorf("fetch: %d, %v", o, code)
		}
		if code := commitOffset(b.c, "g", "topic", 0, 1); code != wire.CoordinatorLoadInProgress {
			t.Errorf("commit: %v", code)
		}
		if r := initTxn(b); wire.Code(r.ErrorCode) != wire.CoordinatorLoadInProgress {
			t.Errorf("InitProducerId: %v, id %d", wire.Code(r.ErrorCode), r.ProducerID)
		}
		if f.ready(2) || log.trims > 0 {
			t.Error("the shard is ready, or trimmed its log")
		}
		want := int64(300)
		if back {
			log.comeBack()
		} else {
			want = -1
			if err := log.Trim(context.Background(), log.missing); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "served", func() bool { return f.ready(2) })
		hasCommit(t, b, "g", want)
		r := initTxn(b)
		if known := r.ProducerID == first.ProducerID; r.ErrorCode != 0 || known != back || back && r.ProducerEpoch <= first.ProducerEpoch {
			t.Errorf("InitProducerId after it: %+v, before it: %+v", r, first)
		}
		b.stop()
	}
}

// undecidedParticipants are clusters of which one, and the partition that takes markers, hear nothing.
type undecidedParticipants struct{ *killParticipants }

func (c undecidedParticipants) End(ctx context.Context, cluster string, x span.Transaction, commit bool) (span.Transaction, error) {
	if cluster == "y" {
		return span.Transaction{}, errFault
	}
	return c.killParticipants.End(ctx, cluster, x, commit)
}

func (c undecidedParticipants) Mark(context.Context, catalog.ID, int32, batch.Marker) error {
	return errFault
}

// A transaction is decided, one cluster of it has heard of that, and the gateway and the part of the log with the decision are
// lost. While that cannot be read nobody ends what is left of it, and its client is told to come again; then all of it is
// ended as it was decided.
func TestDecidedTransactionWaitsForItsLog(t *testing.T) {
	for _, commit := range []bool{true, false} {
		f := newFleet(t, 1, Config{})
		log, clusters := f.logs[0], newClusters()
		outcome := func(cluster string) (commits, aborts int, open bool) {
			clusters.mu.Lock()
			defer clusters.mu.Unlock()
			for key, x := range clusters.txns {
				if key[:1] == cluster {
					commits, aborts, open = commits+x.commits, aborts+x.aborts, open || x.state == "open"
				}
			}
			return commits, aborts, open
		}
		f.participants = undecidedParticipants{&killParticipants{clusters, nil}}
		a := f.join(1)
		f.participants = nil
		eventually(t, "served", func() bool { return f.ready(1) })
		dead := make(chan struct{})
		var client sync.WaitGroup
		client.Go(func() { runTxnUntil(t, a, commit, dead) })
		eventually(t, "one cluster has heard of the decision", func() bool {
			commits, aborts, _ := outcome("x")
			return commits+aborts == 1
		})
		a.die()
		log.goAway(0)
		close(dead)
		client.Wait()

		b := f.joinTxn(2, clusters, nil)
		eventually(t, "the shard has been looked at", func() bool { return waits(b, log) })
		if r := initTxn(b); wire.Code(r.ErrorCode) != wire.CoordinatorLoadInProgress {
			t.Errorf("commit %v: InitProducerId: %v", commit, wire.Code(r.ErrorCode))
		}
		end := kmsg.NewPtrEndTxnRequest()
		end.Version, end.TransactionalID, end.ProducerID, end.Commit = 5, "pay", catalog.ProducerIDBase, commit
		if code := wire.Code(b.c.EndTxn(t.Context(), Caller{Tenant: "default"}, end).ErrorCode); code != wire.CoordinatorLoadInProgress {
			t.Errorf("commit %v: EndTxn: %v", commit, code)
		}
		_, code := b.c.EnlistLocal(t.Context(), &Enlist{Tenant: "default", ID: "pay", Producer: catalog.ProducerIDBase, Implicit: true,
			At: chain.Enlist{Topic: idOf("topic"), Cluster: "y", Physical: span.Topic{Name: "py", ID: idOf("py")}, Foreign: true}})
		if code != wire.CoordinatorLoadInProgress {
			t.Errorf("commit %v: a batch of the transaction: %v", commit, code)
		}
		if o, code := fetchStable(b.c, "readers"); code != wire.CoordinatorLoadInProgress {
			t.Errorf("commit %v: offset %d, %v", commit, o, code)
		}
		if commits, aborts, open := outcome("y"); commits+aborts > 0 || !open {
			t.Errorf("commit %v: the rest was ended without the decision: %d commits, %d aborts, open %v", commit, commits, aborts, open)
		}

		log.comeBack()
		eventually(t, "the id is free", func() bool { return wire.Code(initTxn(b).ErrorCode) == wire.None })
		want := map[bool]int{true: 1}[commit]
		for _, cluster := range []string{"x", "y"} {
			if commits, aborts, open := outcome(cluster); commits != want || aborts != 1-want || open {
				t.Errorf("commit %v: %s has %d commits and %d aborts, open %v", commit, cluster, commits, aborts, open)
			}
		}
		clusters.mu.Lock()
		if len(clusters.marks) != 1 {
			t.Errorf("commit %v: markers: %+v", commit, clusters.marks)
		}
		for _, all := range clusters.marks {
			for _, m := range all {
				if m.Commit != commit {
					t.Errorf("commit %v: marker %+v", commit, m)
				}
			}
		}
		clusters.mu.Unlock()
		if o, code := fetchStable(b.c, "readers"); code != wire.None || (o == 7) != commit {
			t.Errorf("commit %v: offset %d, %v", commit, o, code)
		}
		b.stop()
	}
}

// A gateway that waits for a shard's log can be stopped, and gives the shard to one that is to have it.
func TestShardThatWaitsIsGivenBack(t *testing.T) {
	f := newFleet(t, 4, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	for n := range f.logs {
		f.mu.Lock()
		f.holds[int32(n)] = true
		f.mu.Unlock()
	}
	a.die()
	for _, l := range f.logs {
		l.goAway(0)
	}
	b := f.join(2)
	eventually(t, "b waits", func() bool {
		return f.logs[0].lookedAt() && f.logs[1].lookedAt() && f.logs[2].lookedAt() && f.logs[3].lookedAt()
	})
	b.stop()
	c := f.join(3)
	for _, l := range f.logs {
		l.comeBack()
	}
	eventually(t, "served", func() bool { return f.ready(3) })
	c.stop()
}

// A shard to which nothing was ever written lacks nothing.
func TestEmptyShardsDoNotWait(t *testing.T) {
	f := newFleet(t, 1, Config{})
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	// To write its log again, which says nothing, does not make it one that holds something.
	f.logs[0].goAway(0)
	eventually(t, "the log begins behind what is lost", f.logs[0].trimmedPast)
	a.die()
	f.logs[0].goAway(0)
	b := f.join(2)
	eventually(t, "served", func() bool { return f.ready(2) })
	if code := commitOffset(b.c, "g", "topic", 0, 1); code != wire.None {
		t.Fatal(code)
	}
	eventually(t, "the log begins behind what is lost", f.logs[0].trimmedPast)
	b.die()
	f.logs[0].goAway(0)
	c := f.join(3)
	eventually(t, "the shard has been looked at", func() bool { return waits(c, f.logs[0]) })
	if o, code := fetchOffset(c.c, "g", "topic", 0); code != wire.CoordinatorLoadInProgress {
		t.Errorf("fetch: %d, %v", o, code)
	}
}

// What was written again behind a loss is enough though the log was not trimmed, and what lies before the loss does not
// count: it may have been removed in what is lost.
func TestSnapshotBehindALossIsEnough(t *testing.T) {
	f := newFleet(t, 1, Config{})
	log := f.logs[0]
	a := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	for _, g := range []string{"stays", "goes"} {
		if code := commitOffset(a.c, g, "topic", 0, 5); code != wire.None {
			t.Fatal(code)
		}
	}
	log.mu.Lock()
	lost := log.end
	log.untrimmed = true
	log.mu.Unlock()
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{"goes"}
	if r := a.c.DeleteGroups(context.Background(), caller, del); r.Groups[0].ErrorCode != 0 {
		t.Fatal(wire.Code(r.Groups[0].ErrorCode))
	}
	log.goAway(lost)
	eventually(t, "it was written again", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.trims > 0
	})
	a.die()
	b := f.join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	hasCommit(t, b, "stays", 5)
	hasCommit(t, b, "goes", -1)
}

// The same with chains: the lost cluster's spans leave the log while an owner lives, and are waited for if none does.
func TestLostSpansOfChains(t *testing.T) {
	f, physical, id, join := onChain(t, 3, Config{SealedAge: time.Hour})
	a := join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	commit := func(g *fleetMember, offset int64) {
		t.Helper()
		for _, group := range []string{"g0", "g1", "g2", "g3", "g4", "g5"} {
			if code := commitOffset(g.c, group, "topic", 0, offset); code != wire.None {
				t.Fatal(code)
			}
		}
	}
	check := func(g *fleetMember, want int64) {
		t.Helper()
		for _, group := range []string{"g0", "g1", "g2", "g3", "g4", "g5"} {
			hasCommit(t, g, group, want)
		}
	}
	move := func(to string) {
		t.Helper()
		if err := physical.MoveTopic(context.Background(), id, to); err != nil {
			t.Fatal(err)
		}
	}
	hide := func(hidden bool) {
		t.Helper()
		for p := range int32(3) {
			err := physical.Catalog.Change(id, p, func(c catalog.Chain) (catalog.Chain, error) {
				c.Spans = slices.Clone(c.Spans)
				for i := range c.Spans {
					s := &c.Spans[i]
					s.Copies = slices.Clone(s.Copies)
					for j := range s.Copies {
						s.Copies[j].Unreadable = hidden && !s.IsOpen()
					}
				}
				return c, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	commit(a, 1)
	move("b")
	hide(true)
	eventually(t, "nothing is missing", func() bool {
		for p := range int32(3) {
			if c := physical.Catalog.Chain(id, p); chain.Missing(&c, "") > 0 {
				return false
			}
		}
		return true
	})
	a.die()
	b := join(2)
	eventually(t, "taken over", func() bool { return f.ready(2) })
	check(b, 1)
	commit(b, 2)
	move("a")
	b.die()
	hide(true)
	c := join(3)
	eventually(t, "all shards are claimed", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.shards) == 3
	})
	if o, code := fetchOffset(c.c, "g0", "topic", 0); code == wire.None {
		t.Errorf("a shard that lacks a part of its log answers %d", o)
	}
	hide(false)
	eventually(t, "served", func() bool { return f.ready(3) })
	check(c, 2)
}
