// Package gateway is the Kafka protocol server. A gateway is one broker of
// every tenant that it serves: clients see the live gateways as the brokers of
// one cluster, and any of them serves any partition.
//
// One file holds one API key and is headed by the versions that are served and
// by what differs from Apache Kafka. errors.go has the one table from errors to
// Kafka's codes. Nothing physical (names, addresses, ids and epochs of the
// clusters behind) is ever part of an answer.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/fair"
	"github.com/braidstream/braid/tenant/audit"
	"github.com/braidstream/braid/tenant/sasl"
	"github.com/braidstream/braid/tenant/usage"
)

// Options of [New]. Watcher, Logs, Coordinator, Admin, Users, Rules, Listeners and Node are required.
type Options struct {
	Watcher     *catalog.Watcher
	Logs        *chain.Logs
	Coordinator Coordinator
	Admin       TopicAdmin
	Rules       RuleAdmin
	Listeners   []ListenerConfig
	Node        int32 // broker id of this gateway
	Zone        string
	Config      Config
	Users       UserAdmin
	// Usage counts what tenants use; nil: a ledger of the gateway's own.
	Usage *usage.Ledger
	// Reporter is told what tenants use that have a budget or a limit. nil: nobody is, and budgets
	// are divided evenly.
	Reporter Reporter
	// Groups counts the groups of each tenant in the gateway's coordinator. nil: they are not told of.
	Groups func() map[string]int64
	// Refused is told, by listener, why changed certificates were not taken: all of them, each time one more or fewer
	// is. It is called again after an error. nil: nobody is told.
	Refused func(ctx context.Context, why map[string]string) error
	// SASL is needed where a listener has mechanisms.
	SASL    *sasl.Server
	Audit   *audit.Log // nil: nothing is written down
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: counted and not shown
}

// Gateway serves clients. New binds its listeners, Start serves them, Drain and
// Close end it.
type Gateway struct {
	opts        Options
	cfg         Config
	log         *slog.Logger
	watcher     *catalog.Watcher
	logs        *chain.Logs
	coordinator Coordinator
	admin       TopicAdmin
	rules       RuleAdmin

	apis         *apis
	metrics      *metrics
	topics       *topics
	fresh        freshness
	views        views
	access       access
	budget       byteBudget // requests of producers
	answers      byteBudget // records on their way to consumers
	arriving     byteBudget // large requests until they are whole, and those that are no producers' until they are done
	comings      comings
	nobody       usage.Account // holds what arrives on connections that are nobody's yet
	sessionSlots slots
	limiter      logLimiter
	penalties    *penalties
	shapes       shapes
	// work has requests take turns by tenant, signing handshakes and passwords by address.
	work, signing *fair.Gate
	usage         *usage.Ledger
	opening       openings
	divided       chan struct{} // one at most: budgets or shares of them changed
	revocations   chan struct{} // one at most: users or tenants changed

	// makingOffsets holds the tenants whose offsets topic is being made.
	makingOffsets sync.Map

	listeners []*listener
	unwatch   func()

	ctx     context.Context // of all work; ends with Close
	cancel  context.CancelFunc
	drained chan struct{} // closed when no new work is taken
	// undrained ends with drained, for calls that wait long.
	undrained context.Context
	stopWaits context.CancelFunc
	serving   sync.WaitGroup

	mu    sync.Mutex
	state state
	conns map[*conn]struct{}
	perIP map[string]int
	// unknown counts connections that are not authenticated and have to be.
	unknown     int
	unknownFrom map[netip.Prefix]map[*conn]struct{}
	keeping     sync.WaitGroup // of the goroutines that Start starts
}

type state int

const (
	created state = iota
	running
	draining
	closed
)

// New checks the options and binds all listeners. Clients that connect wait
// until Start.
func New(o Options) (*Gateway, error) {
	if o.Watcher == nil || o.Logs == nil || o.Coordinator == nil || o.Admin == nil || o.Users == nil || o.Rules == nil {
		return nil, errors.New("gateway needs a watcher, logs, a coordinator, a topic admin, users and rules")
	}
	if len(o.Listeners) == 0 {
		return nil, errors.New("gateway needs a listener")
	}
	if err := o.Config.Validate(); err != nil {
		return nil, fmt.Errorf("gateway config: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	g := &Gateway{
		opts: o, cfg: o.Config.withDefaults(), log: o.Logger,
		watcher: o.Watcher, logs: o.Logs, coordinator: o.Coordinator, admin: o.Admin, rules: o.Rules,
		apis:    newAPIs(),
		access:  access{always: o.Config.Authorizer},
		views:   views{by: map[viewKey]*view{}},
		drained: make(chan struct{}),
		conns:   map[*conn]struct{}{},
		perIP:   map[string]int{},

		divided:     make(chan struct{}, 1),
		revocations: make(chan struct{}, 1),
		unknownFrom: map[netip.Prefix]map[*conn]struct{}{},
	}
	if g.usage = o.Usage; g.usage == nil {
		g.usage = &usage.Ledger{}
	}
	g.access.node = func() int32 { return g.opts.Node }
	g.penalties = newPenalties(g.cfg.FailedAuthDelay, g.cfg.MaxFailedAuthDelay, g.cfg.AuthTimeout)
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.undrained, g.stopWaits = context.WithCancel(g.ctx)
	g.topics = newTopics(g)
	g.fresh.g = g
	g.work, g.signing = newTurns()
	g.budget = byteBudget{max: g.cfg.InflightBytes, shared: g.several, of: (*usage.Account).Taken}
	g.answers = byteBudget{max: max(1, g.cfg.InflightBytes/2), shared: g.several, of: (*usage.Account).Answering}
	g.arriving = byteBudget{max: g.cfg.ArrivingBytes, shared: func() bool { return g.several() || g.nobody.Arriving(0) > 0 },
		of: (*usage.Account).Arriving, hurry: g.hurry, patience: g.cfg.RoomPatience}
	g.comings.all = map[*coming]bool{}
	g.sessionSlots = newSlots(g.cfg.FetchSessions, g.cfg.SessionPartitions, g.several)
	names := map[string]bool{}
	for _, lc := range o.Listeners {
		err := lc.validate()
		if err == nil && names[lc.Name] {
			err = fmt.Errorf("listener %s is given twice", lc.Name)
		}
		if err == nil && len(lc.Mechanisms) > 0 && o.SASL == nil {
			err = fmt.Errorf("listener %s has mechanisms of SASL, and the gateway none", lc.Name)
		}
		var l *listener
		if err == nil {
			l, err = g.open(g.ctx, lc)
		}
		if err != nil {
			return nil, errors.Join(err, g.closeListeners())
		}
		names[lc.Name] = true
		l.self.node = o.Node
		g.listeners = append(g.listeners, l)
	}
	g.metrics = newMetrics(g, o.Metrics)
	return g, nil
}

// Addrs returns what each listener is bound to and advertises, in the order of
// the options. The owner of the gateway registers these in the catalog.
func (g *Gateway) Addrs() []Addr {
	out := make([]Addr, len(g.listeners))
	for i, l := range g.listeners {
		out[i] = Addr{Name: l.cfg.Name, Bound: l.nl.Addr().String(), Advertise: l.addr, Zone: l.self.rack}
	}
	return out
}

// Addr is an address of a running gateway.
type Addr struct {
	Name      string
	Bound     string // host:port
	Advertise string // host:port
	Zone      string
}

// Listeners are the addresses as the catalog keeps them.
func (g *Gateway) Listeners() []catalog.Listener {
	out := make([]catalog.Listener, len(g.listeners))
	for i, l := range g.listeners {
		out[i] = l.cfg.Record(l.addr)
	}
	return out
}

// SetNode sets the broker id, which may depend on the advertised address and so
// on what was bound. It has to come before Start.
func (g *Gateway) SetNode(node int32) {
	g.opts.Node = node
	for _, l := range g.listeners {
		l.self.node = node
	}
}

// Start begins to serve.
func (g *Gateway) Start() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != created {
		return errors.New("gateway was started before")
	}
	g.state = running
	g.unwatch = g.watcher.OnChange(g.onChange)
	g.keeping.Go(g.keepRevoking)
	g.keeping.Go(g.keepShares)
	if g.opts.Reporter != nil {
		g.keeping.Go(g.keepReporting)
	}
	if slices.ContainsFunc(g.listeners, func(l *listener) bool { return l.certs != nil }) {
		g.keeping.Go(g.keepCertificates)
	}
	for _, l := range g.listeners {
		go l.accept()
	}
	return nil
}

// Drain stops taking connections and requests, has those under way answered,
// and returns when all connections are closed or ctx ends.
func (g *Gateway) Drain(ctx context.Context) error {
	g.mu.Lock()
	if g.state == created || g.state == running {
		started := g.state == running
		g.state = draining
		close(g.drained)
		g.stopWaits()
		if !started {
			for _, l := range g.listeners {
				close(l.done)
			}
		}
	}
	conns := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	err := g.closeListeners()
	for _, c := range conns {
		c.drain()
	}
	idle := make(chan struct{})
	go func() {
		g.serving.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return err
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("drain: %w", ctx.Err()))
	}
}

// Close ends everything at once and waits for it; after Drain nothing is left
// to end. Appends under way end in the chain, their answers are dropped.
func (g *Gateway) Close() error {
	g.mu.Lock()
	was := g.state
	g.state = closed
	if was == created || was == running {
		close(g.drained)
		g.stopWaits()
	}
	conns := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		conns = append(conns, c)
	}
	g.mu.Unlock()
	if was == closed {
		return nil
	}
	err := g.closeListeners()
	g.cancel()
	for _, c := range conns {
		c.end(errClosed)
	}
	g.serving.Wait()
	g.keeping.Wait()
	if was != created {
		for _, l := range g.listeners {
			<-l.done
		}
	}
	if g.unwatch != nil {
		g.unwatch()
	}
	return err
}

func (g *Gateway) closeListeners() error {
	var errs []error
	for _, l := range g.listeners {
		if err := l.nl.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close listener %s: %w", l.cfg.Name, err))
		}
	}
	return errors.Join(errs...)
}

// tenantOf says whose connection it is before anybody has signed on.
func (g *Gateway) tenantOf(l *listener) string { return firstOf(l.cfg.Tenant, catalog.DefaultTenant) }
