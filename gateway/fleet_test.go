package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/kafka"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/tenant/audit"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/wire"
)

// fleet is a number of gateways over one local cluster: everything real but the
// topic admin.
type fleet struct {
	tb       testing.TB
	cat      *catalog.Catalog
	watcher  *catalog.Watcher
	store    span.Store
	other    span.Store // a second cluster, if the test has one
	admin    *testAdmin
	logs     []*chain.Logs
	gateways []*Gateway
	coords   []*coordinator.Coordinator
	sessions []*catalog.Session
	peers    nearPeers
}

// nearPeers are the coordinators of one process, which ask one another.
type nearPeers struct{ by sync.Map }

// Ask implements [coordinator.Peers].
func (p *nearPeers) Ask(ctx context.Context, node int32, req *coordinator.PeerRequest) (*coordinator.PeerResponse, error) {
	c, ok := p.by.Load(node)
	if !ok {
		return nil, fmt.Errorf("node %d is not there", node)
	}
	return c.(*coordinator.Coordinator).ServePeer(ctx, req), nil
}

type fleetOption func(*fleetConfig)

type fleetConfig struct {
	gateways  int
	config    Config
	listeners []ListenerConfig
	zones     []string
	logger    *slog.Logger
	kafka     []string      // bootstrap of the cluster behind; the local engine if nil
	rebalance time.Duration // group.initial.rebalance.delay.ms
	sasl      *sasl.Server
	beat      time.Duration // group.consumer.heartbeat.interval.ms
	audit     *audit.Log
	refused   func(context.Context, map[string]string) error // see Options
}

func gateways(n int) fleetOption { return func(c *fleetConfig) { c.gateways = n } }

// onKafka puts the fleet on a real Apache Kafka.
func onKafka(tb testing.TB) fleetOption {
	tb.Helper()
	addrs := testkit.Shared(tb).Addrs()
	return func(c *fleetConfig) { c.kafka = addrs }
}

func withConfig(f func(*Config)) fleetOption { return func(c *fleetConfig) { f(&c.config) } }

func newFleet(tb testing.TB, opts ...fleetOption) *fleet {
	tb.Helper()
	fc := fleetConfig{
		gateways:  1,
		config:    Config{ClusterID: "braid-test-cluster-0001", AutoCreateTopics: true},
		listeners: []ListenerConfig{{Name: "PLAIN", Bind: "127.0.0.1:0"}},
		logger:    quiet(),
		rebalance: -1,
	}
	for _, o := range opts {
		o(&fc)
	}
	dir, err := os.MkdirTemp("", "gateway-store")
	if err != nil {
		tb.Fatal(err)
	}
	f := &fleet{tb: tb, cat: freshCatalog(tb)}
	ctx := context.Background()
	if fc.kafka == nil {
		f.store, err = local.Open(local.Options{Dir: filepath.Join(dir, "a"), Name: "physical-a", Logger: quiet()})
	} else {
		f.store, err = kafka.Open(kafka.Options{Name: "physical-a", Bootstrap: fc.kafka, Logger: quiet()})
	}
	if err != nil {
		tb.Fatal(err)
	}
	if f.watcher, err = f.cat.Watch(ctx, catalog.Scope{}); err != nil {
		tb.Fatal(err)
	}
	f.admin = &testAdmin{f: f}
	tb.Cleanup(func() {
		f.watcher.Close()
		if err := f.store.Close(); err != nil {
			tb.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	for i := range fc.gateways {
		f.addGateway(fc, i)
	}
	f.watchUntil(func(s *catalog.Snapshot) bool { return len(s.Gateways()) == fc.gateways })
	return f
}

func (f *fleet) addGateway(fc fleetConfig, i int) {
	tb, ctx := f.tb, context.Background()
	tb.Helper()
	node := int32(i + 1)
	zone := ""
	if i < len(fc.zones) {
		zone = fc.zones[i]
	}
	logs := chain.NewLogs(chain.Options{Watcher: f.watcher, Catalog: f.cat, Stores: f, Node: node, Logger: fc.logger})
	var session *catalog.Session
	lazy := &lazyCoordinator{}
	g, err := New(Options{
		Watcher: f.watcher, Logs: logs, Coordinator: lazy, Admin: f.admin, Users: f.cat, SASL: fc.sasl, Audit: fc.audit, Refused: fc.refused,
		Rules: &rules.Store{Catalog: f.cat, Watcher: f.watcher, Logger: fc.logger}, Listeners: fc.listeners,
		Node: node, Zone: zone, Config: fc.config, Logger: fc.logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	session, err = f.cat.Register(ctx, catalog.Gateway{Node: node, Zone: zone, Listeners: g.Listeners(), Started: time.Now()}, patience)
	if err != nil {
		tb.Fatal(err)
	}
	coord, err := coordinator.New(coordinator.Options{
		Node: node, Leases: coordinator.CatalogLeases(f.cat, session), Directory: coordinator.CatalogDirectory(f.watcher),
		Logs: coordinator.ChainLogs(logs), EnsureTopic: f.admin.ensureCoordinatorTopic,
		Participants: coordinator.ChainParticipants(logs, 15*time.Minute), Fleet: f.cat.Fleet(), Peers: &f.peers,
		MayHaveGroup: func(tenant string, here int64) bool {
			return MayHaveGroup(f.watcher.Snapshot(), tenant, node, here, 0)
		},
		Config: coordinator.Config{InitialRebalanceDelay: fc.rebalance, ConsumerHeartbeatInterval: fc.beat}, Logger: fc.logger,
	})
	if err != nil {
		tb.Fatal(err)
	}
	f.peers.by.Store(node, coord)
	if err := coord.Start(); err != nil {
		tb.Fatal(err)
	}
	lazy.Coordinator = coord
	if err := g.Start(); err != nil {
		tb.Fatal(err)
	}
	f.logs, f.gateways, f.coords, f.sessions = append(f.logs, logs), append(f.gateways, g), append(f.coords, coord), append(f.sessions, session)
	tb.Cleanup(func() {
		if err := g.Close(); err != nil {
			tb.Error(err)
		}
		f.peers.by.Delete(node)
		if err := coord.Close(ctx); err != nil {
			tb.Error(err)
		}
		if err := session.Close(ctx); err != nil {
			tb.Error(err)
		}
		logs.Close()
	})
}

// lazyCoordinator is set after the gateway was bound: the coordinator needs a
// session, and that the addresses.
type lazyCoordinator struct{ Coordinator }

// Store makes the fleet chain.Stores.
func (f *fleet) Store(cluster string) (span.Store, error) {
	for _, s := range []span.Store{f.store, f.other} {
		if s != nil && s.Name() == cluster {
			return s, nil
		}
	}
	if cluster == "away" {
		return nil, span.ErrUnavailable
	}
	return nil, span.ErrGone
}

func (f *fleet) watchUntil(ok func(*catalog.Snapshot) bool) {
	f.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	changed := make(chan struct{}, 1)
	stop := f.watcher.OnChange(func(catalog.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	for !ok(f.watcher.Snapshot()) {
		select {
		case <-changed:
		case <-ctx.Done():
			f.tb.Fatal("catalog did not come to what was waited for")
		}
	}
}

// addr is the bootstrap address of a gateway.
func (f *fleet) addr(i int) string { return f.gateways[i].Addrs()[0].Advertise }

func (f *fleet) bootstrap() []string {
	var out []string
	for i := range f.gateways {
		out = append(out, f.addr(i))
	}
	return out
}

func (f *fleet) client(opts ...kgo.Opt) *kgo.Client {
	f.tb.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.bootstrap()...), kgo.RetryTimeout(patience),
		kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		f.tb.Fatal(err)
	}
	f.tb.Cleanup(cl.Close)
	return cl
}

// topic makes a topic.
func (f *fleet) topic(name string, partitions int32, config ...string) catalog.Topic {
	f.tb.Helper()
	spec := TopicSpec{Tenant: catalog.DefaultTenant, Name: name, Partitions: partitions, Config: map[string]string{}}
	for i := 0; i < len(config); i += 2 {
		spec.Config[config[i]] = config[i+1]
	}
	t, err := f.admin.CreateTopic(context.Background(), spec)
	if err != nil {
		f.tb.Fatal(err)
	}
	if _, err := f.watcher.Refresh(context.Background()); err != nil {
		f.tb.Fatal(err)
	}
	return t
}

// testAdmin is a small TopicAdmin over catalog and store.
type testAdmin struct {
	f  *fleet
	mu sync.Mutex
	// fail, when set, is what CreateTopic returns.
	fail error
	// onOther: topics are made on the second cluster.
	onOther bool
	// epoch of new spans; 0 is 7.
	epoch int32
}

func reject(code wire.Code, format string, args ...any) error {
	return &span.RejectedError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func (a *testAdmin) check(config map[string]string) error {
	for k := range config {
		known := false
		for _, key := range a.ConfigKeys() {
			known = known || key.Name == k
		}
		if !known {
			return reject(wire.InvalidConfig, "Unknown topic config name: %s", k)
		}
	}
	return nil
}

func (a *testAdmin) CreateTopic(ctx context.Context, spec TopicSpec) (catalog.Topic, error) {
	// The coordinators make their topic in the background, whatever the test is about.
	own := spec.Tenant != catalog.SystemTenant
	if own && a.fail != nil {
		return catalog.Topic{}, a.fail
	}
	if own {
		if err := a.check(spec.Config); err != nil {
			return catalog.Topic{}, err
		}
	}
	t := catalog.Topic{Tenant: spec.Tenant, Name: spec.Name, Partitions: spec.Partitions, Config: spec.Config}
	if spec.ValidateOnly {
		return t, nil
	}
	store := a.f.store
	if own && a.onOther {
		store = a.f.other
	}
	physical, err := store.Create(ctx, span.Spec{Name: "physical." + catalog.RandomName(10), Partitions: spec.Partitions, Config: map[string]string{"max.message.bytes": "104857600"}})
	if err != nil {
		return t, err
	}
	chains := make([]catalog.Chain, spec.Partitions)
	epoch := int32(7)
	if own {
		epoch = cmp.Or(a.epoch, epoch)
	}
	for i := range chains {
		chains[i] = catalog.Chain{NextSeq: 1, Spans: []catalog.Span{{
			End: catalog.Open, Epoch: epoch, MaxTimestamp: -1, Opened: time.Now(),
			Copies: []catalog.Copy{{Cluster: store.Name(), Topic: physical.Name, TopicID: physical.ID, Partition: int32(i), Map: []catalog.Piece{{}}}},
		}}}
	}
	t, err = a.f.cat.CreateTopic(ctx, t, chains)
	if errors.Is(err, catalog.ErrExists) {
		return t, reject(wire.TopicAlreadyExists, "Topic '%s' already exists.", spec.Name)
	}
	return t, err
}

func (a *testAdmin) DeleteTopic(ctx context.Context, tenant string, id catalog.ID) error {
	s, err := a.f.watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	t := s.TopicByID(id)
	if t == nil {
		return catalog.ErrNotFound
	}
	marked, err := a.f.cat.MarkDeleting(ctx, *t)
	if err != nil {
		return err
	}
	return a.f.cat.RemoveTopic(ctx, marked, catalog.Fence{})
}

func (a *testAdmin) GrowTopic(ctx context.Context, spec GrowSpec) error {
	s, err := a.f.watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	t := s.TopicByName(spec.Tenant, spec.Name)
	if t == nil {
		return catalog.ErrNotFound
	}
	if spec.ValidateOnly {
		return nil
	}
	first := s.Chains(t.ID)[0].Spans[0].Copies[0]
	st, err := a.f.Store(first.Cluster)
	if err != nil {
		return err
	}
	if err := st.AddPartitions(ctx, span.Topic{Name: first.Topic, ID: first.TopicID}, spec.Total); err != nil {
		return err
	}
	var fresh []catalog.Chain
	for p := t.Partitions; p < spec.Total; p++ {
		fresh = append(fresh, catalog.Chain{NextSeq: 1, Spans: []catalog.Span{{
			End: catalog.Open, Epoch: 7, MaxTimestamp: -1, Opened: time.Now(),
			Copies: []catalog.Copy{{Cluster: first.Cluster, Topic: first.Topic, TopicID: first.TopicID, Partition: p, Map: []catalog.Piece{{}}}},
		}}})
	}
	_, err = a.f.cat.GrowTopic(ctx, *t, fresh)
	return err
}

func (a *testAdmin) AlterConfig(ctx context.Context, alter ConfigAlter) error {
	s, err := a.f.watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	old := s.TopicByName(alter.Tenant, alter.Name)
	if old == nil {
		return reject(wire.UnknownTopicOrPartition, "no such topic")
	}
	t := *old
	config := map[string]string{}
	if !alter.Replace {
		for k, v := range t.Config {
			config[k] = v
		}
	}
	for _, c := range alter.Changes {
		switch c.Op {
		case ConfigSet:
			config[c.Key] = c.Value
		case ConfigDelete:
			delete(config, c.Key)
		default:
			return reject(wire.InvalidConfig, "%s is no list", c.Key)
		}
	}
	if err := a.check(config); err != nil || alter.ValidateOnly {
		return err
	}
	t.Config = config
	_, err = a.f.cat.UpdateTopic(ctx, t)
	return err
}

func (a *testAdmin) AlterGroupConfig(ctx context.Context, alter ConfigAlter) error {
	s, err := a.f.watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	g := catalog.GroupConfig{Tenant: alter.Tenant, Group: alter.Name}
	if old := s.GroupConfig(alter.Tenant, alter.Name); old != nil {
		g = *old
	}
	next, err := ApplyGroupConfig(g.Config, &alter)
	if err != nil || alter.ValidateOnly {
		return err
	}
	g.Config = next
	return a.f.cat.PutGroupConfig(ctx, g)
}

func (a *testAdmin) ConfigKeys() []ConfigKey {
	return []ConfigKey{
		{Name: "cleanup.policy", Type: ConfigList, Default: "delete", Broker: "log.cleanup.policy", Doc: "What to do with old records."},
		{Name: "max.message.bytes", Type: ConfigInt, Default: "1048588", Broker: "message.max.bytes", Doc: "The largest batch."},
		{Name: "message.timestamp.after.max.ms", Type: ConfigLong, Default: "3600000", Broker: "log.message.timestamp.after.max.ms"},
		{Name: "message.timestamp.before.max.ms", Type: ConfigLong, Default: "9223372036854775807", Broker: "log.message.timestamp.before.max.ms"},
		{Name: "message.timestamp.type", Type: ConfigString, Default: "CreateTime"},
		{Name: "retention.ms", Type: ConfigLong, Default: "604800000", Broker: "log.retention.ms"},
		{Name: "secret.thing", Type: ConfigPassword, Default: "", Sensitive: true},
	}
}

func (a *testAdmin) ensureCoordinatorTopic(ctx context.Context) (catalog.Topic, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, err := a.f.watcher.Refresh(ctx)
	if err != nil {
		return catalog.Topic{}, err
	}
	if t := s.TopicByName(catalog.SystemTenant, coordinator.TopicName); t != nil {
		return *t, nil
	}
	t, err := a.CreateTopic(ctx, TopicSpec{Tenant: catalog.SystemTenant, Name: coordinator.TopicName, Partitions: 4, Config: coordinator.TopicConfig()})
	if err != nil {
		return t, err
	}
	_, err = a.f.watcher.Refresh(ctx)
	return t, err
}

// awaitGroups waits until every shard of the coordinators answers.
func (f *fleet) awaitGroups() {
	f.tb.Helper()
	f.watchUntil(func(s *catalog.Snapshot) bool {
		ready := 0
		for sh := range s.Shards() {
			if sh.Ready {
				ready++
			}
		}
		return ready == 4
	})
}

func (f *fleet) deleteTopic(name string) {
	f.tb.Helper()
	ctx := context.Background()
	t := f.watcher.Snapshot().TopicByName(catalog.DefaultTenant, name)
	if t == nil {
		f.tb.Fatalf("no topic %s", name)
	}
	if err := f.admin.DeleteTopic(ctx, catalog.DefaultTenant, t.ID); err != nil {
		f.tb.Fatal(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		f.tb.Fatal(err)
	}
}

// leave takes a gateway out of the fleet as its process does.
func (f *fleet) leave(ctx context.Context, i int) {
	f.tb.Helper()
	leaving := *f.watcher.Snapshot().Gateway(f.sessions[i].Node())
	leaving.Draining = true
	if err := f.sessions[i].Update(ctx, leaving); err != nil {
		f.tb.Error(err)
	}
	if _, err := f.watcher.Refresh(ctx); err != nil {
		f.tb.Error(err)
	}
	if err := f.coords[i].Close(ctx); err != nil {
		f.tb.Error(err)
	}
	if err := f.gateways[i].Drain(ctx); err != nil {
		f.tb.Error(err)
	}
	if err := f.sessions[i].Close(ctx); err != nil {
		f.tb.Error(err)
	}
}
