package chaintest

import (
	"context"
	"fmt"
	"sync"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// Fleet is a catalog with clusters, and moves topics between them as a
// controller does, by the same decisions.
type Fleet struct {
	Catalog *Catalog

	mu       sync.Mutex
	clusters map[string]*Cluster
	admin    map[string]*Store
	spans    int
}

// NewFleet makes a fleet of empty clusters.
func NewFleet(clusters ...string) *Fleet {
	f := &Fleet{Catalog: NewCatalog(), clusters: map[string]*Cluster{}, admin: map[string]*Store{}}
	for _, n := range clusters {
		f.clusters[n] = NewCluster(n)
		f.admin[n] = f.clusters[n].Client()
	}
	return f
}

// Cluster returns a cluster by name.
func (f *Fleet) Cluster(name string) *Cluster { return f.clusters[name] }

// Clients are one gateway's clients of all clusters: a [chain.Stores].
type Clients struct {
	stores map[string]*Store
}

// Clients makes clients for one gateway.
func (f *Fleet) Clients() *Clients {
	c := &Clients{stores: map[string]*Store{}}
	for n, cl := range f.clusters {
		c.stores[n] = cl.Client()
	}
	return c
}

// Store implements [chain.Stores].
func (c *Clients) Store(cluster string) (span.Store, error) {
	if s := c.stores[cluster]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("no cluster %s", cluster)
}

// Of is the client of one cluster.
func (c *Clients) Of(cluster string) *Store { return c.stores[cluster] }

// Close closes all clients.
func (c *Clients) Close() {
	for _, s := range c.stores {
		_ = s.Close() // never fails
	}
}

// Close closes the fleet's own clients.
func (f *Fleet) Close() {
	for _, s := range f.admin {
		_ = s.Close() // never fails
	}
}

func (f *Fleet) fresh(ctx context.Context, cluster string, partitions int32) (span.Topic, error) {
	f.mu.Lock()
	f.spans++
	name := fmt.Sprintf("braid.%d", f.spans)
	f.mu.Unlock()
	return f.admin[cluster].Create(ctx, span.Spec{Name: name, Partitions: partitions})
}

// CreateTopic makes a topic whose chains begin on a cluster.
func (f *Fleet) CreateTopic(ctx context.Context, name, cluster string, partitions int32) (catalog.ID, error) {
	t, err := f.fresh(ctx, cluster, partitions)
	if err != nil {
		return catalog.ID{}, err
	}
	var chains []catalog.Chain
	for i := range partitions {
		chains = append(chains, chain.New(f.clusters[cluster].Copy(t, i), 0, now()))
	}
	id := catalog.ID(t.ID)
	f.Catalog.Put(catalog.Topic{Tenant: catalog.DefaultTenant, Name: name, ID: id}, chains)
	return id, nil
}

// Move is a move under way, one step at a time.
type Move struct {
	f     *Fleet
	topic catalog.ID
	to    string
	old   span.Topic
	from  string
	fresh span.Topic
	ends  []span.End
	// Between is called after each step but the last, if set, with the step's name.
	Between func(step string)
}

// NewMove prepares a move: the fresh topic is there when it returns.
func (f *Fleet) NewMove(ctx context.Context, topic catalog.ID, to string) (*Move, error) {
	c := f.Catalog.Chain(topic, 0)
	s := chain.OpenSpan(&c)
	f.Catalog.mu.Lock()
	partitions := f.Catalog.topics[topic].topic.Partitions
	f.Catalog.mu.Unlock()
	t, err := f.fresh(ctx, to, partitions)
	if err != nil {
		return nil, err
	}
	return &Move{f: f, topic: topic, to: to, fresh: t, from: s.Copies[0].Cluster,
		old: span.Topic{Name: s.Copies[0].Topic, ID: s.Copies[0].TopicID}}, nil
}

// Seal seals the open copies.
func (m *Move) Seal(ctx context.Context) error {
	m.f.Catalog.SetExtend(m.topic, &catalog.Extend{Op: "move", Topic: catalog.TopicRef{ID: m.topic}, Step: catalog.StepSeal, Mode: catalog.ModeSeal,
		Old: []catalog.PhysicalTopic{{Cluster: m.from, Topic: m.old.Name, TopicID: m.old.ID}}})
	ends, err := m.f.admin[m.from].Seal(ctx, m.old)
	m.ends = ends
	return err
}

// TakeSealBack has the seal open the copies again before it has told an end: the extend
// stands, and seals once more.
func (m *Move) TakeSealBack() error {
	m.ends = nil
	return m.f.admin[m.from].TakeSealBack(m.old)
}

// Commit reads the producers' state and commits all chains.
func (m *Move) Commit(ctx context.Context) error {
	for i, end := range m.ends {
		err := m.f.Catalog.Change(m.topic, int32(i), func(c catalog.Chain) (catalog.Chain, error) { return m.extend(ctx, &c, int32(i), end) })
		if err != nil {
			return err
		}
	}
	m.f.Catalog.SetExtend(m.topic, nil)
	return nil
}

// extend makes the next version of one chain.
func (m *Move) extend(ctx context.Context, c *catalog.Chain, p int32, end span.End) (catalog.Chain, error) {
	cp := &chain.OpenSpan(c).Copies[0]
	before, err := m.f.Catalog.ProducersAt(chain.SealedState(c))
	if err != nil {
		return *c, err
	}
	log := m.f.admin[m.from].Log(m.old, p)
	fresh, err := log.Producers(ctx)
	log.Release()
	if err != nil {
		return *c, err
	}
	at := now()
	logical := chain.ToLogical(cp, end.End)
	state, err := chain.MergeProducers(before, fresh, chain.Merge{Copy: cp, End: logical, Now: at})
	if err != nil {
		return *c, err
	}
	return chain.Extend(c, chain.Extension{End: logical, MaxTimestamp: end.MaxTimestamp,
		Producers: m.f.Catalog.PutProducers(state), To: m.f.clusters[m.to].Copy(m.fresh, p), At: at})
}

// HideBatches makes the state that seals read lack offsets, as Kafka's does.
func (f *Fleet) HideBatches(hide bool) {
	for _, s := range f.admin {
		s.HideBatches(hide)
	}
}

// MoveTopic moves a topic in one go.
func (f *Fleet) MoveTopic(ctx context.Context, topic catalog.ID, to string) error {
	m, err := f.NewMove(ctx, topic, to)
	if err != nil {
		return err
	}
	if err := m.Seal(ctx); err != nil {
		return err
	}
	return m.Commit(ctx)
}

// Lose extends a topic's chains away from a cluster that is gone: the ends are
// what the catalog's last committed knowledge is (given per partition), with room.
func (f *Fleet) Lose(ctx context.Context, topic catalog.ID, to string, ends []int64, unreadable bool) error {
	t, err := f.fresh(ctx, to, int32(len(ends)))
	if err != nil {
		return err
	}
	for i, end := range ends {
		err := f.Catalog.Change(topic, int32(i), func(c catalog.Chain) (catalog.Chain, error) {
			before, err := f.Catalog.ProducersAt(chain.SealedState(&c))
			if err != nil {
				return c, err
			}
			at := now()
			state, err := chain.MergeProducers(before, nil, chain.Merge{Copy: &chain.OpenSpan(&c).Copies[0], End: end, Now: at, Lossy: true})
			if err != nil {
				return c, err
			}
			return chain.Extend(&c, chain.Extension{End: end, MaxTimestamp: -1, Producers: f.Catalog.PutProducers(state),
				To: f.clusters[to].Copy(t, int32(i)), Lossy: true, Room: chain.UnknownRoom, Unreadable: unreadable, At: at})
		})
		if err != nil {
			return err
		}
	}
	return nil
}
