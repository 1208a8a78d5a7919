package coordinator

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// lateParticipants are clusters of which a test says what is held, and which partitions are added.
type lateParticipants struct {
	*killParticipants
	mu    sync.Mutex
	held  func(topic string) (int64, bool)
	add   func(topic string) error // before it is done
	added []string
	asked int // by Open
}

func (c *lateParticipants) Held(at *chain.Enlist) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return 0, false
	}
	return c.held(at.Physical.Name)
}

func (c *lateParticipants) Add(ctx context.Context, cluster string, x span.Transaction, topic string, partitions []int32, until time.Time) error {
	c.mu.Lock()
	c.added = append(c.added, topic)
	var err error
	if c.add != nil {
		err = c.add(topic)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.killParticipants.Add(ctx, cluster, x, topic, partitions, until)
}

func (c *lateParticipants) Open(ctx context.Context, cluster string, x span.Transaction) error {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	return c.killParticipants.Open(ctx, cluster, x)
}

func (c *lateParticipants) set(held func(topic string) (int64, bool), add func(topic string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held, c.add = held, add
}

func (c *lateParticipants) adds(topic string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.added {
		if a == topic {
			n++
		}
	}
	return n
}

type lateFleet struct {
	*memFleet
	clusters *lateParticipants
	producer int64
	epoch    int16
}

func newLateFleet(t *testing.T) (*lateFleet, *fleetMember) {
	f := &lateFleet{memFleet: newFleet(t, 1, Config{}), clusters: &lateParticipants{killParticipants: &killParticipants{newClusters(), nil}}}
	g := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	id := initTxn(g)
	f.producer, f.epoch = id.ProducerID, id.ProducerEpoch
	return f, g
}

func (f *lateFleet) join(node int32) *fleetMember {
	f.participants = f.clusters
	defer func() { f.participants = nil }()
	return f.memFleet.join(node)
}

func (f *lateFleet) enlist(ctx context.Context, g *fleetMember, topic string) wire.Code {
	_, code := g.c.EnlistLocal(ctx, &Enlist{Tenant: txnKey.tenant, ID: txnKey.group, Producer: f.producer, Epoch: f.epoch, Implicit: true,
		At: chain.Enlist{Topic: idOf(topic), Cluster: "x", Physical: span.Topic{Name: topic, ID: idOf(topic)}, Foreign: true}})
	return code
}

func (f *lateFleet) commit(g *fleetMember) wire.Code {
	_, _, code := g.c.endTxn(context.Background(), &endRequest{key: txnKey, producer: f.producer, epoch: f.epoch, commit: true, bump: true, fresh: noID})
	return code
}

// A place that is written down, and that the cluster never added, is not added by the question whether the part is open: its topic may
// have been sealed since, and the cluster would never get its marker written.
func TestCommitAddsNoPlace(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		f, g := newLateFleet(t)
		if code := f.enlist(t.Context(), g, "yyy"); code != wire.None {
			t.Fatal(code)
		}
		f.clusters.set(nil, func(string) error { return errFault })
		late := make([]string, 8) // on both sides of the other one, in any order
		for i := range late {
			late[i] = fmt.Sprint("late", i)
			if code := f.enlist(t.Context(), g, late[i]); code != wire.CoordinatorNotAvailable {
				t.Fatal(code)
			}
		}
		f.clusters.set(nil, nil)
		g.forgetAnswers()
		if takeover {
			g.freeze()
			g.expire()
			g = f.join(2)
			eventually(t, "taken over", func() bool { return f.ready(2) })
		}
		if code := f.commit(g); code != wire.None {
			t.Fatal(code)
		}
		for _, topic := range late {
			if n := f.clusters.adds(topic); n != 1 {
				t.Errorf("takeover %v: %s was added %d times", takeover, topic, n)
			}
		}
		if n := f.clusters.adds("yyy"); takeover && (n != 1 || f.clusters.asked != 1) || !takeover && n != 2 {
			t.Errorf("takeover %v: the place that is in it was added %d times, the part asked for %d times", takeover, n, f.clusters.asked)
		}
		g.stop()
	}
}

// Nobody knows which places are in a part, and the cluster has ended it.
func TestCommitAfterATakeoverFindsAPartThatHasEnded(t *testing.T) {
	f, g := newLateFleet(t)
	if code := f.enlist(t.Context(), g, "yyy"); code != wire.None {
		t.Fatal(code)
	}
	f.clusters.memClusters.mu.Lock()
	for _, x := range f.clusters.txns {
		x.epoch++
		x.aborts++
		x.state = "abort"
	}
	f.clusters.memClusters.mu.Unlock()
	g.freeze()
	g.expire()
	g = f.join(2)
	defer g.stop()
	eventually(t, "taken over", func() bool { return f.ready(2) })
	if code := f.commit(g); code != wire.TransactionAbortable {
		t.Error(code)
	}
}

// A topic is sealed while a request waits for its turn: what was true before that is asked again.
func TestTopicIsSealedWhileAnEnlistWaits(t *testing.T) {
	f, g := newLateFleet(t)
	defer g.stop()
	if code := f.enlist(t.Context(), g, "first"); code != wire.None {
		t.Fatal(code)
	}
	unlock, code := g.c.locks.take(t.Context(), txnKey)
	if code != wire.None {
		t.Fatal(code)
	}
	done := make(chan wire.Code, 1)
	go func() { done <- f.enlist(context.Background(), g, "sealed") }()
	eventually(t, "it waits", func() bool {
		l := &g.c.locks
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.held[txnKey].refs == 2
	})
	f.clusters.set(func(string) (int64, bool) { return 0, true }, nil)
	unlock()
	if code := <-done; code != wire.ReassignmentInProgress {
		t.Error(code)
	}
	if n := f.clusters.adds("sealed"); n != 0 {
		t.Errorf("it was added %d times", n)
	}
}

// A topic is sealed between the record of the place and the word to its cluster, or while the cluster is asked again.
func TestTopicIsSealedBeforeItIsAdded(t *testing.T) {
	for _, tries := range []int{0, 1, 3} {
		f, g := newLateFleet(t)
		if code := f.enlist(t.Context(), g, "first"); code != wire.None {
			t.Fatal(code)
		}
		asked := 0
		f.clusters.set(func(string) (int64, bool) { // once for the record, once before each try
			asked++
			return 0, asked > 1+tries
		}, func(string) error { return span.ErrTransactionLate })
		if code := f.enlist(t.Context(), g, "second"); code != wire.ReassignmentInProgress {
			t.Errorf("%d tries: %v", tries, code)
		}
		if n := f.clusters.adds("second"); n != tries {
			t.Errorf("it was added %d times, want %d", n, tries)
		}
		g.stop()
	}
}
