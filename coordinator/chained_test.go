package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/chain/chaintest"
	"github.com/braidstream/braid/wire"
)

// The internal topic is a chain that moves between clusters while offsets are
// committed and gateways come, stop and freeze.
func TestLogsAreChainsThatMove(t *testing.T) {
	ctx := context.Background()
	const shards = 4
	physical := chaintest.NewFleet("a", "b")
	defer physical.Close()
	id, err := physical.CreateTopic(ctx, TopicName, "a", shards)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, shards, Config{SnapshotBytes: 8 << 10})
	var mu sync.Mutex
	members := map[int32]*fleetMember{}
	add := func(node int32) {
		clients := physical.Clients()
		logs := chain.NewLogs(chain.Options{Source: physical.Catalog.View(), Stores: clients, Node: node, Logger: quiet()})
		t.Cleanup(func() { logs.Close(); clients.Close() })
		f.open = func(node int32) func(catalog.Topic, int32) (Log, error) {
			return func(_ catalog.Topic, partition int32) (Log, error) {
				return ChainLogs(logs).Open(catalog.Topic{Name: TopicName, ID: id}, partition)
			}
		}
		g := f.join(node)
		mu.Lock()
		members[node] = g
		mu.Unlock()
	}
	at := func(group string) *fleetMember {
		mu.Lock()
		defer mu.Unlock()
		for _, g := range members {
			if node, ok := g.c.Owner("default", KeyGroup, group); ok {
				return members[node]
			}
		}
		return nil
	}
	add(1)
	add(2)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var acknowledged atomic.Int64
	last := make([]int64, 12)
	for w := range last {
		wg.Go(func() {
			group := fmt.Sprint("g", w)
			for next := int64(1); ; {
				select {
				case <-stop:
					return
				default:
				}
				g := at(group)
				if g == nil {
					continue
				}
				if code := commitOffset(g.c, group, "topic", 0, next); code == wire.None {
					last[w] = next
					next++
					acknowledged.Add(1)
				}
			}
		})
	}
	for round := range int32(6) {
		before := acknowledged.Load()
		eventually(t, "commits go on", func() bool { return acknowledged.Load() > before+100 })
		if err := physical.MoveTopic(ctx, id, []string{"b", "a"}[round%2]); err != nil {
			t.Fatal(err)
		}
		before = acknowledged.Load()
		eventually(t, "commits go on after the move", func() bool { return acknowledged.Load() > before+100 })
		add(round + 3)
		mu.Lock()
		old := members[round+1]
		mu.Unlock()
		if round%2 == 0 {
			old.stop()
		} else {
			old.freeze()
			old.expire()
		}
		mu.Lock()
		delete(members, round+1)
		mu.Unlock()
	}
	close(stop)
	wg.Wait()
	eventually(t, "settled", func() bool { return f.ready(7, 8) })
	for w, want := range last {
		group := fmt.Sprint("g", w)
		if o, code := fetchOffset(at(group).c, group, "topic", 0); code != wire.None || o != want && o != want+1 {
			t.Errorf("%s: %d, %v; acknowledged %d", group, o, code, want)
		}
	}
	trimmed := false
	for p := range int32(shards) {
		c := physical.Catalog.Chain(id, p)
		trimmed = trimmed || c.Start > 0
	}
	if !trimmed {
		t.Error("no shard's chain was trimmed")
	}
	t.Logf("%d commits", acknowledged.Load())
}

// 100,000 offsets, each committed by itself, are replayed in a second.
func TestReplayIsFast(t *testing.T) {
	const groups, partitions = 1000, 100
	f := newFleet(t, 1, Config{})
	c, err := New(Options{Node: 1, Leases: &fleetMember{memFleet: f}, Directory: &fleetMember{memFleet: f}, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	old, s := newShard(c, 0), newShard(c, 0)
	old.log, old.lease = f.logs[0], catalog.Shard{Term: 1}
	s.log, s.lease = f.logs[0], catalog.Shard{Term: 2}
	if err := old.fence(context.Background()); err != nil {
		t.Fatal(err)
	}
	for p := range int32(partitions) {
		var records []record
		for g := range groups {
			r := &offsetsRecord{key: groupKey{"default", fmt.Sprint("group-", g)}, committed: 1_700_000_000_000, expires: -1, topics: []topicOffsets{
				{name: "topic-of-orders", id: idOf("topic-of-orders"), partitions: []partitionOffset{{p, 123_456_789, 4, ""}}},
			}}
			records = append(records, r.encode())
		}
		b, err := old.batch(records, old.id, old.epoch, old.seq)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := old.append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		old.seq += groups
	}
	if err := s.fence(context.Background()); err != nil {
		t.Fatal(err)
	}
	m := newMachine(f.config.withDefaults(), newUUID, allTopics{}, quiet())
	began := time.Now()
	r, err := replay(context.Background(), f.logs[0], m, 2, 0)
	took := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	offsets := 0
	for _, g := range m.groups {
		for _, s := range g.offsets {
			offsets += len(s.partitions)
		}
	}
	t.Logf("%d offsets in %d bytes, %v", offsets, r.size, took)
	if offsets != groups*partitions {
		t.Errorf("%d offsets", offsets)
	}
}
