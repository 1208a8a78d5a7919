package coordinator

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// memFleet is a catalog and logs in memory for several gateways.
type memFleet struct {
	t    testing.TB
	logs []*memLog

	mu           sync.Mutex
	revision     int64
	gateways     []int32
	shards       map[int32]catalog.Shard
	terms        map[int32]int64
	holds        map[int32]bool // shards that are not empty
	topics       map[string]catalog.Topic
	subs         map[int]func(Change)
	nextSub      int
	nextID       int64
	config       Config
	open         func(node int32) func(catalog.Topic, int32) (Log, error) // instead of logs
	participants Participants
	report       func(context.Context, catalog.Torn) error
	kill         *killer // of the next gateway to join
}

func newFleet(t testing.TB, shards int, config Config) *memFleet {
	config.CommitTimeout = cmp.Or(config.CommitTimeout, patience) // a log in memory is slow only when the machine is
	f := &memFleet{
		t: t, shards: map[int32]catalog.Shard{}, terms: map[int32]int64{}, holds: map[int32]bool{}, topics: map[string]catalog.Topic{}, subs: map[int]func(Change){},
		nextID: catalog.ProducerIDBase, config: config,
	}
	for range shards {
		f.logs = append(f.logs, &memLog{producers: map[int64]memProducer{}})
	}
	f.topic("topic", 8)
	return f
}

func (f *memFleet) topic(name string, partitions int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.topics[name] = catalog.Topic{Tenant: "default", Name: name, ID: idOf(name), Partitions: partitions}
}

// change runs fn under the lock and tells everybody.
func (f *memFleet) change(ch Change, fn func()) {
	f.mu.Lock()
	fn()
	f.revision++
	var all []func(Change)
	for _, s := range f.subs {
		all = append(all, s)
	}
	f.mu.Unlock()
	for _, s := range all {
		s(ch)
	}
}

// member is one gateway of the fleet; it is Leases and Directory.
type fleetMember struct {
	*memFleet
	node int32
	c    *Coordinator

	lease sync.Mutex
	dead  bool
	id    int64 // of the lease
	kill  *killer
	opens func(catalog.Topic, int32) (Log, error)
}

func (f *memFleet) join(node int32) *fleetMember {
	f.t.Helper()
	g := &fleetMember{memFleet: f, node: node}
	if f.open != nil {
		g.opens = f.open(node)
	}
	if g.kill, f.kill = f.kill, nil; g.kill != nil {
		g.kill.g = g
	}
	c, err := New(Options{
		Node: node, Leases: g, Directory: g, Logs: g, Config: f.config, Logger: quiet(), Participants: f.participants, Report: f.report,
		EnsureTopic: func(context.Context) (catalog.Topic, error) {
			return catalog.Topic{Tenant: catalog.SystemTenant, Name: TopicName, Partitions: int32(len(f.logs))}, nil
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	g.c = c
	f.change(Change{Owners: true}, func() {
		f.gateways = append(f.gateways, node)
		slices.Sort(f.gateways)
	})
	if err := c.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(g.stop)
	return g
}

// stop ends it cleanly, and then its registration.
func (g *fleetMember) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.c.Close(ctx); err != nil {
		g.t.Errorf("close of gateway %d: %v", g.node, err)
	}
	g.expire()
}

// freeze is SIGSTOP and a lease that ran out: it still believes in its shards,
// but may not answer.
func (g *fleetMember) freeze() {
	g.lease.Lock()
	g.dead = true
	g.lease.Unlock()
}

// expire is the end of the lease in the catalog.
func (g *fleetMember) expire() {
	g.change(Change{Owners: true}, func() {
		g.gateways = slices.DeleteFunc(g.gateways, func(n int32) bool { return n == g.node })
		for n, s := range g.shards {
			if s.Node == g.node {
				delete(g.shards, n)
			}
		}
	})
}

// renew is a new lease after the end of the former one.
func (g *fleetMember) renew() {
	g.lease.Lock()
	g.dead = false
	g.id++
	g.lease.Unlock()
	g.change(Change{Owners: true}, func() {
		g.gateways = append(g.gateways, g.node)
		slices.Sort(g.gateways)
	})
}

func (g *fleetMember) Lease() int64 {
	g.lease.Lock()
	defer g.lease.Unlock()
	return g.id
}

func (g *fleetMember) Alive(lease int64) bool {
	g.lease.Lock()
	defer g.lease.Unlock()
	return !g.dead && g.id == lease
}

func (g *fleetMember) ClaimShard(ctx context.Context, number int32) (s catalog.Shard, err error) {
	if !g.kill.step(func() { s, err = g.claim(number) }) {
		return s, catalog.ErrUnavailable
	}
	return s, err
}

func (g *fleetMember) claim(number int32) (s catalog.Shard, err error) {
	if !g.Alive(g.Lease()) {
		return s, catalog.ErrSessionLost
	}
	g.change(Change{Owners: true}, func() {
		if _, ok := g.shards[number]; ok {
			err = catalog.ErrExists
			return
		}
		g.terms[number]++
		s = catalog.Shard{Number: number, Node: g.node, Term: g.terms[number], Empty: !g.holds[number], Revision: g.revision + 1}
		g.shards[number] = s
	})
	return s, err
}

func (g *fleetMember) SetShardReady(_ context.Context, s catalog.Shard) (out catalog.Shard, err error) {
	if !g.kill.step(func() { out, err = g.setReady(s) }) {
		return out, catalog.ErrUnavailable
	}
	return out, err
}

func (g *fleetMember) setReady(s catalog.Shard) (out catalog.Shard, err error) {
	g.change(Change{Owners: true}, func() {
		if g.shards[s.Number].Revision != s.Revision {
			err = catalog.ErrConflict
			return
		}
		s.Ready, s.Revision = true, g.revision+1
		g.shards[s.Number] = s
	})
	return s, err
}

func (g *fleetMember) SetShardHolds(_ context.Context, s catalog.Shard) (err error) {
	if !g.kill.step(func() { err = g.setHolds(s) }) {
		return catalog.ErrUnavailable
	}
	return err
}

func (g *fleetMember) setHolds(s catalog.Shard) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.terms[s.Number] != s.Term {
		return catalog.ErrConflict
	}
	g.holds[s.Number] = true
	return nil
}

func (g *fleetMember) ReleaseShard(_ context.Context, s catalog.Shard) error {
	g.change(Change{Owners: true}, func() {
		if g.shards[s.Number].Revision == s.Revision {
			delete(g.shards, s.Number)
		}
	})
	return nil
}

func (g *fleetMember) ProducerIDs(_ context.Context, n int64) ([]int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = g.nextID + int64(i)
	}
	g.nextID += n
	return ids, nil
}

func (g *fleetMember) Revision() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.revision
}

func (g *fleetMember) Gateways() []int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.gateways)
}

func (g *fleetMember) Shard(number int32) (catalog.Shard, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.shards[number]
	return s, ok
}

func (g *fleetMember) TopicByName(tenant, name string) (catalog.Topic, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.topics[name]
	return t, ok && t.Tenant == tenant
}

func (g *fleetMember) TopicByID(id catalog.ID) (catalog.Topic, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.topics {
		if t.ID == id {
			return t, true
		}
	}
	return catalog.Topic{}, false
}

func (g *fleetMember) TopicNames(tenant string, yield func(string) bool) {
	g.mu.Lock()
	var names []string
	for name, t := range g.topics {
		if t.Tenant == tenant {
			names = append(names, name)
		}
	}
	g.mu.Unlock()
	for _, name := range names {
		if !yield(name) {
			return
		}
	}
}

func (g *fleetMember) GroupConfig(string, string) map[string]string { return nil }

func (g *fleetMember) Refresh(context.Context) error { return nil }

func (g *fleetMember) OnChange(fn func(Change)) func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := g.nextSub
	g.nextSub++
	g.subs[id] = fn
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.subs, id)
	}
}

func (g *fleetMember) Open(t catalog.Topic, partition int32) (Log, error) {
	if g.opens != nil {
		return g.opens(t, partition)
	}
	if g.kill != nil {
		return killLog{g.kill, g.logs[partition]}, nil
	}
	return g.logs[partition], nil
}

// patience is how long tests wait for what must happen: on a machine that has much else to do.
const patience = 5 * time.Minute

// eventually waits until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-tick.C
	}
}

// ready tells whether every shard is served by one of the gateways.
func (f *memFleet) ready(nodes ...int32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.shards) != len(f.logs) {
		return false
	}
	for n, s := range f.shards {
		if !s.Ready || preferred(n, nodes) != s.Node {
			return false
		}
	}
	return true
}
