package catalog

import (
	"errors"
	"testing"
	"time"
)

// die ends a session's goroutines as kill -9 does: nothing is given back.
func (s *Session) die() {
	s.stop()
	<-s.done
	l := s.current()
	l.cancel()
	<-l.done
}

// TestEndFormer: what a killed run left is free at once, long before its leases run out; what
// other processes have is theirs.
func TestEndFormer(t *testing.T) {
	c := open(t)
	const long = 10 * time.Minute
	run := func(process string, node int32) (*Session, *Session, Shard) {
		p := must(c.RegisterProcess(t.Context(), Process{ID: process}, long))(t)
		g := must(c.Register(t.Context(), Gateway{Node: node, Process: process}, long))(t)
		if err := c.PutClusterVote(t.Context(), g, ClusterVote{Cluster: "former", Up: true}); err != nil {
			t.Fatal(err)
		}
		return p, g, must(c.ClaimShard(t.Context(), g, node))(t)
	}
	p1, g1, shard := run("former-one", 7101)
	p2, g2, _ := run("former-two", 7102)
	lead := must(c.Campaign(t.Context(), "former", "former-one"))(t)
	other := must(c.Campaign(t.Context(), "former-other", "former-two"))(t)
	p1.die()
	g1.die()
	lead.lease.cancel()
	<-lead.lease.done

	if n := must(c.EndFormer(t.Context(), "former-one"))(t); n != 3 {
		t.Errorf("%d leases were ended, want those of process, gateway and leadership", n)
	}
	if who, err := c.Leader(t.Context(), "former"); !errors.Is(err, ErrNotFound) {
		t.Errorf("leader %q, %v; want none", who, err)
	}
	if who := must(c.Leader(t.Context(), "former-other"))(t); who != "former-two" || !other.Alive() {
		t.Errorf("the other leader is %q", who)
	}
	if v := must(c.ClusterVotes(t.Context(), "former"))(t); len(v) != 1 || v[0].Node != 7102 {
		t.Errorf("votes %+v", v)
	}
	w := watch(t, c, tenantOf(t))
	s := must(w.Refresh(t.Context()))(t)
	if s.Gateway(7101) != nil || s.Gateway(7102) == nil || s.Process("former-one") != nil || s.Process("former-two") == nil {
		t.Errorf("gateways %+v", s.Gateways())
	}
	// The shard goes to the next run, under a term that fences what the former one may have sent.
	g1 = must(c.Register(t.Context(), Gateway{Node: 7101, Process: "former-one"}, long))(t)
	again := must(c.ClaimShard(t.Context(), g1, 7101))(t)
	if again.Term <= shard.Term {
		t.Errorf("term %d after %d", again.Term, shard.Term)
	}
	if n := must(c.EndFormer(t.Context(), "nobody"))(t); n != 0 {
		t.Errorf("%d leases of nobody", n)
	}
	for _, s := range []*Session{g1, p2, g2} {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := other.Resign(t.Context()); err != nil {
		t.Error(err)
	}
}
