package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// losing are clusters of which y ends its transactions and loses their markers.
type losing struct {
	*killParticipants
	timeout bool // and has ended them by itself
	fails   int  // ends that it does not hear first
	denied  bool // and lets nobody write them

	at       sync.Mutex
	lost     map[string]bool // by cluster, producer and epoch
	written  []bool          // commit or abort
	partsOf  []span.PartPlace
	attempts int
	hold     bool // and is not done with the markers
}

func (c *losing) Written(context.Context, string, span.Transaction) error {
	c.at.Lock()
	defer c.at.Unlock()
	if c.hold {
		return span.ErrTransactionPending
	}
	return nil
}

func (c *losing) End(ctx context.Context, cluster string, x span.Transaction, commit bool) (span.Transaction, error) {
	c.at.Lock()
	defer c.at.Unlock()
	if cluster == "y" && c.fails > 0 {
		c.fails--
		return span.Transaction{}, errFault
	}
	next, err := c.killParticipants.End(ctx, cluster, x, commit)
	if cluster != "y" || err != nil && !errors.Is(err, ErrParticipantEnded) {
		return next, err
	}
	key := recordsKey(cluster, x.Producer, x.Epoch)
	if c.lost[key] = true; len(c.written) == 0 {
		c.mu.Lock()
		delete(c.ended, key)
		c.mu.Unlock()
	}
	if err == nil && c.timeout {
		return span.Transaction{}, ErrParticipantEnded
	}
	return next, err
}

func (c *losing) EndHanging(_ context.Context, cluster string, x span.Transaction, at []span.PartPlace, commit bool) (int, error) {
	c.at.Lock()
	defer c.at.Unlock()
	key := recordsKey(cluster, x.Producer, x.Epoch)
	if !c.lost[key] {
		return 0, nil
	}
	if c.attempts++; c.denied {
		return 0, span.ErrDenied
	}
	delete(c.lost, key)
	c.written, c.partsOf = append(c.written, commit), append(c.partsOf, at...)
	c.mu.Lock()
	c.ended[key] = commit
	c.mu.Unlock()
	return 1, nil
}

// A cluster ends its part and loses the markers. They are written as was decided, before the transaction is complete: by the
// owner that did not hear of the end at first, by the one that takes over, and where the cluster has ended the part by itself.
func TestLostMarkersAreWrittenAsDecided(t *testing.T) {
	for _, tc := range []struct {
		name   string
		commit bool
		fails  int
		torn   bool
		own    bool // the cluster's timeout has aborted it
		taken  bool // the owner dies between decision and end
	}{
		{name: "told again", commit: true, fails: 1},
		{name: "told again, an abort", fails: 1},
		{name: "taken over", commit: true, taken: true},
		{name: "aborted by its own timeout", own: true},
		{name: "a commit that its own timeout has aborted", commit: true, torn: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet(t, 1, Config{})
			clusters := newClusters()
			if tc.torn {
				clusters.tear["y"] = 1
			}
			c := &losing{killParticipants: &killParticipants{clusters, nil}, timeout: tc.own, fails: tc.fails, lost: map[string]bool{}}
			f.participants = c
			g := f.join(1)
			if tc.taken {
				g.c.fault = func(point string) error {
					if point == FaultTxnDecided {
						return errFault
					}
					return nil
				}
			}
			eventually(t, "served", func() bool { return f.ready(1) })
			if code := runTxn(t, g, &killer{}, tc.commit); code != wire.None {
				t.Fatal(code)
			}
			if tc.taken {
				g.freeze()
				g.expire()
				g = f.join(2)
				defer g.stop()
				eventually(t, "taken over", func() bool { return f.ready(2) })
			}
			eventually(t, "the id is free", func() bool { return wire.Code(initTxn(g).ErrorCode) == wire.None })
			c.at.Lock()
			if !slices.Equal(c.written, []bool{tc.commit}) || len(c.partsOf) != 1 || c.partsOf[0].Topic.Name != "py" {
				t.Errorf("written %v in %+v", c.written, c.partsOf)
			}
			c.at.Unlock()
			var want []string
			if tc.commit {
				want = []string{"record 0", "record 1"}
			}
			if x, y := clusters.committed("x"), clusters.committed("y"); !slices.Equal(x, want) || !slices.Equal(y, want) {
				t.Errorf("x holds %q, y %q", x, y)
			}
		})
	}
}

// Markers are lost of a transaction that was answered, and its id goes on before anybody has seen that. The next owner of the
// shard finds what is missing, whether the id goes on or rests; and no new incarnation of its producer is let in before.
func TestLostMarkersOfAnAnsweredTransaction(t *testing.T) {
	for _, then := range []string{"rests", "goes on", "is decided"} {
		t.Run("the id "+then, func(t *testing.T) {
			f := newFleet(t, 1, Config{SnapshotBytes: 700})
			clusters := newClusters()
			c := &losing{killParticipants: &killParticipants{clusters, nil}, lost: map[string]bool{}, hold: true}
			f.participants = c
			g := f.join(1)
			eventually(t, "served", func() bool { return f.ready(1) })
			if code := runTxn(t, g, &killer{}, true); code != wire.None {
				t.Fatal(code)
			}
			var producer int64
			var epoch int16
			look := func(m *machine) { producer, epoch = m.txns[txnKey].producer, m.txns[txnKey].epoch }
			if code := g.c.within(txnKey.tenant, txnKey.group, look); code != wire.None {
				t.Fatal(code)
			}
			if then != "rests" {
				_, code := g.c.EnlistLocal(t.Context(), &Enlist{Tenant: txnKey.tenant, ID: txnKey.group, Producer: producer, Epoch: epoch, Implicit: true,
					At: chain.Enlist{Topic: idOf("topic"), Partition: 1, Cluster: "x", Physical: span.Topic{Name: "px", ID: idOf("px")}, Foreign: true}})
				if code != wire.None {
					t.Fatal(code)
				}
			}
			if then == "is decided" {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go g.c.endTxn(ctx, &endRequest{key: txnKey, producer: producer, epoch: epoch, commit: true, bump: true, fresh: noID})
				eventually(t, "its cluster has decided it", func() bool {
					clusters.mu.Lock()
					defer clusters.mu.Unlock()
					n := 0
					for _, x := range clusters.txns {
						n += x.commits
					}
					return n == 3
				})
			}
			g.freeze()
			g.expire()
			g = f.join(2)
			defer g.stop()
			eventually(t, "taken over", func() bool { return f.ready(2) })
			if code := wire.Code(initTxn(g).ErrorCode); code != wire.ConcurrentTransactions {
				t.Errorf("a new incarnation while markers are to come: %v", code)
			}
			c.at.Lock()
			c.hold = false
			c.at.Unlock()
			eventually(t, "the id is free", func() bool { return wire.Code(initTxn(g).ErrorCode) == wire.None })
			c.at.Lock()
			defer c.at.Unlock()
			if !slices.Equal(c.written, []bool{true}) || len(c.partsOf) != 1 || c.partsOf[0].Topic.Name != "py" {
				t.Errorf("written %v in %+v", c.written, c.partsOf)
			}
		})
	}
}

// Without the right operators are told, and nobody waits for the markers any more.
func TestLostMarkersThatCannotBeWrittenAreReported(t *testing.T) {
	var reports []catalog.Torn
	l := &losing{killParticipants: &killParticipants{newClusters(), nil}, denied: true, lost: map[string]bool{recordsKey("y", 7, 1): true}}
	f := newFleet(t, 1, Config{})
	c, err := New(Options{Node: 1, Leases: &fleetMember{memFleet: f}, Directory: &fleetMember{memFleet: f}, Logger: quiet(), Participants: l,
		Report: func(_ context.Context, r catalog.Torn) error { reports = append(reports, r); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	p := &participant{cluster: "y", id: "there", producer: 7, epoch: 1}
	was := &former{producer: 5, commit: true, participants: []participant{*p}}
	err = c.partWritten(t.Context(), txnKey, was, p, &ending{doubt: true})
	if !errors.Is(err, errHanging) || !errors.Is(err, span.ErrDenied) || l.attempts != 1 || len(l.written) != 0 {
		t.Fatalf("%v, %d attempts, %v written", err, l.attempts, l.written)
	}
	c.reportLate(t.Context(), txnKey, was, p, err)
	if len(reports) != 1 || reports[0].State != catalog.TornHanging || reports[0].Cluster != "y" || reports[0].Producer != 5 {
		t.Fatalf("reports %+v", reports)
	}
	c.reportLate(t.Context(), txnKey, was, p, span.ErrTransactionPending)
	c.reportLate(t.Context(), txnKey, was, p, span.ErrUnavailable)
	if len(reports) != 1 {
		t.Errorf("reports %+v", reports)
	}
}

// tornLog are partitions of one part, by physical topic: C committed, A aborted, O open.
type tornLog struct {
	*losing
	state map[string]byte
}

func (c *tornLog) Find(_ context.Context, at chain.PartCopy, _ span.Transaction) (chain.Part, error) {
	s := c.state[at.Physical.Name]
	return chain.Part{Copy: at, Batches: 1, Records: 1, Whole: true, Ended: s != 'O', Committed: s == 'C'}, nil
}

func (c *tornLog) EndHanging(_ context.Context, _ string, _ span.Transaction, at []span.PartPlace, commit bool) (n int, err error) {
	for _, p := range at {
		if c.state[p.Topic.Name] == 'O' {
			n++
			c.state[p.Topic.Name] = map[bool]byte{true: 'C', false: 'A'}[commit]
		}
	}
	return n, nil
}

// Of a part that its cluster has aborted in some partitions, and lost the marker in others, those are appended anew
// that were aborted: the others are committed where they are.
func TestOnlyWhatWasAbortedIsAppendedAnew(t *testing.T) {
	for _, tc := range []struct {
		states    string
		committed bool
		parts     int
	}{
		{"AA", false, 2},
		{"CC", true, 0},
		{"OO", true, 0},
		{"AO", false, 1},
		{"OA", false, 1},
		{"CO", true, 0},
	} {
		t.Run(tc.states, func(t *testing.T) {
			f := newFleet(t, 1, Config{})
			l := &tornLog{&losing{killParticipants: &killParticipants{newClusters(), nil}}, map[string]byte{"p0": tc.states[0], "p1": tc.states[1]}}
			c, err := New(Options{Node: 1, Leases: &fleetMember{memFleet: f}, Directory: &fleetMember{memFleet: f}, Logger: quiet(), Participants: l})
			if err != nil {
				t.Fatal(err)
			}
			s := &settling{transaction: &transaction{state: txnPrepareCommit, key: groupKey{"default", "pay"}, parts: map[partKey]*txnPart{}}}
			for i, name := range []string{"p0", "p1"} {
				s.parts[partKey{idOf("topic"), int32(i)}] = &txnPart{places: []place{{cluster: "y", topic: name, id: idOf(name), foreign: true}}}
			}
			p := &participant{cluster: "y", id: "there", producer: 7, epoch: 1}
			parts, committed, err := c.findTorn(t.Context(), s, p, &catalog.Torn{})
			if open := slices.Contains([]byte(tc.states), 'O'); open != errors.Is(err, errRedo) {
				t.Fatal(err)
			} else if open {
				parts, committed, err = c.findTorn(t.Context(), s, p, &catalog.Torn{})
			}
			if err != nil || committed != tc.committed || len(parts) != tc.parts {
				t.Errorf("%d parts, committed %v, %v", len(parts), committed, err)
			}
		})
	}
}
