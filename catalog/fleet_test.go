package catalog

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestNumbersAreGivenOnce(t *testing.T) {
	c := open(t)
	var mu sync.Mutex
	ids := map[int64]bool{}
	nodes := map[string]int32{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				given, err := c.ProducerIDs(t.Context(), 10)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, id := range given {
					if ids[id] || id < ProducerIDBase {
						t.Errorf("id %d", id)
					}
					ids[id] = true
				}
				mu.Unlock()
			}
			for _, a := range []string{"h:1", "h:2", "h:3"} {
				n, err := c.NodeID(t.Context(), a)
				mu.Lock()
				if old, ok := nodes[a]; err != nil || n < 1 || ok && old != n {
					t.Errorf("node of %s is %d, was %d: %v", a, n, old, err)
				}
				nodes[a] = n
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if nodes["h:1"] == nodes["h:2"] || nodes["h:2"] == nodes["h:3"] {
		t.Errorf("nodes: %v", nodes)
	}
	if a, b := must(c.InternalToken(t.Context()))(t), must(c.InternalToken(t.Context()))(t); a != b || len(a) != 64 {
		t.Errorf("tokens %q, %q", a, b)
	}
}

func TestShardTermsGrow(t *testing.T) {
	c := open(t)
	one := must(c.Register(t.Context(), Gateway{Node: 901}, 2*time.Second))(t)
	two := must(c.Register(t.Context(), Gateway{Node: 902}, 2*time.Second))(t)
	s := must(c.ClaimShard(t.Context(), one, 7))(t)
	if s.Node != 901 || s.Ready {
		t.Errorf("%+v", s)
	}
	if _, err := c.ClaimShard(t.Context(), two, 7); !errors.Is(err, ErrExists) {
		t.Errorf("claim of an owned shard: %v", err)
	}
	ready := must(c.SetShardReady(t.Context(), s, true))(t)
	if _, err := c.SetShardReady(t.Context(), s, true); !errors.Is(err, ErrConflict) {
		t.Errorf("ready at an old revision: %v", err)
	}
	if err := c.ReleaseShard(t.Context(), ready); err != nil {
		t.Fatal(err)
	}
	s2 := must(c.ClaimShard(t.Context(), two, 7))(t)
	if s2.Term <= s.Term {
		t.Errorf("terms %d, %d", s.Term, s2.Term)
	}
	s2 = must(c.SetShardReady(t.Context(), s2, true))(t)
	// The shard hangs on the lease, also after it was rewritten.
	if err := two.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s3 := must(c.ClaimShard(t.Context(), one, 7))(t)
	if s3.Term <= s2.Term || must(c.ShardTerm(t.Context(), 7))(t) != s3.Term {
		t.Errorf("terms %d, %d", s2.Term, s3.Term)
	}
	if err := one.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ClaimShard(t.Context(), one, 7); !errors.Is(err, ErrSessionLost) {
		t.Errorf("claim with a closed session: %v", err)
	}
}

// A shard is empty until an owner says that it holds something, and then never again.
func TestShardsAreEmptyAtFirst(t *testing.T) {
	c := open(t)
	g := must(c.Register(t.Context(), Gateway{Node: 903}, time.Minute))(t)
	claim := func(empty bool) Shard {
		t.Helper()
		s := must(c.ClaimShard(t.Context(), g, 8))(t)
		if s.Empty != empty {
			t.Errorf("term %d: %+v", s.Term, s)
		}
		return s
	}
	release := func(s Shard) {
		t.Helper()
		if err := c.ReleaseShard(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	first := claim(true)
	release(first)
	second := claim(true)
	if err := c.SetShardHolds(t.Context(), first); !errors.Is(err, ErrConflict) {
		t.Errorf("of a former owner: %v", err)
	}
	for range 2 {
		if err := c.SetShardHolds(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	}
	second = must(c.SetShardReady(t.Context(), second, true))(t)
	release(second)
	release(claim(false))
	// Terms that an earlier build has written say nothing of it.
	if _, err := c.put(t.Context(), "term", termKey(9), 0, Fence{}, counter{Next: 3}); err != nil {
		t.Fatal(err)
	}
	if s := must(c.ClaimShard(t.Context(), g, 9))(t); s.Empty || s.Term != 4 {
		t.Errorf("%+v", s)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The clock goes on in suspend: a session whose machine slept is not alive at
// the first look after it woke, before anything was told.
func TestSessionEndsByTheBootClock(t *testing.T) {
	c := open(t)
	w := watch(t, c)
	var skew atomic.Int64
	now := func() time.Duration { return bootTime() + time.Duration(skew.Load()) }
	s := must(c.register(t.Context(), "gateway", gatewayKey(903), `{"node":903}`, 903, 4*time.Second, now))(t)
	reloads := 0
	s.Reload(func(ctx context.Context) error {
		if s.Alive() {
			t.Error("alive before it has reloaded")
		}
		if reloads++; reloads == 1 {
			return errors.New("not yet")
		}
		_, err := w.Refresh(ctx)
		return err
	})
	lost, lease := s.Lost(), s.Lease()
	if !s.Alive() || s.Deadline() > now()+s.TTL()-LeaseMargin(s.TTL()) {
		t.Errorf("deadline %v at %v", s.Deadline(), now())
	}
	if err := c.PutClusterVote(t.Context(), s, ClusterVote{Cluster: "x", Up: true}); err != nil {
		t.Fatal(err)
	}
	if v := must(c.ClusterVotes(t.Context(), "x"))(t); len(v) != 1 || v[0].Node != 903 {
		t.Errorf("votes %+v", v)
	}
	skew.Store(int64(5 * time.Second))
	if s.Alive() {
		t.Error("alive although its lease ran out during the suspend")
	}
	<-lost
	if err := s.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Lease() == lease || !s.Alive() || reloads != 2 {
		t.Error("no new lease")
	}
	snap := must(w.Refresh(t.Context()))(t)
	if g := snap.Gateway(903); g == nil || g.Lease != s.Lease() {
		t.Errorf("registered: %+v", g)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if must(w.Refresh(t.Context()))(t).Gateway(903) != nil {
		t.Error("still registered after Close")
	}
}

func TestCampaignWaitsForTheLeader(t *testing.T) {
	c := open(t)
	first := must(c.Campaign(t.Context(), "x", "1"))(t)
	won := make(chan *Leadership)
	go func() {
		l, err := c.Campaign(t.Context(), "x", "2")
		if err != nil {
			t.Error(err)
		}
		won <- l
	}()
	select {
	case <-won:
		t.Fatal("two leaders")
	default:
	}
	if err := first.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-first.Lost()
	second := <-won
	if first.Alive() || !second.Alive() || second.Fence().Revision <= first.Fence().Revision {
		t.Errorf("fences %+v, %+v", first.Fence(), second.Fence())
	}
	if err := second.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestClusterGuards(t *testing.T) {
	c := open(t)
	v := must(c.PutCluster(t.Context(), Cluster{Name: "guarded"}, Fence{}))(t)
	if _, err := c.PutCluster(t.Context(), Cluster{Name: "guarded"}, Fence{}); !errors.Is(err, ErrExists) {
		t.Errorf("second: %v", err)
	}
	v2 := must(c.PutCluster(t.Context(), v, Fence{}))(t)
	if _, err := c.PutCluster(t.Context(), v, Fence{}); !errors.Is(err, ErrConflict) {
		t.Errorf("old revision: %v", err)
	}
	if err := c.DeleteCluster(t.Context(), "guarded", v.Revision); !errors.Is(err, ErrConflict) {
		t.Errorf("delete at an old revision: %v", err)
	}
	if err := c.DeleteCluster(t.Context(), "guarded", v2.Revision); err != nil {
		t.Error(err)
	}
	if _, err := c.Cluster(t.Context(), "guarded"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}
