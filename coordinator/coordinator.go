// Package coordinator holds the coordinators of groups and of transactions, and
// hands out producer ids.
//
// Groups and transactional ids are spread over shards. A shard is a deterministic state machine
// ([machine]: no I/O, no clock, no randomness of its own) that one gateway owns
// under a lease; its log is one partition of an internal topic, which is a
// chain like any other. Whatever an answer promises is in the log before the
// answer goes out, so the next owner replays the log and goes on.
package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// TopicName is the internal topic, of tenant [catalog.SystemTenant]. It has one
// partition for each shard.
const TopicName = "__braid_coordinator"

// DefaultShards is how many shards a new internal topic gets.
const DefaultShards = 50

// Key types of [Coordinator.Owner], those of FindCoordinator.
const (
	KeyGroup       = int8(0)
	KeyTransaction = int8(1)
)

// Caller is on whose behalf a request is served.
type Caller struct {
	Tenant     string
	ClientID   string
	ClientHost string // as Kafka shows it: "/10.0.0.1"
	// Visible tells whether a topic may be told of; nil: every one. An expression
	// that the caller subscribes to matches no others.
	Visible func(topic string) bool
}

// Options of [New]. Leases, Directory, Logs and EnsureTopic are required.
type Options struct {
	Node      int32 // of this gateway
	Leases    Leases
	Directory Directory
	Logs      Logs
	// EnsureTopic returns the internal topic and creates it if there is none, with
	// [TopicConfig]. It is called until it succeeds.
	EnsureTopic func(ctx context.Context) (catalog.Topic, error)
	// Participants end the parts of transactions. nil: no transactions.
	Participants Participants
	// Peers reach the coordinators of other gateways. nil: there are none.
	Peers   Peers
	Fleet   string // in the names of transactions on other clusters
	Config  Config
	Clock   Clock        // nil: the machine's
	Logger  *slog.Logger // nil: slog.Default
	Metrics prometheus.Registerer
	// Report tells operators of a committed transaction a part of which was aborted. nil: nobody.
	Report func(ctx context.Context, t catalog.Torn) error
	// Fault is called at each fault point; an error ends there what is being done. nil: none.
	Fault func(point string) error
	// MayHaveGroup tells whether a tenant that has so many groups on this gateway may have one
	// more; requests that would make it get POLICY_VIOLATION otherwise. nil: always.
	MayHaveGroup func(tenant string, here int64) bool
	// MostHeld is how many bytes groups and transactional ids of a tenant may hold on this gateway: config, which is
	// Config.MaxTenantBytes, unless the tenant has a limit of its own; nil: config.
	MostHeld func(tenant string, config int64) int64
}

// Coordinator is this gateway's part of the coordinators. All methods may be
// called concurrently. Requests for a shard that is not this gateway's get
// NOT_COORDINATOR, those for one that is being replayed COORDINATOR_LOAD_IN_PROGRESS.
type Coordinator struct {
	node      int32
	leases    Leases
	directory Directory
	logs      Logs
	ensure    func(ctx context.Context) (catalog.Topic, error)
	config    Config
	clock     Clock
	logger    *slog.Logger
	metrics   *metrics
	ids       idBlock

	participants Participants
	peers        Peers
	fleet        string
	report       func(ctx context.Context, t catalog.Torn) error
	fault        func(point string) error
	locks        txnLocks
	counts       groupCounts
	txnCounts    groupCounts
	held         groupCounts // bytes
	room         func(tenant string, here int64) bool
	most         func(tenant string, config int64) int64
	settlers     settlers

	mu     sync.RWMutex // before shard.mu
	topic  catalog.Topic
	shards map[int32]*shard // those that are owned, or on their way
	closed bool

	keeper keeper

	refreshMu sync.Mutex
	refreshed time.Time // when the directory was last made to catch up

	versionMu sync.Mutex
	versions  map[string]uint64 // by tenant: how often its topics changed
}

// topicVersion changes with the tenant's topics.
func (c *Coordinator) topicVersion(tenant string) uint64 {
	c.versionMu.Lock()
	defer c.versionMu.Unlock()
	return c.versions[tenant] + 1
}

// topicsChanged is called when the directory shows the change already.
func (c *Coordinator) topicsChanged(tenants []string) {
	c.versionMu.Lock()
	defer c.versionMu.Unlock()
	for _, tenant := range tenants {
		c.versions[tenant]++
	}
}

// New makes a coordinator; Start makes it work.
func New(o Options) (*Coordinator, error) {
	if err := o.Config.Validate(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = systemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	c := &Coordinator{
		node:      o.Node,
		leases:    o.Leases,
		directory: o.Directory,
		logs:      o.Logs,
		ensure:    o.EnsureTopic,
		config:    o.Config.withDefaults(),
		clock:     o.Clock,
		logger:    o.Logger,
		shards:    map[int32]*shard{},
		versions:  map[string]uint64{},

		participants: o.Participants,
		peers:        o.Peers,
		fleet:        o.Fleet,
		report:       o.Report,
		fault:        o.Fault,
		room:         o.MayHaveGroup,
		most:         o.MostHeld,
	}
	c.settlers.busy, c.settlers.writing = map[groupKey]chan struct{}{}, map[groupKey]chan struct{}{}
	c.settlers.looks = make(chan struct{}, looksAtOnce)
	c.settlers.ctx, c.settlers.stop = context.WithCancel(context.Background())
	c.metrics = newMetrics(c, o.Metrics)
	c.ids.size = c.config.ProducerIDBlock
	c.ids.take = o.Leases.ProducerIDs
	return c, nil
}

// Owner tells which gateway serves a key. ok is false while nobody does; clients
// are told COORDINATOR_NOT_AVAILABLE then.
func (c *Coordinator) Owner(tenant string, keyType int8, key string) (node int32, ok bool) {
	if keyType != KeyGroup && keyType != KeyTransaction {
		return -1, false
	}
	number, ok := c.number(tenant, key)
	if !ok {
		return -1, false
	}
	s, ok := c.directory.Shard(number)
	if !ok {
		return -1, false
	}
	return s.Node, true
}

// number is the shard of a key; false until the internal topic is known.
func (c *Coordinator) number(tenant, key string) (int32, bool) {
	c.mu.RLock()
	n := c.topic.Partitions
	c.mu.RUnlock()
	if n == 0 {
		return 0, false
	}
	if (groupKey{tenant, key}).isRedo() {
		return redoShard(key)
	}
	return shardOf(tenant, key, n), true
}

// within runs fn in the state machine that holds the group. If it cannot, it
// returns why, and fn is not run.
func (c *Coordinator) within(tenant, group string, fn func(m *machine)) wire.Code {
	number, ok := c.number(tenant, group)
	if !ok {
		return wire.CoordinatorNotAvailable
	}
	c.mu.RLock()
	s := c.shards[number]
	c.mu.RUnlock()
	if s == nil {
		return wire.NotCoordinator
	}
	return s.do(fn)
}

// owned lists the shards that this gateway has.
func (c *Coordinator) owned() []*shard {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]*shard, 0, len(c.shards))
	for _, s := range c.shards {
		all = append(all, s)
	}
	return all
}

// await turns an answer by callback into one by return. The callback may still
// come after ctx ended; nobody sees it then.
func await[T any](ctx context.Context, start func(done func(T)), gaveUp func() T) T {
	ch := make(chan T, 1)
	start(func(v T) { ch <- v })
	select {
	case v := <-ch:
		return v
	default:
	}
	select {
	case v := <-ch:
		return v
	case <-ctx.Done():
		return gaveUp()
	}
}

// JoinGroup answers JoinGroup, versions 0 to 9. It blocks while the group
// rebalances; [Coordinator.JoinGroupAsync] does not.
func (c *Coordinator) JoinGroup(ctx context.Context, caller Caller, req *kmsg.JoinGroupRequest) *kmsg.JoinGroupResponse {
	return await(ctx,
		func(done func(*kmsg.JoinGroupResponse)) { c.JoinGroupAsync(caller, req, done) },
		func() *kmsg.JoinGroupResponse { return joinError(req, req.MemberID, wire.RequestTimedOut) })
}

// SyncGroup answers SyncGroup, versions 0 to 5. It blocks until the leader has
// sent the assignments; [Coordinator.SyncGroupAsync] does not.
func (c *Coordinator) SyncGroup(ctx context.Context, caller Caller, req *kmsg.SyncGroupRequest) *kmsg.SyncGroupResponse {
	return await(ctx,
		func(done func(*kmsg.SyncGroupResponse)) { c.SyncGroupAsync(caller, req, done) },
		func() *kmsg.SyncGroupResponse { return syncError(req, wire.RequestTimedOut) })
}
